"""fovsfe predict."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fovsfe.bundle.predictor import Predictor
from fovsfe.photos.decode import decode_to_size


@pytest.fixture
def bundle(run):
    return run / "bundle"


def test_predict_says_what_the_bundle_says(fovsfe, bundle, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = sorted(f"photos/{p.relative_to(photos)}" for p in photos.rglob("*.png"))
    ended = fovsfe("predict", bundle, "photos", "--top", 2)
    assert ended.code == 0 and ended.err == ""
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["photo"] for row in rows] == names
    predictor = Predictor(bundle)
    predictions = predictor.predict([Path(name).read_bytes() for name in names])
    for row, prediction in zip(rows, predictions, strict=True):
        likeliest = int(prediction.probabilities.argmax())
        assert row["label"] == predictor.bundle.class_names[likeliest]
        assert float(row["probability"]) == pytest.approx(prediction.probabilities[likeliest], abs=1e-5)
        assert float(row["probability"]) + float(row["probability_2"]) == pytest.approx(1, abs=1e-5)


def test_a_run_predicts_as_its_bundle_does(fovsfe, run, photos):
    of_run, of_bundle = fovsfe("predict", run, photos), fovsfe("predict", f"{run}/bundle/", photos)
    assert of_run.code == 0, of_run.err
    assert of_run == of_bundle


def test_predict_as_json(fovsfe, run, photos):
    ended = fovsfe("predict", run, photos, "--json", "--top", 2)
    assert (ended.code, ended.err) == (0, "")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    table = list(csv.DictReader(io.StringIO(fovsfe("predict", run, photos).out)))
    assert [(row["photo"], row["label"]) for row in rows] == [(row["photo"], row["label"]) for row in table]
    assert all(len(row["top"]) == 2 for row in rows)


def test_predict_with_label_sets(fovsfe, run, photos):
    rows = [
        json.loads(line)
        for line in fovsfe("predict", run, photos, "--coverage", 0.9, "--json").out.splitlines()
    ]
    assert rows and all(row["set"][0] == row["label"] for row in rows)
    assert fovsfe("predict", run, photos, "--coverage", 1.5).line.startswith(
        "--coverage 1.5: it must be a share"
    )
    assert "--coverage" in fovsfe("predict", run, photos, "--coverage", 0.2).err


def test_predict_leaves_out_bad_files_and_resumes(fovsfe, bundle, photos, tmp_path, monkeypatch):
    (photos / "Нива" / "[red]bad.jpg").write_text("no photo")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos / 'nowhere.png'}\n"))
    command = ["predict", bundle, f"{photos}/*/*.*", "-", "--out", tmp_path / "a.jsonl"]
    ended = fovsfe(*command)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.splitlines() == [
        f"{photos / 'Нива' / '[red]bad.jpg'}: not an image",
        f"{photos / 'nowhere.png'}: No such file or directory",
    ]
    rows = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 8
    (tmp_path / "a.jsonl").write_text("\n".join(rows[:5]) + "\n" + rows[5][:10], encoding="utf-8")
    prepared = []

    def prepare(self, data, max_pixels):
        prepared.append(data)
        return (decode_to_size(data, (48, 64), "pad", max_pixels),)

    monkeypatch.setattr(Predictor, "prepare", prepare)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    (photos / "Нива" / "[red]bad.jpg").unlink()
    assert fovsfe(*command).code == 0
    assert len(prepared) == 3
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines() == rows


def test_ctrl_c_says_that_predict_can_be_resumed(fovsfe, bundle, photos, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "predict_inputs", interrupt)
    ended = fovsfe("predict", bundle, photos, "--out", tmp_path / "a.csv")
    assert ended.code == 1
    assert ended.line == "stopped; the same command resumes"
    assert fovsfe("predict", bundle, photos).err == "fovsfe: stopped\n"


def test_outputs_that_predict_cannot_write_to(fovsfe, bundle, photos):
    ended = fovsfe("predict", bundle, photos, "--out", "s3://bucket/a.csv")
    assert ended.code == 2
    assert "without --cluster" in ended.line
    ended = fovsfe("predict", bundle, photos, "--cluster", "local")
    assert ended.code == 2
    assert "--out NAME.csv" in ended.line


def test_a_folder_or_an_archive_without_photos_is_said(fovsfe, bundle, photos, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    ended = fovsfe("predict", bundle, tmp_path / "empty")
    assert (ended.code, ended.line) == (1, f"no photo in {tmp_path / 'empty'}")
    (tmp_path / "empty" / "notes.txt").touch()
    ended = fovsfe("predict", bundle, tmp_path / "empty", photos)
    assert ended.code == 1
    assert ended.line.startswith(f"no photo in {tmp_path / 'empty'}; passed over: 1 file that is no photo")
    assert len(ended.out.splitlines()) == 9
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert fovsfe("predict", bundle, "-").line == "no photo in standard input"


def test_what_a_folder_has_beside_photos_is_said_but_for_hidden_files(fovsfe, bundle, photos):
    (photos / "._1.png").write_bytes(b"x")
    (photos / "__MACOSX").mkdir()
    ended = fovsfe("predict", bundle, photos)
    assert (ended.code, ended.err) == (0, "")
    (photos / "x.7z").touch()
    ended = fovsfe("predict", bundle, photos)
    assert ended.code == 0
    assert ended.err == (
        f"passed over: 1 archive that is not read ({photos}/x.7z); unpack, or pack as zip, tar or tar.gz\n"
    )


def test_a_linked_folder_a_pattern_and_an_archive(fovsfe, bundle, photos, tmp_path):
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "cars").symlink_to(photos)
    shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    for given in (tmp_path / "link", f"{tmp_path}/li*", tmp_path / "packed.zip"):
        ended = fovsfe("predict", bundle, given)
        assert (ended.code, ended.err, len(ended.out.splitlines())) == (0, "", 9)


def test_an_argument_of_any_length_is_a_line_and_the_others_are_answered(fovsfe, bundle, photos):
    long = "x" * 5000 + ".jpg"
    ended = fovsfe("predict", bundle, long, photos)
    assert (ended.code, ended.err) == (1, f"{long}: File name too long\n")
    assert len(ended.out.splitlines()) == 9


def test_pipes_and_damaged_archives_are_lines(fovsfe, bundle, photos, tmp_path):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "bad.zip").write_bytes(b"no archive")
    ended = fovsfe("predict", bundle, photos / "pipe.jpg", photos)
    assert ended.code == 1
    assert len(ended.out.splitlines()) == 9
    lines = ended.err.splitlines()
    assert lines[0] == f"{photos}/pipe.jpg: a device, a pipe or a socket, not a file"
    assert lines[1].startswith(f"{photos}/bad.zip: cannot be read as an archive")
    assert lines[2:] == [f"passed over: 1 device, pipe or socket ({photos}/pipe.jpg)"]


def test_lines_of_standard_input_in_any_encoding(bundle, photos, tmp_path):
    """As Notepad of Windows writes them, and with bytes that are not UTF-8."""
    shutil.copy(photos / "Нива" / "1.png", tmp_path / "one.png")
    shutil.copy(photos / "Нива" / "1.png", os.fsencode(tmp_path) + b"/\xff.png")
    lines = b"\xef\xbb\xbf" + os.fsencode(tmp_path) + b"/one.png\r\n" + os.fsencode(tmp_path) + b"/\xff.png"
    command = [sys.executable, "-m", "fovsfe", "predict", str(bundle), "-"]
    ended = subprocess.run(command, input=lines, capture_output=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(ended.stdout.splitlines()) == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_list_on_standard_input_as_windows_writes_it(fovsfe, bundle, photos, monkeypatch, encoding):
    names = sorted(map(str, photos.rglob("*.png")))
    lines = io.BytesIO("".join(f"{name}\r\n" for name in names).encode(encoding))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(lines)))
    ended = fovsfe("predict", bundle, "-")
    assert ended.code == 0
    assert [row["photo"] for row in csv.DictReader(io.StringIO(ended.out))] == names


def test_standard_input_is_not_read_unless_it_is_named(fovsfe, bundle, photos, monkeypatch):
    class Terminal(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise AssertionError("it would wait for the user")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Terminal())))
    ended = fovsfe("predict", bundle, photos)
    assert ended.code == 0
    assert len(ended.out.splitlines()) > 2
