"""api: what `import fovsfe` offers, and that docs/python-api.md is true."""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import s3fs
from PIL import Image

import fovsfe
from fovsfe import api
from fovsfe.bundle.predictor import Predictor
from fovsfe.photos.decode import decode

RECIPE = """
[split]
holdout = 0.5

[training]
stages = [0]
head_epochs = 1
precision = "fp32"

[[members]]
backbone = "test_resnet"
size = [48, 64]
"""
PAGE = Path(__file__).parent.parent / "docs" / "python-api.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clouds: Callable[..., Image.Image]) -> Path:
    """A folder with photos of two labels in `photos`, and a recipe that trains on them in seconds."""
    root = tmp_path_factory.mktemp("api")
    for index in range(12):
        file = root / "photos" / ("Ford", "Ferrari")[index % 2] / f"{index:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        clouds(index).save(file)
    (root / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> fovsfe.TrainedRun:
    out = folder / "run"
    return fovsfe.train(folder / "photos", recipe=str(folder / "tiny.toml"), weights="none", out=out)


@pytest.fixture(scope="module")
def model(run: fovsfe.TrainedRun) -> fovsfe.Model:
    return run.model()


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return sorted((folder / "photos").rglob("*.jpg"))


# ---- what is loaded


def _modules_after(code: str) -> set[str]:
    """Runs code in a new process, and returns the names of the modules that are then loaded."""
    code += "\nimport sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def test_importing_fovsfe_loads_next_to_nothing() -> None:
    loaded = _modules_after("import fovsfe; fovsfe.FovsfeError; fovsfe.__version__")
    assert not loaded & {"torch", "pandas", "numpy", "onnxruntime", "PIL", "pydantic", "typer", "rich"}


def test_predictions_need_no_training_library(run: fovsfe.TrainedRun, files: list[Path]) -> None:
    loaded = _modules_after(f"import fovsfe; fovsfe.load({str(run.path)!r})({str(files[0])!r}).heatmap()")
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "pandas", "scipy", "sklearn", "timm"}


def test_what_is_missing_says_how_to_install_it(run: fovsfe.TrainedRun, folder: Path) -> None:
    for library, call, extra in [
        ("onnxruntime", f"fovsfe.load({str(run.path)!r})", "serve"),
        ("torch", f"fovsfe.train({str(folder / 'photos')!r})", "train"),
        ("pandas", f"fovsfe.check({str(folder / 'photos')!r})", "train"),
        ("pandas", f"fovsfe.TrainedRun({str(run.path)!r}).mistakes()", "train"),
    ]:
        code = (
            f"import sys, fovsfe; sys.modules[{library!r}] = None\n"
            f"try: {call}\nexcept fovsfe.FovsfeError as error: print(error)"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ended.stdout == f"{library} is not installed: pip install 'fovsfe[{extra}]'\n"


def test_names_that_there_are_not() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = fovsfe.nothing
    assert set(dir(fovsfe)) >= {"train", "load", "check", "Model", "Answer", "TrainedRun", "FovsfeError"}


# ---- predictions


def test_a_photo_in_every_form_has_one_answer(model: fovsfe.Model, files: list[Path], bucket: str) -> None:
    file = files[0]
    s3fs.S3FileSystem().put(str(file), f"{bucket}/photo.jpg")
    expected = model(file)
    assert expected.label in model.classes_
    for same in (str(file), file.as_uri(), f"{bucket}/photo.jpg", file.read_bytes()):
        assert np.array_equal(model(same).probabilities, expected.probabilities)
    # decoded at full size and not at a half, as a JPEG may be that is larger than the networks need
    pixels = decode(file.read_bytes())
    for alike in (Image.open(file), Image.fromarray(pixels), pixels):
        assert model(alike).probabilities == pytest.approx(expected.probabilities, abs=0.02)
    assert np.array_equal(model(Image.open(file)).probabilities, model(pixels).probabilities)


def test_pil_images_are_turned_upright_and_put_on_white(model: fovsfe.Model, files: list[Path]) -> None:
    image = Image.open(files[0]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    of_bytes, of_image = model(stream.getvalue()), model(Image.open(io.BytesIO(stream.getvalue())))
    assert np.array_equal(of_bytes.probabilities, of_image.probabilities)


def test_an_answer(model: fovsfe.Model, files: list[Path]) -> None:
    answer = model(files[0])
    assert answer.probabilities.dtype == np.float64
    assert answer.probabilities.sum() == pytest.approx(1)
    assert answer.label == model.classes_[answer.probabilities.argmax()]
    assert answer.probability == answer.probabilities.max()
    assert isinstance(answer.known, bool)
    top = answer.top()
    assert top[0] == (answer.label, answer.probability)
    assert [label for label, _ in top] == [model.classes_[i] for i in np.argsort(-answer.probabilities)]
    assert answer.top(1) == top[:1]
    assert repr(answer) == (
        f"Answer(label={answer.label!r}, probability={answer.probability!r}, known={answer.known!r})"
    )


def test_a_heat_map_lies_over_the_photo(model: fovsfe.Model, files: list[Path]) -> None:
    for photo in (files[0], files[0].read_bytes(), Image.open(files[0])):
        answer = model(photo)
        picture = answer.heatmap()
        assert picture is not None
        assert (picture.mode, picture.size) == ("RGB", Image.open(files[0]).size)
        assert not np.array_equal(np.asarray(picture), decode(files[0].read_bytes()))
    assert replace(answer, _prediction=replace(answer._prediction, cams=(None,))).heatmap() is None


def test_a_heat_map_of_a_photo_that_is_gone(model: fovsfe.Model, files: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(files[0], tmp_path))
    answer = model(copy)
    copy.unlink()
    with pytest.raises(fovsfe.FovsfeError, match="cannot read the photo again"):
        answer.heatmap()


def test_many_photos(model: fovsfe.Model, files: list[Path]) -> None:
    answers = model(files)
    assert len(answers) == len(files)
    probabilities = model.predict_proba(files)
    assert (probabilities.shape, probabilities.dtype) == ((len(files), 2), np.float64)
    assert np.array_equal(probabilities, np.stack([answer.probabilities for answer in answers]))
    assert model.predict(files).tolist() == [answer.label for answer in answers]
    assert np.array_equal(model.predict_proba(file for file in files), probabilities)
    assert np.array_equal(model.predict_proba(files[0]), probabilities[:1])
    stacked = np.stack([decode(file.read_bytes()) for file in files[:3]])
    assert [answer.label for answer in model(stacked)] == [model(photo).label for photo in stacked]
    assert model([]) == []
    assert model.predict_proba([]).shape == (0, 2)
    assert model.predict([]).shape == (0,)


def test_a_model_knows_its_labels_and_figures(model: fovsfe.Model, run: fovsfe.TrainedRun) -> None:
    assert model.classes_.tolist() == ["Ferrari", "Ford"]
    assert model.metrics["accuracy"] == run.metrics["selected"]["accuracy"]
    assert model.metrics["interval"] == run.metrics["selected"]["interval"]


@pytest.mark.parametrize(
    ("photo", "name", "fault"),
    [
        ("nowhere.jpg", "nowhere.jpg", "No such file"),
        (Path("nowhere.jpg"), "nowhere.jpg", "No such file"),
        (b"no photo", "photo 1", "not an image"),
        (b"", "photo 1", "empty"),
        (np.zeros((4, 4), np.uint8), "photo 1", ""),
        (np.zeros((4, 4, 3), np.float32), "photo 1", ""),
        (Image.new("RGB", (0, 0)), "photo 1", ""),
    ],
)
def test_a_bad_photo_is_named(
    model: fovsfe.Model, files: list[Path], photo: Any, name: str, fault: str
) -> None:
    with pytest.raises(fovsfe.FovsfeError, match=f"^{re.escape(name)}: .*{fault}"):
        model([files[0], photo])


def test_what_cannot_be_loaded(tmp_path: Path, run: fovsfe.TrainedRun) -> None:
    with pytest.raises(fovsfe.FovsfeError, match="no bundle at"):
        fovsfe.load(tmp_path)
    copy = shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("bundle"))
    with pytest.raises(fovsfe.FovsfeError, match="fovsfe resume"):
        fovsfe.load(copy)


# ---- runs


def test_a_run_has_its_figures_and_tables(run: fovsfe.TrainedRun, folder: Path) -> None:
    assert run.path == folder / "run"
    predictions, mistakes = run.predictions(), run.mistakes()
    columns = ["id", "path", "label", "predicted", "probability", "p_label", "fold"]
    assert list(predictions.columns) == list(mistakes.columns) == columns
    assert len(predictions) == 6
    right = predictions["label"] == predictions["predicted"]
    assert run.metrics["selected"]["accuracy"] == pytest.approx(right.mean())
    assert set(mistakes["id"]) == set(predictions["id"][~right])
    assert mistakes["probability"].is_monotonic_decreasing


def test_a_run_and_its_model_at_a_url(
    run: fovsfe.TrainedRun, model: fovsfe.Model, files: list[Path], bucket: str
) -> None:
    s3fs.S3FileSystem().put(str(run.path), f"{bucket}/run", recursive=True)
    there = fovsfe.TrainedRun(f"{bucket}/run")
    assert str(there.path) == f"{bucket}/run"
    assert there.metrics == run.metrics
    with pytest.raises(fovsfe.FovsfeError, match=r"has no metrics\.json"):
        _ = fovsfe.TrainedRun(f"{bucket}/nothing").metrics
    pd.testing.assert_frame_equal(there.predictions(), run.predictions())
    for location in (f"{bucket}/run", f"{bucket}/run/bundle"):
        assert np.array_equal(fovsfe.load(location).predict_proba(files[:2]), model.predict_proba(files[:2]))


def test_what_train_passes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovsfe import pipeline, recipe

    calls: list[Any] = []
    monkeypatch.setattr(pipeline, "train", lambda *arguments: calls.append(arguments))
    monkeypatch.chdir(folder)
    changes = {"training.epochs": 3, "training.stages": [0, 0.5], "photos.resize_mode": "crop", "seed": 4}
    changes |= {"about": {"title": "Cars"}, "members.0.batch_size": None}
    trained = fovsfe.train(
        "photos", 2, "quick", weights="none", changes=changes, cluster="local", licence="any"
    )
    assert trained == fovsfe.TrainedRun("runs/photos-quick")
    ((settings, arguments, location, _, cluster, group),) = calls
    assert group is None  # no launcher has started this process
    texts = ["training.epochs=3", "training.stages=[0, 0.5]", 'photos.resize_mode="crop"', "seed=4"]
    expected = recipe.parse_changes([*texts, 'about={title = "Cars"}', "licence=any"])
    assert settings == recipe.load_recipe("quick", expected)
    assert settings.about.title == "Cars"
    assert (arguments.photos, arguments.weights) == (str(folder / "photos"), "none")
    assert arguments.minutes == 2
    assert (location, cluster) == ("runs/photos-quick", "local")


def test_another_process_of_a_launcher_ends_when_its_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from fovsfe import launcher, pipeline

    @contextmanager
    def other_process() -> Iterator[None]:
        raise SystemExit(0)
        yield

    monkeypatch.setattr(launcher, "first_process", other_process)
    monkeypatch.setattr(pipeline, "train", lambda *arguments: pytest.fail("only the first process trains"))
    with pytest.raises(SystemExit) as leaving:
        fovsfe.train("photos", weights="none")
    assert leaving.value.code == 0


def test_what_cannot_be_trained(run: fovsfe.TrainedRun, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(fovsfe.FovsfeError, match="is not empty"):
        fovsfe.train(folder / "photos", recipe=str(folder / "tiny.toml"), out=run.path)
    with pytest.raises(fovsfe.FovsfeError, match="quik"):
        fovsfe.train(folder / "photos", recipe="quik", out=tmp_path / "run")
    with pytest.raises(fovsfe.FovsfeError, match="nowhere"):
        fovsfe.train(tmp_path / "nowhere", recipe="quick", weights="none", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_check(folder: Path, tmp_path: Path) -> None:
    photos = shutil.copytree(folder / "photos", tmp_path / "photos")
    shutil.copy(photos / "Ford" / "00.jpg", photos / "Ferrari" / "copy.jpg")
    findings = fovsfe.check(photos)
    (kind,) = set(findings["kind"][findings["severity"] == "error"])
    assert kind == "two labels"
    rows = findings[findings["kind"] == kind]
    assert set(rows["id"]) == {"Ford/00.jpg", "Ferrari/copy.jpg"}
    columns = ["finding", "severity", "kind", "detail", "id", "path", "split", "label", "width", "height"]
    assert list(findings.columns) == columns
    with pytest.raises(fovsfe.FovsfeError, match="nowhere"):
        fovsfe.check(tmp_path / "nowhere")


# ---- documentation


def test_the_examples_of_the_documentation_run(
    folder: Path, clouds: Callable[..., Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are, but that `fovsfe.train` takes the tiny recipe and no weights from the hub."""
    shutil.copytree(folder / "photos", tmp_path / "photos")
    clouds(1).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    train = fovsfe.train
    tiny = {"recipe": str(folder / "tiny.toml"), "weights": "none"}
    monkeypatch.setattr(api, "train", lambda photos, **options: train(photos, **{**options, **tiny}))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert (tmp_path / "heatmap.jpg").exists()
    assert len(names["probabilities"]) == 12


def test_everything_public_is_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in set(fovsfe.__all__) - {"__version__", "Photo", "Model"}:
        assert f"fovsfe.{name}" in text
    for kind in (fovsfe.Answer, fovsfe.TrainedRun, fovsfe.Model):
        for name in vars(kind):
            if not name.startswith("_") and name != "location":
                assert f"{name}" in text, f"{kind.__name__}.{name}"
    assert isinstance(fovsfe.Model.__call__.__doc__, str)
    assert Predictor.__doc__
