"""Photos of plain colours with some wrong labels and strangers, and features as a backbone might give."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovsfe.review.journal import Journal
from fovsfe.review.material import Evidence, Photos, _evidence
from fovsfe.review.session import Session

LABELS = ("blue", "green", "red", "violet", "yellow")
EACH, SWAPPED, STRANGERS, WIDTH = 40, 25, 10, 32
STRANGER = "stranger"


@dataclass(frozen=True)
class Planted:
    """Photos, and what they truly show: id -> label, or STRANGER."""

    photos: Photos
    evidence: Evidence
    truth: dict[str, str]


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """200 photos of five labels, 25 under another, and 10 of something else."""
    root, random = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    centres = 3 * random.normal(size=(len(LABELS), WIDTH))
    wrong = set(random.permutation(EACH * len(LABELS))[:SWAPPED].tolist())
    rows, features, truth = [], [], {}
    for index in range(EACH * len(LABELS) + STRANGERS):
        label = index % len(LABELS)
        given = (label + 1 + int(random.integers(len(LABELS) - 1))) % len(LABELS) if index in wrong else label
        is_stranger = index >= EACH * len(LABELS)
        centre = 12 * random.normal(size=WIDTH) if is_stranger else centres[label]
        features.append(centre + 1.6 * random.normal(size=WIDTH))
        name = f"{LABELS[given]}/{index:03}.png"
        (root / LABELS[given]).mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).save(root / name)
        sha256 = hashlib.sha256((root / name).read_bytes()).hexdigest()
        rows.append((name, name, "train", LABELS[given], index, 40, 30, sha256))
        truth[name] = STRANGER if is_stranger else LABELS[label]
    columns = ["id", "path", "split", "label", "group", "width", "height", "sha256"]
    photos = Photos(root, pd.DataFrame(rows, columns=columns), LABELS, ())
    predicted = np.full((len(rows), len(LABELS)), np.nan)
    evidence = _evidence(photos, [np.array(features, np.float32)], predicted)
    return Planted(photos, evidence, truth)


@pytest.fixture
def fixes(tmp_path: Path) -> Path:
    """Where corrections go."""
    return tmp_path / "fixes.csv"


@pytest.fixture
def make_session(planted: Planted, fixes: Path) -> Iterator[Callable[[], Session]]:
    """Begins a review of these photos, as starting the program does; the one before is ended."""
    journals: list[Journal] = []

    def make() -> Session:
        for journal in journals:
            journal.close()
        journals.append(Journal(fixes))
        return Session(planted.photos, planted.evidence, journals[-1])

    yield make
    for journal in journals:
        journal.close()
