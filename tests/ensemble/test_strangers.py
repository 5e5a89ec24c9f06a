from pathlib import Path

import numpy as np
import pytest

from fovsfe.ensemble.strangers import FeatureSpace, StrangerRule, read_spaces, write_spaces


def space(seed: int = 0, dimensions: int = 3, photos: int = 5, labels: int = 2) -> FeatureSpace:
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(8, dimensions)))[0].T
    bank = random.normal(size=(photos, dimensions))
    return FeatureSpace(
        basis=basis.astype(np.float32),
        weight=random.normal(size=(labels, dimensions)).astype(np.float32),
        bias=random.normal(size=labels).astype(np.float32),
        bank=(bank / np.linalg.norm(bank, axis=1, keepdims=True)).astype(np.float32),
        centre=np.array([1, 0.5], np.float32),
        scale=np.array([2, 0.25], np.float32),
    )


def test_measures() -> None:
    made = space()
    features = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    roots = np.sign(features) * np.abs(features) ** 0.5
    discriminant = (roots @ made.basis.T @ made.weight.T + made.bias).max(axis=1)
    nearness = (roots @ made.basis.T @ made.bank.T).max(axis=1) / np.linalg.norm(roots, axis=1)
    expected = np.stack([(discriminant - 1) / 2, (nearness - 0.5) / 0.25], axis=1)
    np.testing.assert_allclose(made.measure(features), expected, rtol=1e-4, atol=1e-4)
    stronger = made.raw_measure(9 * features)
    np.testing.assert_allclose(stronger[:, 1], nearness, rtol=1e-4, atol=1e-5)  # whatever their strength
    assert np.isfinite(made.measure(np.zeros((1, 8), np.float32))).all()


def test_a_rule() -> None:
    rule = StrangerRule(threshold=0, certainty_centre=-0.5, certainty_scale=0.5)
    sure, unsure = [1.0, 0.0], [0.5, 0.5]
    first, second = np.array([[1, -3], [1, -3]]), np.array([[3, 0], [3, 0]])
    scores = rule.scores(np.array([sure, unsure]), [first, second])
    # the certainty, the mean discriminant, the lowest nearness
    np.testing.assert_allclose(scores, [1 + 2 - 3, (-np.log(2) + 0.5) / 0.5 + 2 - 3], atol=1e-9)
    assert rule.are_known(np.array([sure, unsure]), [first, second]).tolist() == [True, False]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "strangers.npz"
    write_spaces(file, [[space(0)], [space(1), space(2, dimensions=4)]])
    read = read_spaces(file, [1, 2], 2)
    assert [len(each) for each in read] == [1, 2]
    np.testing.assert_allclose(read[1][1].basis, space(2, dimensions=4).basis, atol=1e-3)
    np.testing.assert_array_equal(read[0][0].bias, space(0).bias)
    first = file.read_bytes()
    write_spaces(file, [[space(0)], [space(1), space(2, dimensions=4)]])
    assert file.read_bytes() == first


@pytest.mark.parametrize("networks", [[2], [1, 1]])
def test_spaces_of_other_networks(tmp_path: Path, networks: list[int]) -> None:
    write_spaces(tmp_path / "strangers.npz", [[space()]])
    with pytest.raises(ValueError, match="cannot be read"):
        read_spaces(tmp_path / "strangers.npz", networks, 2)


def test_spaces_of_other_labels(tmp_path: Path) -> None:
    write_spaces(tmp_path / "strangers.npz", [[space()]])
    with pytest.raises(ValueError, match="other networks"):
        read_spaces(tmp_path / "strangers.npz", [1], 3)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "strangers.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"strangers\.npz cannot be read"):
        read_spaces(tmp_path / "strangers.npz", [1], 2)
