"""photos.places: what the place of a photo says."""

from fovsfe.photos.lists import NO_ROW
from fovsfe.photos.places import parts_among, place, stem_of, treat_train_as_label


def placed(*paths, prefix="", may_have_parts=True):
    photos = place(paths, prefix, may_have_parts)
    return {photo.path: (photo.part, photo.top, photo.name) for photo in photos}


def test_parts_and_what_they_are_stored_in():
    assert placed(
        "x/Train/images/a/1.jpg", "x/Train/images/b/1.jpg", "x/val.zip/a/1.jpg", "x/2.jpg", prefix="x/"
    ) == {
        "x/Train/images/a/1.jpg": ("train", "Train", "a/1.jpg"),
        "x/Train/images/b/1.jpg": ("train", "Train", "b/1.jpg"),
        "x/val.zip/a/1.jpg": ("val", "val.zip", "a/1.jpg"),
        "x/2.jpg": (None, "", "2.jpg"),
    }


def test_without_parts_folders_are_labels():
    assert placed("train/1.jpg", "test/2.jpg", may_have_parts=False) == {
        "train/1.jpg": (None, "", "train/1.jpg"),
        "test/2.jpg": (None, "", "test/2.jpg"),
    }


def test_parts_in_labels_need_a_part_to_train_on():
    assert placed("a/train/1.jpg", "a/val/2.jpg", "b/train/3.jpg")["a/val/2.jpg"] == ("val", "val", "a/2.jpg")
    assert placed("a/test/1.jpg", "b/test/2.jpg")["a/test/1.jpg"] == (None, "", "a/test/1.jpg")
    assert placed("a/train/1.jpg", "b/2.jpg")["a/train/1.jpg"] == (None, "", "a/train/1.jpg")


def test_an_archive_beside_its_folder_is_no_part():
    assert parts_among(["train", "train.zip", "test.tar.gz", "cars"]) == {
        "test.tar.gz": "test",
        "train": "train",
    }
    assert [stem_of(name) for name in ("a.zip", "b.tar.gz", "c.TGZ", "d")] == ["a", "b", "c", "d"]


def test_train_is_a_label_beside_others_unless_a_list_or_folders_label_its_photos():
    photos = place(["train/1.jpg", "bus/2.jpg"], "", True)
    treat_train_as_label(photos)
    assert [photo.folder for photo in photos] == ["train", "bus"]
    for paths in (["train/1.jpg"], ["train/1.jpg", "train/a/2.jpg", "bus/3.jpg"]):
        photos = place(paths, "", True)
        treat_train_as_label(photos)
        assert photos[0].part == "train"
    photos = place(["train/1.jpg", "bus/2.jpg"], "", True)
    photos[0].row = NO_ROW
    treat_train_as_label(photos)
    assert photos[0].part == "train"
