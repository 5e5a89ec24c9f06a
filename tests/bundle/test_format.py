import json
from pathlib import Path
from typing import Any

import pytest

from fovsfe.bundle.format import MAX_EXAMPLE_BYTES, load_bundle, sha256_of, write_bundle, write_examples
from fovsfe.errors import FovsfeError

NETWORKS = ("members/small-0.onnx", "members/test_resnet-0.onnx", "members/test_resnet-1.onnx")


def refusal(bundle: Path) -> str:
    with pytest.raises(FovsfeError) as caught:
        load_bundle(bundle)
    line = str(caught.value)
    assert "\n" not in line
    assert str(bundle) in line
    return line


def edit(bundle: Path, **changes: Any) -> None:
    file = bundle / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_says_what_was_exported(made: Any) -> None:
    bundle = load_bundle(made.folder)
    assert bundle.class_names == made.class_names
    assert bundle.label_ids == {"ВАЗ-2109": "0", "a|b": "1", "Ford": "2"}
    assert bundle.blend == made.blend
    assert bundle.tta == ("plain", "flip")
    assert [(m.name, m.size, m.resize_mode, m.has_cam) for m in bundle.members] == [
        ("small", (48, 48), "pad", False),
        ("test_resnet", (64, 96), "pad", True),
    ]
    assert set(bundle.files) == {"card.md", *NETWORKS}
    assert "ВАЗ-2109" in (made.folder / "bundle.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["card.md", *NETWORKS])
def test_one_wrong_bit_in_any_file(bundle: Path, path: str) -> None:
    data = bytearray((bundle / path).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / path).write_bytes(data)
    assert path in refusal(bundle)


@pytest.mark.parametrize("path", ["bundle.json", "card.md", *NETWORKS])
def test_a_missing_file(bundle: Path, path: str) -> None:
    (bundle / path).unlink()
    assert path in refusal(bundle)


def test_a_folder_in_place_of_a_file(bundle: Path) -> None:
    (bundle / "card.md").unlink()
    (bundle / "card.md").mkdir()
    assert "card.md" in refusal(bundle)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    assert "fovsfe export" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"format": "1"}', '{"format": true}', "\0", "[" * 100_000]
)
def test_json_of_somebody_else(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text)
    refusal(bundle)


def test_json_that_is_no_text(bundle: Path) -> None:
    (bundle / "bundle.json").write_bytes(b"\xff\xfe\x00")
    refusal(bundle)


def test_cut_json(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    for length in range(0, len(text) - 2, 97):
        (bundle / "bundle.json").write_text(text[:length])
        refusal(bundle)


def test_a_later_format(bundle: Path) -> None:
    edit(bundle, format=2)
    assert "update fovsfe" in refusal(bundle)


def test_an_earlier_format(bundle: Path) -> None:
    edit(bundle, format=0)
    assert "export it again" in refusal(bundle)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"class_names": ["a", "a", "b"]}, "twice"),
        ({"class_names": ["a", "b"]}, "label_ids"),
        ({"label_ids": {}}, "label_ids"),
        ({"translations": {"ru": {"Fiat": "Фиат"}}}, "Fiat"),
        ({"members": []}, "members"),
        ({"tta": ["sideways"]}, "tta"),
        ({"tta": ["flip"]}, "tta"),
        ({"blend": {"kind": "mean", "members": ["small"]}}, "blend"),
        ({"blend": {"kind": "mean", "members": ["small", "test_resnet"], "temperature": 0}}, "temperature"),
        ({"files": {}}, "checksum"),
        ({"files": {"card.md": "0"}}, "files.card.md"),
        ({"extra": 1}, "extra"),
    ],
)
def test_parts_that_do_not_fit(bundle: Path, changes: dict[str, Any], named: str) -> None:
    edit(bundle, **changes)
    assert named in refusal(bundle)


@pytest.mark.parametrize("path", ["../secret.onnx", "/etc/hostname", "members/../../secret.onnx"])
def test_a_path_outside(bundle: Path, path: str) -> None:
    members = json.loads((bundle / "bundle.json").read_text())["members"]
    edit(bundle, members=[members[0], members[1] | {"networks": [path]}])
    assert "members.1.networks.0" in refusal(bundle)


def test_a_checksum_of_a_file_outside(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    edit(bundle, files=files | {"../secret": sha256_of(tmp_path / "secret")})
    assert "outside" in refusal(bundle)


def test_an_edited_card_is_told_how_to_be_accepted(bundle: Path) -> None:
    card = (bundle / "card.md").read_text()
    (bundle / "card.md").write_text(card.replace("FILL IN", "MIT"))
    line = refusal(bundle)
    assert sha256_of(bundle / "card.md") in line
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    edit(bundle, files=files | {"card.md": sha256_of(bundle / "card.md")})
    load_bundle(bundle)


def test_translations_may_be_added_by_hand(bundle: Path) -> None:
    edit(bundle, translations={"en": {"ВАЗ-2109": "VAZ-2109"}})
    assert load_bundle(bundle).translations["en"] == {"ВАЗ-2109": "VAZ-2109"}


def test_other_files_beside_do_not_matter(bundle: Path) -> None:
    (bundle / "members" / "notes.txt").write_text("mine")
    load_bundle(bundle)


def test_written_and_read_back(made: Any, tmp_path: Path) -> None:
    bundle = load_bundle(made.folder)
    (tmp_path / "members").mkdir()
    for path in NETWORKS:
        (tmp_path / path).write_bytes((made.folder / path).read_bytes())
    (tmp_path / "card.md").write_bytes((made.folder / "card.md").read_bytes())
    write_bundle(tmp_path, bundle.model_copy(update={"files": {}}))
    assert (tmp_path / "bundle.json").read_bytes() == (made.folder / "bundle.json").read_bytes()


def test_a_fingerprint_is_of_what_predicts(bundle: Path) -> None:
    original = load_bundle(bundle)
    (bundle / "card.md").write_text("edited")
    translated = original.model_copy(update={"translations": {"en": {"Ford": "a Ford"}}})
    assert write_bundle(bundle, translated).fingerprint == original.fingerprint
    (bundle / NETWORKS[0]).write_bytes((bundle / NETWORKS[1]).read_bytes())
    other = write_bundle(bundle, original)
    renamed = original.model_copy(update={"class_names": original.class_names[::-1]})
    plain = original.model_copy(update={"tta": ("plain",)})
    assert len({each.fingerprint for each in (original, other, renamed, plain)}) == 4


JPEG = b"\xff\xd8\xff\xe0 a photo"


def test_examples_are_listed_like_all_other_files(bundle: Path) -> None:
    before = load_bundle(bundle)
    assert "examples" not in json.loads((bundle / "bundle.json").read_text())
    written = write_examples(bundle, before, {"Ford": [JPEG, b"another"], "a|b": []})
    assert load_bundle(bundle) == written
    assert written.examples == {"Ford": ("examples/2-0.jpg", "examples/2-1.jpg")}
    assert written.files == before.files | {path: sha256_of(bundle / path) for path in written.example_paths}
    assert (bundle / "examples/2-0.jpg").read_bytes() == JPEG
    assert written.fingerprint == before.fingerprint  # it predicts what it did
    (bundle / "examples/2-1.jpg").write_bytes(b"changed")
    assert "examples/2-1.jpg is not what was exported" in refusal(bundle)


@pytest.mark.parametrize(
    ("examples", "named"),
    [
        ({"Fiat": ["examples/2-0.jpg"]}, "unknown labels: Fiat"),
        ({"Ford": ["examples/2-0.jpg"] * 11}, "examples.Ford"),
        ({"Ford": ["examples/../card.md"]}, "examples.Ford.0"),
        ({"Ford": ["members/small-0.onnx"]}, "examples.Ford.0"),
        ({"Ford": ["/examples/2-0.jpg"]}, "examples.Ford.0"),
        ({"Ford": ["examples/2-7.jpg"]}, "no checksum of examples/2-7.jpg"),
    ],
)
def test_examples_that_do_not_fit(bundle: Path, examples: dict[str, list[str]], named: str) -> None:
    write_examples(bundle, load_bundle(bundle), {"Ford": [JPEG]})
    edit(bundle, examples=examples)
    assert named in refusal(bundle)


def test_an_example_that_is_too_large(bundle: Path) -> None:
    write_examples(bundle, load_bundle(bundle), {"Ford": [bytes(MAX_EXAMPLE_BYTES)]})
    load_bundle(bundle)
    write_examples(bundle, load_bundle(bundle), {"Ford": [bytes(MAX_EXAMPLE_BYTES + 1)]})
    assert "examples/2-0.jpg has 200001 bytes" in refusal(bundle)
