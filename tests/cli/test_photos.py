"""fovsfe check and fovsfe shard."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovsfe.photos import decode_pool
from fovsfe.photos.fixes import Fix, read_fixes, write_fixes
from fovsfe.photos.layouts import find_photos


@pytest.fixture
def tinted(tmp_path):
    """Two labels of twenty photos of noise each, which a colour tells apart."""
    random = np.random.default_rng(0)
    for index in range(40):
        pixels = random.integers(0, 120, (48, 64, 3), dtype=np.uint8)
        pixels[..., 2 * (index % 2)] += 120
        file = tmp_path / "tinted" / ("red", "blue")[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return tmp_path / "tinted"


def findings(folder):
    """kind -> the photos of each finding."""
    every: dict[str, list[set[str]]] = {}
    for finding in json.loads((folder / "audit.json").read_text()):
        every.setdefault(finding["kind"], []).append(set(finding["ids"]))
    return every


def test_check_of_photos_without_a_fault(fovsfe, photos, tmp_path):
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    assert ended.code == 0
    assert ended.out.splitlines()[:3] == [
        f"{photos}: 8 labelled photos of 2 labels, 0 test photos",
        "    layout: folders",
        "    labels: from the names of folders",
    ]
    table = pd.read_csv(tmp_path / "audit" / "photos.csv", keep_default_na=False)
    assert len(table) == 8
    assert (table["fault"] == "").all()
    assert set(findings(tmp_path / "audit")) == {"class balance"}


def test_check_names_one_photo_under_two_labels(fovsfe, photos, tmp_path):
    shutil.copy(photos / "Приора" / "0.png", photos / "Нива" / "копия.png")
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    assert ended.code == 1
    assert "two labels" in ended.out
    assert ended.err == ""
    lines = [line.strip() for line in ended.out.splitlines()]
    assert "Приора/0.png" in lines
    assert "Нива/копия.png" in lines
    assert findings(tmp_path / "audit")["two labels"] == [{"Приора/0.png", "Нива/копия.png"}]


def test_check_names_a_labelled_photo_in_the_test_split(fovsfe, draw, tmp_path):
    root = tmp_path / "photos"
    for index in range(6):
        draw(root / "train" / str(index % 2) / f"{index}.png", index)
    draw(root / "test_upload" / "20.png", 20)
    shutil.copy(root / "train" / "1" / "3.png", root / "test_upload" / "21.png")
    (root / "sample-submission.csv").write_text("Id,Category\n20.png,0\n21.png,0\n")
    ended = fovsfe("check", root, "--out", tmp_path / "audit")
    assert ended.code == 1
    assert findings(tmp_path / "audit")["in both splits"] == [{"1/3.png", "21.png"}]


def test_check_names_each_broken_photo_with_its_reason(fovsfe, photos, tmp_path):
    good = (photos / "Нива" / "1.png").read_bytes()
    (photos / "Нива" / "empty.jpg").write_bytes(b"")
    (photos / "Нива" / "text.jpg").write_text("just words, and more words")
    (photos / "Нива" / "short.png").write_bytes(good[: len(good) // 2])
    (photos / "Нива" / "[bold] :car: é.png").write_bytes(good[:100])
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    table = pd.read_csv(tmp_path / "audit" / "photos.csv", keep_default_na=False).set_index("id")
    assert {photo for photo in table.index if table["fault"][photo]} == {
        "Нива/empty.jpg",
        "Нива/text.jpg",
        "Нива/short.png",
        "Нива/[bold] :car: é.png",
    }
    assert table["fault"]["Нива/short.png"] == "truncated"
    lines = [line.strip() for line in ended.out.splitlines()]
    for photo_id, reason in table["fault"][table["fault"] != ""].items():
        assert photo_id in lines
        assert any(line.startswith("error: unreadable: ") and reason in line for line in lines)
    assert ended.code == 1


def test_a_copy_under_the_same_label_is_no_error(fovsfe, photos):
    shutil.copy(photos / "Нива" / "1.png", photos / "Нива" / "copy.png")
    ended = fovsfe("check", photos)
    assert ended.code == 0
    assert "exact duplicates" in ended.out


def test_check_as_json(fovsfe, photos):
    (photos / "Нива" / "text.jpg").write_text("just words, and more words")
    ended = fovsfe("check", photos, "--json")
    assert ended.code == 1
    assert ended.err == ""
    facts = json.loads(ended.out)
    assert (facts["layout"], facts["labelled"], facts["test"]) == ("folders", 9, 0)
    assert facts["reading"] == ["layout: folders", "labels: from the names of folders"]
    assert facts["class_names"] == ["Нива", "Приора"]
    (error,) = [finding for finding in facts["findings"] if finding["severity"] == "error"]
    assert (error["kind"], error["ids"]) == ("unreadable", ["Нива/text.jpg"])


def test_check_as_json_with_a_page(fovsfe, photos, tmp_path):
    ended = fovsfe("check", photos, "--json", "--out", tmp_path / "audit")
    assert ended.code == 0
    assert json.loads(ended.out)["labelled"] == 8
    assert ended.err == f"page: {tmp_path / 'audit'}/index.html\n"
    assert (tmp_path / "audit" / "index.html").exists()
    assert (tmp_path / "audit" / "findings.csv").exists()


def test_shard_packs_photos_that_check_accepts(fovsfe, photos, tmp_path):
    ended = fovsfe("shard", photos, "--out", tmp_path / "shards", "--photos-per-shard", 4)
    assert ended.code == 0
    assert ended.out == f"{tmp_path / 'shards'}: 8 photos in 2 shards, 0 MB\n"
    checked = fovsfe("check", tmp_path / "shards").out
    assert "8 labelled photos of 2 labels" in checked and "layout: shards, packed from folders" in checked
    again = fovsfe("shard", tmp_path / "shards", "--out", tmp_path / "more")
    assert again.code == 2
    assert "is sharded already" in again.line


def test_what_a_list_names_elsewhere_is_refused_and_read_on_demand(fovsfe, photos, draw, tmp_path):
    draw(tmp_path / "secret.png", 99)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    rows = [f"{name},{name.partition('/')[0]}" for name in names]
    (photos / "cars.csv").write_text("path,label\n" + "\n".join([*rows, "../secret.png,Нива"]) + "\n")
    ended = fovsfe("check", photos / "cars.csv")
    assert ended.code == 1
    assert (
        "error: refused: 1 name that leads out of its folder (../secret.png); --follow-links reads"
        in ended.out
    )
    ended = fovsfe("check", photos / "cars.csv", "--follow-links")
    assert ended.code == 0, ended.out
    assert "9 labelled photos" in ended.out


def test_check_tells_what_it_passed_over(fovsfe, photos, tmp_path):
    (photos / "Нива" / "._1.png").write_bytes(b"x")
    (photos / "Нива" / "\x1b[2J.txt").write_bytes(b"x")
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    assert ended.code == 0
    assert "info: passed over: 1 file or folder that is hidden, or of the system (Нива/._1.png)" in ended.out
    assert (
        r"1 file that is no photo by name or first bytes (Нива/\x1b[2J.txt)" in ended.out
        and "\x1b" not in ended.out
    )
    assert "Passed over" in (tmp_path / "audit" / "index.html").read_text()
    assert len(findings(tmp_path / "audit")["passed over"]) == 2


def test_what_people_open_has_no_formulas(fovsfe, photos, tmp_path):
    (photos / "Нива").rename(photos / "=1+1")
    (photos / "=1+1" / "text.jpg").write_text("just words, and more words")
    fovsfe("check", photos, "--out", tmp_path / "audit")
    for name in ("photos.csv", "findings.csv"):
        table = pd.read_csv(tmp_path / "audit" / name, dtype=str, keep_default_na=False)
        assert {"'=1+1", "Приора"} >= set(table["label"]) >= {"'=1+1"}
        assert not table.map(lambda cell: cell.startswith("=")).to_numpy().any()


def test_photos_told_by_their_content_are_checked_and_packed(fovsfe, photos, tmp_path):
    for number, suffix in enumerate(("", ".jfif", ".php", ".png_large")):
        (photos / "Нива" / f"{2 * number + 1}.png").rename(photos / "Нива" / f"photo{number}{suffix}")
    assert "8 labelled photos" in fovsfe("check", photos).out
    assert fovsfe("shard", photos, "--out", tmp_path / "shards").code == 0
    ended = fovsfe("check", tmp_path / "shards")
    assert ended.code == 0 and "8 labelled photos" in ended.out


def test_check_says_how_it_read_the_folder(fovsfe, photos, draw, tmp_path):
    root = tmp_path / "parts"
    shutil.copytree(photos, root / "Training")
    for label in ("Приора", "Нива"):
        draw(root / "Valid" / label / "9.png", 50 + len(label))
    draw(root / "test1" / "1.png", 200)
    draw(root / "elsewhere" / "2.png", 201)
    (root / "sampleSubmission.csv").write_text("id,label\n1,0\n")
    ended = fovsfe("check", root)
    assert ended.code == 0
    lines = [line.strip() for line in ended.out.splitlines()]
    assert lines[:6] == [
        f"{root}: 10 labelled photos of 2 labels, 1 test photo",
        "layout: parts (Training/ is train, Valid/ is val, test1/ is test)",
        "labels: from the names of folders",
        "validation: 2 photos are given, and held out; "
        "--set split.given=pool divides all labelled photos instead",
        "sample submission: sampleSubmission.csv, 1 row",
        "other reading: --layout folders takes each folder for a label",
    ]
    assert "info: passed over: 1 photo or archive beside the parts of the data set (elsewhere/2.png)" in lines
    assert "5 labels" not in fovsfe("check", root, "--layout", "parts").out
    assert fovsfe("check", root, "--layout", "tree").code == 2


def test_check_says_in_which_encoding_it_read_a_list(fovsfe, photos):
    rows = "".join(f"{i}.png,{('Škoda', 'Łada')[i % 2]}\n" for i in range(8))
    (photos / "cars.csv").write_bytes(f"file,label\n{rows}".encode("cp1250"))
    ended = fovsfe("check", photos, "--json")
    assert json.loads(ended.out)["class_names"] == ["Łada", "Škoda"]
    assert any("cp1250" in finding["detail"] for finding in json.loads(ended.out)["findings"])
    (photos / "cars.csv").write_bytes(b'file,label\n"0.png')
    ended = fovsfe("check", photos)
    assert ended.code == 1 and "error: passed over: 1 table that cannot be read (cars.csv: " in ended.out


def test_shards_keep_what_was_given(fovsfe, photos, tmp_path):
    rows = "".join(f"{i}.png,{'ab'[i % 2]},{('train', 'val')[i > 5]},g{i}\n" for i in range(8))
    (photos / "cars.csv").write_text(f"file,label,split,group\n{rows}")
    assert fovsfe("shard", photos, "--out", tmp_path / "shards").code == 0
    table = find_photos(tmp_path / "shards").table
    assert sorted(table["given_fold"]) == [*[""] * 6, "0", "0"]
    assert fovsfe("check", tmp_path / "shards", "--layout", "list").code == 2


def test_a_machine_that_cannot_decode_is_one_line_and_no_fault_of_a_photo(fovsfe, photos, monkeypatch):
    def refuse(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(decode_pool, "_shared", None)
    monkeypatch.setattr(decode_pool.ForkServer, "fork", refuse)
    ended = fovsfe("check", photos)
    assert (ended.code, ended.out) == (1, "")
    assert ended.line.startswith("this machine cannot decode photos now: Resource temporarily unavailable")
    decode_pool.shared_pool().close()


def write_a_fix(photos, file, photo, action, label=""):
    sha256 = hashlib.sha256((photos / photo).read_bytes()).hexdigest()
    write_fixes(file, [Fix(photo, sha256, action, label), Fix("gone.png", sha256, "keep")])


def test_check_takes_fixes_and_names_those_that_are_not_applied(fovsfe, photos, tmp_path):
    write_a_fix(photos, tmp_path / "fixes.csv", "Нива/1.png", "relabel", "Приора")
    ended = fovsfe("check", photos, "--fixes", tmp_path / "fixes.csv", "--out", tmp_path / "audit")
    assert "    fixes: 1 photo (1 relabelled)" in ended.out.splitlines()
    assert "warning: fixes: 1 fix of a photo that is not there (gone.png); not applied" in ended.out
    table = pd.read_csv(tmp_path / "audit" / "photos.csv").set_index("id")
    assert table["label"]["Нива/1.png"] == "Приора"
    ended = fovsfe("check", photos, "--fixes", tmp_path / "nothing.csv")
    assert (ended.code, "nothing.csv" in ended.line) == (1, True)


def test_check_proposes_fixes_that_mend_what_it_found(fovsfe, photos, tmp_path):
    (photos / "Нива" / "broken.png").write_bytes(b"no photo")
    shutil.copy(photos / "Приора" / "0.png", photos / "Нива" / "копия.png")
    proposed = tmp_path / "proposed.csv"
    assert fovsfe("check", photos, "--clean", proposed).out.splitlines()[-1] == (
        f"fixes: 3 photos in {proposed}; look at them before you use them"
    )
    assert fovsfe("check", photos, "--fixes", proposed).code == 0
    assert "is there already" in fovsfe("check", photos, "--clean", proposed).line


def test_shards_have_the_labels_of_the_fixes(fovsfe, photos, tmp_path):
    write_a_fix(photos, tmp_path / "fixes.csv", "Нива/1.png", "relabel", "Приора")
    assert fovsfe("shard", photos, "--fixes", tmp_path / "fixes.csv", "--out", tmp_path / "shards").code == 0
    table = find_photos(tmp_path / "shards").table.set_index("id")
    assert table["label"]["Нива/1.png"] == "Приора"


def test_check_proposes_labels_if_a_backbone_may_look(fovsfe, tinted, packed_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))
    wrong = tinted / "blue" / "wrong.png"
    shutil.move(next((tinted / "red").iterdir()), wrong)
    ended = fovsfe("check", tinted, "--clean", tmp_path / "fixes.csv", "--weights", packed_weights)
    assert ended.code == 0
    (fix,) = read_fixes([str(tmp_path / "fixes.csv")]).fixes
    assert (fix.id, fix.action, fix.label) == ("blue/wrong.png", "relabel", "red")
    assert "give both" in fovsfe("check", tinted, "--weights", packed_weights).line
