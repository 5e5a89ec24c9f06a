"""A run becomes a bundle of all members or of one, in 32 bits or fewer."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fovsfe.bundle import quantize
from fovsfe.bundle.format import QuantizationKind, load_bundle
from fovsfe.bundle.predictor import Predictor
from fovsfe.bundle.run_export import (
    RunSource,
    choose_examples,
    export_run,
    read_translations,
    require_negatives,
)
from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import Blend
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json, write_text
from fovsfe.photos.decode import decode_to_size
from fovsfe.photos.manifest import read_facts, read_manifest, write_facts, write_manifest
from fovsfe.recipe import load_recipe, to_toml
from fovsfe.run import Run

NAMES = ("Волга", "Нива", "Ока")


def test_the_selected_blend(run: Run, made: Any, tmp_path: Path) -> None:
    bundle = export_run(RunSource.read(run), tmp_path / "bundle")
    assert bundle == load_bundle(tmp_path / "bundle")
    assert bundle.class_names == NAMES
    assert bundle.blend == made.blend
    assert bundle.tta == ("plain", "flip")
    assert [len(member.networks) for member in bundle.members] == [2, 2]
    assert bundle.metrics["accuracy"] == read_json(run.metrics_file)["selected"]["accuracy"]
    assert set(bundle.metrics["members"]) == set(made.blend.members)
    assert bundle.parity.photos == 8 and bundle.parity.greatest_difference < 1e-5
    card = (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    assert "41 labelled photos" in card and "unreadable: 1 time" in card and "on 2 folds" in card
    assert "/mine" not in card + (tmp_path / "bundle" / "bundle.json").read_text(encoding="utf-8")


def test_it_predicts_what_the_networks_did(run: Run, tmp_path: Path) -> None:
    """Both networks of small are the same, so that its out-of-fold predictions are the bundle's."""
    export_run(RunSource.read(run), tmp_path / "bundle", member="small")
    predictor = Predictor(tmp_path / "bundle", threads=1)
    saved = predictions.read_predictions(run.member_folder(1, "small") / "out_of_fold.csv")
    photos = Path(read_json(run.arguments_file)["photos"])
    resized = [predictor.prepare((photos / name).read_bytes()) for name in saved.index]
    exported = predictor.member_probabilities(resized, ("plain", "flip"))[0]
    np.testing.assert_allclose(exported, saved.to_numpy(), atol=1e-5)


def test_a_member_alone_is_calibrated_for_itself(run: Run, made: Any, tmp_path: Path) -> None:
    bundle = export_run(RunSource.read(run), tmp_path / "bundle", member="test_resnet")
    assert [member.name for member in bundle.members] == ["test_resnet"]
    assert bundle.blend.name == "test_resnet"
    assert set(bundle.metrics["members"]) == {"test_resnet"}
    assert bundle.metrics["accuracy"] == bundle.metrics["members"]["test_resnet"]["accuracy"] == 0.9
    plain = Blend(kind="mean", members=("test_resnet",))
    if bundle.blend.temperature != 1:  # kept only where it lowers the log loss
        assert bundle.metrics["log_loss"] < bundle.metrics["members"]["test_resnet"]["log_loss"]
    else:
        assert bundle.blend == plain


def test_the_licences_of_the_weights_are_told(run: Run, tmp_path: Path) -> None:
    source = RunSource.read(run)
    from_hub = source.arguments.model_copy(update={"weights": "hub"})
    bundle = export_run(replace(source, arguments=from_hub), tmp_path / "bundle")
    licences = {member.backbone: "apache-2.0" for member in bundle.members}
    assert bundle.metrics["training"]["licences"] == licences
    card = (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    assert all(f"- Pretrained weights of {name}: apache-2.0" in card for name in licences)


@pytest.fixture
def refitted(run: Run, made: Any, tmp_path: Path) -> Run:
    """The same run, but test_resnet's backbone is frozen and its head refitted."""
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "refitted")))
    changes = {"members.0.stages": [0]}
    write_text(copy.recipe_file, to_toml(load_recipe(str(copy.recipe_file), changes)))
    network = made.networks["test_resnet"][0]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state["head.bias"] += torch.tensor([0.5, -0.5, 1.0])
    save_file(state, copy.fold_folder(1, "test_resnet", 0) / "refitted.safetensors")
    return copy


def test_a_refitted_member_has_one_network(refitted: Run, tmp_path: Path, made: Any) -> None:
    bundle = export_run(RunSource.read(refitted), tmp_path / "bundle")
    assert {member.name: len(member.networks) for member in bundle.members} == {"small": 2, "test_resnet": 1}
    assert bundle.parity.greatest_difference < 1e-5
    photo = made.photos[0]
    export_run(RunSource.read(refitted), tmp_path / "alone", member="test_resnet")
    predictor = Predictor(tmp_path / "alone", threads=1)
    exported = predictor.member_probabilities([predictor.prepare(photo)], ("plain",))[0]
    pixels = torch.from_numpy(decode_to_size(photo, (64, 96), "pad")[None])
    with torch.no_grad():
        logits = made.networks["test_resnet"][0](pixels) + torch.tensor([0.5, -0.5, 1.0])
    np.testing.assert_allclose(exported, logits.softmax(-1), atol=1e-4)


def test_what_is_quantized_are_the_networks_of_the_folds(refitted: Run, tmp_path: Path) -> None:
    """On the photos that they have not seen it is measured what that costs."""
    bundle = export_run(RunSource.read(refitted), tmp_path / "bundle", quantization="fp16")
    assert [len(member.networks) for member in bundle.members] == [2, 2]


def test_a_second_round_has_the_networks_of_the_folds(refitted: Run, tmp_path: Path) -> None:
    write_text(refitted.recipe_file, to_toml(load_recipe(str(refitted.recipe_file), {"rounds": 2})))
    bundle = export_run(RunSource.read(refitted), tmp_path / "bundle")
    assert [len(member.networks) for member in bundle.members] == [2, 2]


@pytest.fixture
def int8_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine says of the tiniest networks."""
    monkeypatch.setattr(quantize, "median_seconds", lambda sessions, photos: np.array([2.0, 1.0]))


def test_8_bits_that_are_not_faster_here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "MARGIN", 0.1)
    monkeypatch.setattr(quantize, "median_seconds", lambda sessions, photos: np.array([0.02, 0.02]))
    with pytest.raises(FovsfeError, match=r"at int8 .* ms: they are not faster.* --precision") as caught:
        export_run(RunSource.read(run), tmp_path / "bundle", quantization="int8")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_networks_are_timed_in_turn_and_the_first_run_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], list[str]()
    monkeypatch.setattr(quantize.time, "process_time", lambda: clock[0])

    def session(name: str, seconds: float) -> quantize.GraphSession:
        def run(photos: np.ndarray) -> list[np.ndarray]:
            clock[0] += seconds if name in calls else 100.0
            calls.append(name)
            return []

        return run

    photos = np.zeros((1, 8, 8, 3), np.uint8)
    found = quantize.median_seconds([session("slow", 2.0), session("fast", 1.0)], photos)
    np.testing.assert_allclose(found, [2.0, 1.0])
    assert calls == ["slow", "fast"] * (quantize.TIMED_RUNS + 1)


@pytest.mark.usefixtures("int8_is_faster")
def test_in_8_bits(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "MARGIN", 0.1)  # one of 40 photos is more than the margin of users
    whole, small = (
        export_run(RunSource.read(run), tmp_path / name, quantization=name) for name in ("fp32", "int8")
    )
    assert (whole.quantization.kind, small.quantization.kind) == ("fp32", "int8")
    check = small.quantization.check
    assert check.photos == 40
    assert check.after >= check.before - check.margin
    size = [sum(f.stat().st_size for f in (tmp_path / n / "members").iterdir()) for n in ("fp32", "int8")]
    assert size[1] < 0.45 * size[0]
    assert whole.parity.greatest_difference < small.parity.greatest_difference < 0.5
    assert small.parity.agreement >= 0.75
    photo = next(Path(read_json(run.arguments_file)["photos"]).glob("*/00.jpg")).read_bytes()
    first, second = (Predictor(tmp_path / name, threads=1).predict([photo])[0] for name in ("fp32", "int8"))
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=0.3)
    assert "compute in 8 bits" in (tmp_path / "int8" / "card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "apart"), [("fp16", 5e-3), ("bf16", 5e-2)])
def test_in_16_bits(run: Run, tmp_path: Path, kind: QuantizationKind, apart: float) -> None:
    """Half the size; and what is rounded to so many bits says the same, nearly."""
    whole, small = (
        export_run(RunSource.read(run), tmp_path / name, quantization=name) for name in ("fp32", kind)
    )
    assert small.quantization.kind == kind
    size = [sum(f.stat().st_size for f in (tmp_path / n / "members").iterdir()) for n in ("fp32", kind)]
    assert size[1] < 0.55 * size[0]
    assert whole.parity.greatest_difference < small.parity.greatest_difference < apart
    assert small.parity.agreement == 1
    assert "weights in 16 bits" in (tmp_path / kind / "card.md").read_text(encoding="utf-8")


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    values = np.array([1, -1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3e38], np.float32)
    bits = quantize._as_bfloat16(values).astype(np.uint32) << 16
    rounded = bits.view(np.float32).tolist()
    assert rounded[:5] == [1, -1, 1, 1 + 2**-6, 1 + 2**-7]
    assert rounded[5] == pytest.approx(3e38, rel=2**-8)


def test_8_bits_that_cost_too_much(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "MARGIN", -1.0)
    with pytest.raises(FovsfeError, match=r"at int8 .* of 40 held-out photos.* --precision") as caught:
        export_run(RunSource.read(run), tmp_path / "bundle", quantization="int8")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("int8_is_faster")
@pytest.mark.parametrize("quantization", ["fp32", "fp16", "int8"])
def test_strangers_are_told_by_the_features_of_the_networks_that_are_served(
    run: Run, tmp_path: Path, quantization: QuantizationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "MARGIN", 0.1)
    bundle = export_run(RunSource.read(run), tmp_path / "bundle", quantization=quantization)
    assert bundle.strangers is not None and bundle.label_sets is not None
    photos = sorted(Path(read_json(run.arguments_file)["photos"]).glob("*/[!9]?.jpg"))
    predictions = Predictor(tmp_path / "bundle", threads=1).predict(file.read_bytes() for file in photos)
    assert np.mean([each.known for each in predictions]) > 0.8
    strangers, sets = bundle.metrics["strangers"], bundle.metrics["label_sets"]
    assert strangers["withheld"]["photos"] == round(40 * bundle.metrics["accuracy"])
    kinds = ["labels left out in turn", "plain colours", "gradients", "noise", "screens of text"]
    assert list(strangers["named"]) == kinds
    assert strangers["named"]["noise"]["photos"] == 12
    assert sum(each["photos"] for each in bundle.metrics["bins"]) <= 40
    assert sets["covered"]["photos"] == 40 and sets["size"] >= 1
    card = (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    assert "so many get a label all the same" in card and "| noise | 12 |" in card
    assert "A label set is made to hold the true label of 95.0% of photos" in card


def test_more_right_answers_may_be_withheld(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "run")))
    few = export_run(RunSource.read(copy), tmp_path / "few")
    write_text(copy.recipe_file, to_toml(load_recipe(str(copy.recipe_file), {"strangers.withheld": 0.4})))
    many = export_run(RunSource.read(copy), tmp_path / "many")
    assert few.strangers.threshold < many.strangers.threshold
    assert few.fingerprint != many.fingerprint
    shares = [each.metrics["strangers"]["withheld"]["share"] for each in (few, many)]
    assert shares[0] < 0.2 < shares[1]


def test_negatives_are_shown_to_the_networks(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "run")))
    negatives = tmp_path / "other"
    (negatives / "deep").mkdir(parents=True)
    write_json(copy.arguments_file, {**read_json(copy.arguments_file), "negatives": str(negatives)})
    for given in (None, "notes.txt"):
        if given is not None:
            (negatives / given).write_text("no photo")
        with pytest.raises(FovsfeError, match=r"--negatives .*other: no photo in it can be read"):
            require_negatives(str(negatives))
    for name in ("a.png", "deep/b.png"):
        Image.new("RGB", (80, 60), "red").save(negatives / name)
    require_negatives(str(negatives))
    bundle = export_run(RunSource.read(copy), tmp_path / "bundle")
    assert bundle.metrics["strangers"]["named"]["negatives"]["photos"] == 2
    shutil.rmtree(negatives)
    again = export_run(RunSource.read(copy), tmp_path / "again")
    assert "negatives" not in again.metrics["strangers"]["named"]


def test_a_run_without_features_is_said(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "run")))
    file = copy.fold_folder(1, "small", 0) / "predictions.npz"
    np.savez(file, val=np.zeros(3))
    with pytest.raises(FovsfeError, match=r"predictions\.npz has no features.*train a new run"):
        export_run(RunSource.read(copy), tmp_path / "bundle")


def test_translations(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "names.toml"
    file.write_text('[en]\n"Волга" = "Volga"\n[fi]\n"Нива" = "Niva"\n', encoding="utf-8")
    names = read_translations(file, NAMES)
    for encoding in ("utf-8-sig", "utf-16"):  # as Notepad and PowerShell write it
        file.write_text('[en]\n"Волга" = "Volga"\n[fi]\n"Нива" = "Niva"\n', encoding=encoding)
        assert read_translations(file, NAMES) == names
    assert export_run(RunSource.read(run), tmp_path / "bundle", translations=names).translations == {
        "en": {"Волга": "Volga"},
        "fi": {"Нива": "Niva"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[ru]\nFiat = "Фиат"\n"Ока" = "Oka"',
            r"\[ru\] names unknown labels: Fiat; there are Волга, Нива, Ока",
        ),
        ('"Ока" = "Oka"', "a language is a table"),
        ("[ru]\n'Ока' = 3", "a language is a table"),
        ("[ru", "cannot read"),
    ],
)
def test_wrong_translations(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.toml").write_text(text, encoding="utf-8")
    with pytest.raises(FovsfeError, match=message):
        read_translations(tmp_path / "names.toml", NAMES)


def test_what_cannot_be_exported(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "run")))
    with pytest.raises(FovsfeError, match='no member "big": it has test_resnet, small'):
        export_run(RunSource.read(copy), tmp_path / "bundle", member="big")
    facts = read_facts(copy.dataset_file)
    write_facts(copy.dataset_file, facts.model_copy(update={"root": str(tmp_path / "fotos")}))
    with pytest.raises(FovsfeError, match=r"fotos/.*put it back"):
        export_run(RunSource.read(copy), tmp_path / "bundle")
    copy.dataset_file.unlink()
    with pytest.raises(FovsfeError, match=r"dataset\.json"):
        RunSource.read(copy)
    copy.metrics_file.unlink()
    with pytest.raises(FovsfeError, match=r"not a complete run.*fovsfe resume"):
        RunSource.read(copy)
    assert not (tmp_path / "bundle").exists()


def test_examples_are_held_out_photos_that_were_predicted_rightly(run: Run, tmp_path: Path) -> None:
    """The most confident ones first, small, and without what a camera or a person has written into them."""
    source = RunSource.read(run)
    bundle = export_run(source, tmp_path / "bundle", examples=2)
    assert bundle == load_bundle(tmp_path / "bundle")
    assert bundle.fingerprint == export_run(source, tmp_path / "plain").fingerprint
    assert not (tmp_path / "plain" / "examples").exists()
    saved = predictions.read_predictions(run.held_out_file)
    for label in NAMES:
        right = saved[[name.startswith(f"{label}/") for name in saved.index]]
        right = right[right.idxmax(axis=1) == label].sort_values(label, ascending=False)
        paths = bundle.examples.get(label, ())
        assert len(paths) == min(2, len(right))
        for path, name in zip(paths, right.index, strict=False):
            with Image.open(tmp_path / "bundle" / path) as small:
                assert (small.size, small.format, small.getexif(), small.info.get("exif")) == (
                    (320, 240), "JPEG", {}, None
                )  # fmt: skip
                shown = np.asarray(small, np.float64)
            with Image.open(Path(read_json(run.arguments_file)["photos"]) / name) as photo:
                wanted = np.asarray(photo.resize((320, 240), Image.Resampling.BICUBIC), np.float64)
            assert np.abs(shown - wanted).mean() < 8
    assert len(bundle.example_paths) >= 4


def test_of_near_duplicates_one_is_an_example(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.root, tmp_path / "run")))
    manifest = read_manifest(copy.manifest_file)
    write_manifest(copy.manifest_file, manifest.assign(group=7))
    source = RunSource.read(copy)
    assert sum(map(len, choose_examples(source, source.untouched, 3).values())) == 1


def test_an_example_that_is_gone(run: Run, tmp_path: Path) -> None:
    source = RunSource.read(run)
    gone = replace(source, facts=source.facts.model_copy(update={"root": str(tmp_path)}))
    with pytest.raises(FovsfeError, match=r"\.jpg.*put it back"):
        choose_examples(gone, gone.untouched, 1)
    assert choose_examples(gone, gone.untouched, 0) == {label: [] for label in NAMES}
