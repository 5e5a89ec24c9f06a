"""executors.ray_prediction and part_files: one row per photo, whatever happens to the machines."""

import csv
import io
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("ray")
from pyarrow import parquet

from fovsfe.bundle.batch import predict_files
from fovsfe.bundle.format import load_bundle
from fovsfe.bundle.photo_paths import expand_paths
from fovsfe.bundle.predictor import Prediction, Predictor
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.executors import part_files
from fovsfe.executors.part_files import open_parts
from fovsfe.executors.ray_cluster import connected
from fovsfe.executors.ray_prediction import predict_on_cluster
from fovsfe.photos.passed_over import PassedOver
from fovsfe.synthetic.dataset import draw_dataset

BUNDLE = "a1"  # its fingerprint
LABELS = ("ВАЗ-2109", "Lada, Priora", "UAZ")


def answer_of(*probabilities, known=True):
    return Prediction(np.array(probabilities), known, ())


def csv_rows(folder):
    files = sorted(folder.glob("part-*.csv"))
    return [
        row for file in files for row in csv.DictReader(io.StringIO(file.read_bytes().decode(), newline=""))
    ]


def parquet_rows(folder):
    return [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]


# ---- tables in parts


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_any_name_has_its_row_when_the_table_is_opened_again(tmp_path, suffix):
    names = ["=1+1.jpg", "'=1.jpg", "a\nb.jpg", "c\r.jpg", "d, e.jpg", "-1.jpg", "\udcff.jpg"]
    with open_parts(str(tmp_path / f"a{suffix}"), BUNDLE, ("=2+2", "x", "y"), 1) as parts:
        for name in names:
            parts.write(name, answer_of(0.7, 0.25, 0.05))
    with open_parts(str(tmp_path / f"a{suffix}"), BUNDLE, ("=2+2", "x", "y"), 1) as parts:
        assert all(map(parts.has, names))
        assert not parts.has("'=1+1.jpg")
    if suffix == ".csv":
        cells = [cell for row in csv_rows(tmp_path / "a.csv") for cell in row.values()]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def fill(parts):
    parts.write("a b.jpg", answer_of(0.25, 0.7, 0.05))
    parts.write_fault("bad.jpg", "not an image")
    parts.write("новая.jpg", answer_of(0.5, 0.2, 0.3, known=False))


def test_a_csv_has_a_row_a_photo_and_its_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(part_files, "ROWS_PER_PART", 2)
    out = tmp_path / "answers.csv"
    with open_parts(str(out), BUNDLE, LABELS, 2) as parts:
        fill(parts)
    names = ["_bundle", "part-000000.csv", "part-000001.csv"]
    assert [file.name for file in sorted(out.iterdir())] == names
    assert (out / "part-000000.csv").read_text() == (
        "photo,known,label,probability,label_2,probability_2,fault\n"
        'a b.jpg,yes,"Lada, Priora",0.7,ВАЗ-2109,0.25,\n'
        "bad.jpg,,,,,,not an image\n"
    )
    assert csv_rows(out)[2]["known"] == "no"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_parts_have_label_sets(tmp_path, suffix):
    out = tmp_path / f"answers.{suffix}"
    with open_parts(str(out), BUNDLE, LABELS, 1, lambda probabilities: ["a", "b"]) as parts:
        fill(parts)
    first, bad, _ = csv_rows(out) if suffix == "csv" else parquet_rows(out)
    assert first["set"] == '["a", "b"]' and not bad["set"]


@pytest.mark.parametrize("where", ["path", "bucket"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_gone_on_with(suffix, where, tmp_path, bucket):
    out = str(tmp_path / f"answers.{suffix}") if where == "path" else f"{bucket}/answers.{suffix}"
    with open_parts(out, BUNDLE, LABELS, 1) as parts:
        fill(parts)
    with open_parts(out, BUNDLE, LABELS, 1) as parts:
        assert parts.has("a b.jpg") and parts.has("bad.jpg") and parts.has("новая.jpg")
        assert not parts.has("c.jpg")
        assert parts.faults == 1
        parts.write("c.jpg", answer_of(0, 0, 1))
    with open_parts(out, BUNDLE, LABELS, 1) as parts:
        assert parts.has("a b.jpg") and parts.has("c.jpg")


def test_parquet_has_types(tmp_path):
    out = tmp_path / "answers.parquet"
    with open_parts(str(out), BUNDLE, LABELS, 1) as parts:
        fill(parts)
    first, bad, _ = parquet_rows(out)
    assert first == {
        "photo": "a b.jpg",
        "known": True,
        "label": "Lada, Priora",
        "probability": 0.7,
        "fault": "",
    }
    assert bad == dict.fromkeys(first) | {"photo": "bad.jpg", "fault": "not an image"}


def test_a_name_that_is_no_text_has_its_row(tmp_path):
    name = os.fsdecode(b"caf\xe9\n1.jpg")
    for suffix in ("csv", "parquet"):
        out = str(tmp_path / f"answers.{suffix}")
        with open_parts(out, BUNDLE, LABELS, 1) as parts:
            parts.write(name, answer_of(0, 0, 1))
        with open_parts(out, BUNDLE, LABELS, 1) as parts:
            assert parts.has(name)


def test_other_tables_are_refused(tmp_path):
    with (
        pytest.raises(UsageError, match=r"\.csv or \.parquet"),
        open_parts("answers.jsonl", BUNDLE, LABELS, 1),
    ):
        pass
    (tmp_path / "file.csv").write_text("mine")
    with (
        pytest.raises(FovsfeError, match="is a file"),
        open_parts(str(tmp_path / "file.csv"), BUNDLE, LABELS, 1),
    ):
        pass
    out = tmp_path / "answers.csv"
    with open_parts(str(out), BUNDLE, LABELS, 1) as parts:
        fill(parts)
    with pytest.raises(FovsfeError, match="other columns"), open_parts(str(out), BUNDLE, LABELS, 2):
        pass
    with (
        pytest.raises(FovsfeError, match="has rows of another bundle"),
        open_parts(str(out), "b2", LABELS, 1),
    ):
        pass
    assert len(csv_rows(out)) == 3
    (out / "part-000000.csv").write_bytes(b"\xff\xfe")
    with (
        pytest.raises(FovsfeError, match="holds something other than these predictions"),
        open_parts(str(out), BUNDLE, LABELS, 1),
    ):
        pass


# ---- on a cluster


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Of two tiny networks, one of which takes larger photos."""
    from fovsfe import pipeline
    from fovsfe.arguments import RunArguments
    from fovsfe.progress import Screen
    from fovsfe.recipe import Recipe

    root = tmp_path_factory.mktemp("trained")
    draw_dataset(root / "photos", 4, 0, 0)
    training = {"stages": [0], "head_epochs": 4, "batch_size": 16, "precision": "fp32"}
    members = [
        {"backbone": "test_resnet", "size": [48, 64]},
        {"backbone": "test_efficientnet", "size": [64, 64]},
    ]
    settings = Recipe.model_validate({"rounds": 1, "training": training, "members": members})
    arguments = RunArguments(photos=str(root / "photos"), weights="none", minutes=None)
    pipeline.train(settings, arguments, str(root / "run"), Screen(Console(file=io.StringIO())))
    return root / "run" / "bundle"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked") / "photos"
    draw_dataset(folder, 4, 4, 1)
    (folder / "bad.jpg").write_bytes(b"not a photo")
    return folder


def test_a_cluster_answers_as_one_machine_does(bundle, photos, bucket, tmp_path, ray_cluster, fovsfe):
    """From a bundle at a URL, into CSV at a path and Parquet at a URL; what is there is not asked again."""
    import s3fs

    nodes, _ = ray_cluster(1, 1)
    one, out, url = tmp_path / "one.csv", tmp_path / "many.csv", f"{bucket}/many.parquet"
    assert fovsfe("predict", bundle, photos, "--out", one, "--top", 2).code == 1
    ended = fovsfe("predict", bundle, photos, "--out", out, "--top", 2, "--cluster", nodes.address)
    assert ended.code == 1
    assert ended.err.startswith(f"{photos / 'bad.jpg'}: not an image\n")
    many = csv_rows(out)
    (bad,) = [row for row in many if row["fault"]]
    assert (bad["photo"], bad["label"], bad["known"]) == (str(photos / "bad.jpg"), "", "")
    assert len(many) == len({row["photo"] for row in many}) == 45
    answers = {row["photo"]: row for row in csv.DictReader(one.open())}
    for row in many:
        if not row.pop("fault"):
            assert row == answers[row["photo"]]

    s3fs.S3FileSystem().put(str(bundle), f"{bucket}/bundle", recursive=True)
    files, unreadable = [str(file) for file in sorted(photos.rglob("*.jpg"))], []
    with connected(nodes.address):
        for some, new in ((files[:10], 10), (files, 35)):
            with open_parts(url, BUNDLE, load_bundle(bundle).class_names, 1) as parts:
                done = list(
                    predict_on_cluster(
                        f"{bucket}/bundle", some, parts, lambda *fault: unreadable.append(fault)
                    )
                )
            assert done == list(range(1, 1 + new))
    assert unreadable == [(str(photos / "bad.jpg"), "not an image")]
    assert len(s3fs.S3FileSystem().ls(f"{bucket}/many.parquet")) == 3  # two parts, and whose they are


def test_what_is_wrong_is_said_in_a_line(bundle, photos, tmp_path, ray_cluster, fovsfe):
    nodes, _ = ray_cluster(1)
    command = ("predict", bundle, photos, "--cluster")
    assert "--out NAME.csv" in fovsfe(*command, nodes.address).line
    assert fovsfe(*command, "nonsense", "--out", tmp_path / "a.csv").code == 2
    assert "nothing answers there" in fovsfe(*command, "127.0.0.1:1", "--out", tmp_path / "a.csv").line
    shutil.copytree(bundle, tmp_path / "bundle")
    (network,) = [file for file in (tmp_path / "bundle").rglob("*.onnx") if "resnet" in str(file)][:1]
    broken = b"\x08\x08"  # a version of ONNX, and no graph
    network.write_bytes(broken)
    bundle_json = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    bundle_json["files"][network.relative_to(tmp_path / "bundle").as_posix()] = sha256(broken).hexdigest()
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(bundle_json))
    ended = fovsfe(
        "predict", tmp_path / "bundle", photos, "--cluster", nodes.address, "--out", tmp_path / "a.csv"
    )
    assert ended.code == 1
    assert "cannot load" in ended.line


@pytest.mark.slow
def test_a_machine_lost_among_twenty_thousand_photos(bundle, photos, tmp_path, ray_cluster, kill):
    """Each photo has its row, none has two, and all are those of one machine."""
    nodes, (*_, lost) = ray_cluster(1, 1, 1)
    drawn = sorted(photos.rglob("*.jpg"))
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(20_000):
        os.link(drawn[index % len(drawn)], folder / f"{index:05}.jpg")
    out, killed_at = tmp_path / "answers.parquet", 0
    with connected(nodes.address), open_parts(str(out), BUNDLE, load_bundle(bundle).class_names, 1) as parts:
        for done in predict_on_cluster(
            str(bundle), expand_paths([str(folder)], [], PassedOver()), parts, lambda *fault: None
        ):
            if done >= 4000 and not killed_at:
                kill(lost)
                killed_at = done
    assert killed_at < 15_000
    rows = {Path(row["photo"]).name: row for row in parquet_rows(out)}
    assert len(parquet_rows(out)) == len(rows) == 20_000
    one = {}
    for file, said in predict_files(Predictor(bundle), map(str, drawn)):
        one[file] = said
    for index in range(20_000):
        row, said = rows[f"{index:05}.jpg"], one[str(drawn[index % len(drawn)])]
        if isinstance(said, str):
            assert row["fault"] == said
        else:
            assert row["probability"] == pytest.approx(said.probabilities.max(), abs=1e-5)
