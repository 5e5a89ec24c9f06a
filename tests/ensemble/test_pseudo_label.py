import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.pseudo_label import pseudo_labels

IDS = ["1.jpg", "2.jpg", "3.jpg"]
LABELS = ["Нива", "Приора"]
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])


def test_all_takes_every_photo_whatever_the_confidence() -> None:
    frame = pseudo_labels(PROBABILITIES, IDS, LABELS, "all", 0.99, soft=False)
    assert frame.columns.tolist() == ["id", "label", "confidence"]
    assert frame["id"].tolist() == IDS
    assert frame["label"].tolist() == ["Нива", "Приора", "Приора"]
    assert frame["confidence"].tolist() == [0.9, 0.6, 0.8]


def test_confident_takes_those_at_or_above_the_line() -> None:
    frame = pseudo_labels(PROBABILITIES, IDS, LABELS, "confident", 0.8, soft=False)
    assert frame["id"].tolist() == ["1.jpg", "3.jpg"]


def test_soft_labels_keep_the_whole_distribution() -> None:
    frame = pseudo_labels(PROBABILITIES, IDS, LABELS, "confident", 0.8, soft=True)
    assert frame.columns.tolist() == ["id", "label", "confidence", "p:Нива", "p:Приора"]
    assert frame[["p:Нива", "p:Приора"]].to_numpy().tolist() == [[0.9, 0.1], [0.2, 0.8]]


def test_nothing_confident_is_an_empty_table_with_its_columns() -> None:
    frame = pseudo_labels(PROBABILITIES, IDS, LABELS, "confident", 0.99, soft=True)
    assert len(frame) == 0
    assert frame.columns.tolist() == ["id", "label", "confidence", "p:Нива", "p:Приора"]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(2, 5), st.floats(0, 1), st.integers(0, 99))
def test_every_kept_label_is_the_likeliest(
    photos: int, num_classes: int, confidence: float, seed: int
) -> None:
    probabilities = softmax(np.random.default_rng(seed).normal(size=(photos, num_classes)))
    ids, names = [str(i) for i in range(photos)], [f"car {i}" for i in range(num_classes)]
    frame = pseudo_labels(probabilities, ids, names, "confident", confidence, soft=True)
    assert (frame["confidence"] >= confidence).all()
    assert len(frame) == (probabilities.max(axis=1) >= confidence).sum()
    for row in frame.to_dict("records"):
        distribution = {name: row[f"p:{name}"] for name in names}
        assert max(distribution.values()) == row["confidence"] == distribution[row["label"]]
