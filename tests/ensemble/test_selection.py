from collections.abc import Sequence

import numpy as np
import pytest

from fovsfe.ensemble import selection as module
from fovsfe.ensemble.acceptance import Evidence
from fovsfe.ensemble.blend import BLEND_KINDS, Blend, BlendKind, softmax
from fovsfe.ensemble.metrics import log_losses
from fovsfe.ensemble.selection import BlendSelection, select_blend


def members(
    skills: Sequence[float], photos: int, num_classes: int, seed: int = 0, sharpness: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits are noise plus the skill at the truth; where sharpness equals skill, they are calibrated."""
    random = np.random.default_rng(seed)
    y_true = random.integers(0, num_classes, photos)
    logits = random.normal(size=(len(skills), photos, num_classes))
    logits[:, np.arange(photos), y_true] += np.asarray(skills)[:, None]
    return softmax(logits * sharpness), y_true


def select(probabilities: np.ndarray, y_true: np.ndarray, groups: np.ndarray | None = None) -> BlendSelection:
    names = [f"m{i}" for i in range(len(probabilities))]
    class_names = [f"car {i}" for i in range(probabilities.shape[2])]
    return select_blend(
        probabilities, y_true, names, class_names, np.arange(len(y_true)) if groups is None else groups, 0
    )


def test_equal_members_keep_the_mean_of_all() -> None:
    probabilities, y_true = members([2.0, 2.0, 2.0], 500, 10, sharpness=2.0)
    selection = select(probabilities, y_true)
    assert selection.candidates[0].name == "mean-m0+m1+m2"
    assert set(selection.blend.members) == {"m0", "m1", "m2"}
    assert selection.metrics.accuracy >= selection.candidates[0].metrics.accuracy


def test_every_kind_is_tried_over_every_subset() -> None:
    probabilities, y_true = members([2.0, 2.0, 2.0], 150, 5)
    names = [candidate.name for candidate in select(probabilities, y_true).candidates]
    assert len(set(names)) == len(names) == 7 + 3 * 4
    assert {"m0", "mean-m0+m2", "maximum-m0+m1", "precision_weighted-m1+m2", "stacking-m0+m1+m2"} < set(names)


def test_useless_members_are_outvoted() -> None:
    probabilities, y_true = members([3.0, 0.0, 0.0], 600, 10, sharpness=2.0)
    selection = select(probabilities, y_true)
    default = selection.candidates[0].metrics
    assert selection.metrics.accuracy > default.accuracy + 0.1
    assert selection.metrics.log_loss < default.log_loss - 0.1
    assert selection.blend.name in selection.reasons[0]
    assert "more than chance would explain" in selection.reasons[0]


def test_the_selection_holds_on_fresh_photos() -> None:
    probabilities, y_true = members([2.5, 1.5, 0.5], 4500, 8, sharpness=3.0)
    selection = select(probabilities[:, :500], y_true[:500])
    picked = [int(name[1:]) for name in selection.blend.members]
    fresh = selection.blend.apply(probabilities[picked, 500:])
    default = Blend(kind="mean", members=("m0", "m1", "m2")).apply(probabilities[:, 500:])
    low, high = selection.metrics.interval
    assert low <= (fresh.argmax(axis=1) == y_true[500:]).mean() <= high
    assert log_losses(fresh, y_true[500:]).mean() < log_losses(default, y_true[500:]).mean() - 0.2
    assert log_losses(fresh, y_true[500:]).mean() == pytest.approx(selection.metrics.log_loss, abs=0.15)


@pytest.mark.parametrize("kind", BLEND_KINDS)
def test_no_prediction_depends_on_the_labels_it_is_evaluated_on(kind: BlendKind) -> None:
    probabilities, y_true = members([2.0, 1.0, 0.5], 120, 4, sharpness=8.0)
    folds = np.arange(120) % 5
    other_labels = np.where(folds == 0, (y_true + 1) % 4, y_true)
    predictions = []
    for labels in (y_true, other_labels):
        data = module._CrossValidationData(probabilities, labels, folds)
        out_of_fold, calibrated = module._cross_validate(
            kind, (0, 2), ("a", "b", "c"), data, module._regularization_by_fold(data)
        )
        assert calibrated == (kind != "stacking")
        predictions.append(out_of_fold)
    assert (predictions[0][folds == 0] == predictions[1][folds == 0]).all()
    if kind != "mean":
        assert (predictions[0][folds == 1] != predictions[1][folds == 1]).any()


def test_no_regularization_depends_on_the_fold_it_is_evaluated_on() -> None:
    probabilities, y_true = members([2.0, 2.0, 2.0], 200, 4, sharpness=2 / 3)
    folds = np.where(np.arange(200) < 100, 0, 1 + np.arange(200) % 4)
    other_labels = np.where(folds == 0, 0, y_true)
    before, after = (
        module._CrossValidationData(probabilities, labels, folds) for labels in (y_true, other_labels)
    )
    assert module._select_regularization(before) != module._select_regularization(after)
    assert module._regularization_by_fold(before)[0] == module._regularization_by_fold(after)[0]


def test_pure_noise_is_at_chance_for_every_candidate() -> None:
    y_true = np.arange(60) % 6
    accuracies: dict[str, list[float]] = {}
    for seed in range(6):
        noise, _ = members([0.0, 0.0, 0.0], 60, 6, seed=seed)
        for candidate in select(noise, y_true).candidates:
            accuracies.setdefault(candidate.name, []).append(candidate.metrics.accuracy)
            assert candidate.metrics.log_loss > np.log(6) - 0.05, candidate.name
    standard_error = np.sqrt(1 / 6 * 5 / 6 / (6 * 60))
    for name, shares in accuracies.items():
        assert np.mean(shares) < 1 / 6 + 3 * standard_error, name


def test_noise_rarely_replaces_the_default() -> None:
    # members alike: with the best of 19 taken at face value, the default would lose nearly always
    replaced = 0
    for seed in range(12):
        y_true = np.random.default_rng(seed).integers(0, 4, 120)
        same, _ = members([0.0], 120, 4, seed=seed + 100, sharpness=0.5)
        selection = select(
            softmax(np.log(same) + np.random.default_rng(seed).normal(size=(3, 120, 4)) * 0.3), y_true
        )
        replaced += selection.blend.name != selection.candidates[0].name
    assert replaced <= 2


def test_temperature_is_kept_only_where_it_helps() -> None:
    probabilities, y_true = members([2.0], 2000, 6, sharpness=6.0)
    too_sure = select(probabilities, y_true)
    assert too_sure.candidates[0].calibrated
    assert too_sure.blend.temperature == pytest.approx(3.0, rel=0.15)
    assert too_sure.metrics.calibration_error < 0.05
    assert any("temperature 3" in reason or "temperature 2" in reason for reason in too_sure.reasons)


def test_the_same_seed_gives_the_same_selection() -> None:
    probabilities, y_true = members([2.0, 1.0], 200, 5)
    first, second = select(probabilities, y_true), select(probabilities, y_true)
    assert first.blend == second.blend
    assert first.candidates == second.candidates
    assert first.reasons == second.reasons


def test_many_members_are_searched_greedily() -> None:
    probabilities, y_true = members([2.0] * 8, 200, 5, sharpness=2.0)
    selection = select(probabilities, y_true)
    means = [c for c in selection.candidates if c.kind == "mean"]
    assert len(means) == 8 * 9 // 2
    assert len(selection.candidates[0].members) == 8
    assert sum(len(c.members) == 1 for c in means) == 8


def test_one_member_alone_works() -> None:
    probabilities, y_true = members([2.0], 60, 3)
    selection = select(probabilities, y_true)
    assert selection.blend.name == "m0"
    assert selection.untouched.shape == (60, 3)


def test_too_few_photos_give_the_plain_mean() -> None:
    probabilities, _ = members([2.0, 2.0], 4, 4)
    selection = select(probabilities, np.arange(4))
    assert selection.blend.kind == "mean"
    assert selection.blend.temperature == 1
    assert "too few" in selection.reasons[0]


def test_a_label_with_one_photo_is_no_trouble(recwarn: pytest.WarningsRecorder) -> None:
    probabilities, y_true = members([2.0, 2.0], 80, 5)
    y_true[y_true == 4] = 0
    y_true[0] = 4
    assert len(select(probabilities, y_true).candidates) == 6
    assert not recwarn.list


def test_the_figures_of_the_selection_are_those_of_its_answers() -> None:
    probabilities, y_true = members([2.0, 1.0], 300, 5)
    selection = select(probabilities, y_true)
    assert log_losses(selection.untouched, y_true).mean() == pytest.approx(selection.metrics.log_loss)
    assert sum(each.photos for each in selection.metrics.bins) == len(y_true)


def test_test_time_augmentation_is_a_candidate_like_any_other() -> None:
    probabilities, y_true = members([2.0, 2.0], 400, 6, sharpness=2.0)
    better, _ = members([3.0, 3.0], 400, 6, sharpness=2.0)
    names, labels, groups = ("m0", "m1"), list("abcdef"), np.arange(400)
    helped = select_blend(probabilities, y_true, names, labels, groups, 0, with_tta=better)
    assert helped.has_tta
    assert "with tta" in helped.reasons[0] and "among 12 candidates" in helped.reasons[0]
    assert helped.candidates[0].metrics.accuracy == pytest.approx(
        (better.mean(axis=0).argmax(axis=1) == y_true).mean()
    )
    assert not select_blend(better, y_true, names, labels, groups, 0, with_tta=probabilities).has_tta


def test_the_headline_is_of_what_is_selected_without_each_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, y_true = members([2.0, 2.0], 150, 4)
    asked, first_alone = {}, select(probabilities[:1], y_true).untouched

    def untouched(evidence: Evidence, folds: np.ndarray, seed: int) -> np.ndarray:
        asked["folds"], asked["candidates"] = len(set(folds)), len(evidence.losses)
        return np.arange(150) % 2  # the mean of both members, and the first alone

    monkeypatch.setattr(module, "selected_without_each", untouched)
    selection = select(probabilities, y_true)
    assert asked == {"folds": 10, "candidates": 6}
    assert (selection.untouched[0] == selection.cross_validated_by_kind["mean"][0]).all()
    assert selection.untouched[1] == pytest.approx(first_alone[1])
    assert selection.metrics.log_loss == pytest.approx(log_losses(selection.untouched, y_true).mean())


def test_round_2_keeps_what_round_1_selected() -> None:
    probabilities, y_true = members([3.0, 0.0, 0.0], 300, 6, sharpness=2.0)
    other, _ = members([0.0, 3.0, 0.0], 300, 6, sharpness=2.0)
    names, labels, groups = ("m0", "m1", "m2"), list("abcdef"), np.arange(300)
    first = select_blend(probabilities, y_true, names, labels, groups, 0)
    second = select_blend(other, y_true, names, labels, groups, 0, selected_before=first.selected)
    assert first.blend.name != first.candidates[0].name
    assert (second.blend.kind, second.blend.members) == (first.blend.kind, first.blend.members)
    assert second.selected is first.selected
    assert [each.name for each in second.candidates] == [each.name for each in first.candidates]
    assert second.metrics.accuracy < first.metrics.accuracy - 0.1
    assert (
        second.reasons[0]
        == f"{first.blend.name}: as in round 1, so that the rounds are compared like with like"
    )


def test_the_selected_blend_is_there_as_cross_validated() -> None:
    probabilities, y_true = members([3.0, 0.0, 0.0], 300, 6, sharpness=2.0)
    selection = select(probabilities, y_true)
    figures = next(each.metrics for each in selection.candidates if each.name == selection.blend.name)
    assert log_losses(selection.cross_validated, y_true).mean() == pytest.approx(figures.log_loss)


def unbalanced(photos: int, rarity: float, metric_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated members that have learned that the latter half of the labels is rare."""
    random = np.random.default_rng(metric_seed)
    frequencies = np.array([1, 1, 1, rarity, rarity, rarity])
    frequencies /= frequencies.sum()
    y_true = random.choice(6, photos, p=frequencies)
    logits = random.normal(size=(2, photos, 6)) * 0.5 + random.normal(size=(photos, 6)) * 0.8
    logits[:, np.arange(photos), y_true] += 2
    return softmax(2 * logits + np.log(frequencies)), y_true


def test_rare_labels_are_found_by_a_correction_for_how_frequent_labels_are() -> None:
    probabilities, y_true = unbalanced(500, 0.1)
    by = {
        metric: select_blend(probabilities, y_true, ("a", "b"), list("uvwxyz"), np.arange(500), 0, metric)
        for metric in ("accuracy", "balanced", "f1")
    }
    assert by["balanced"].blend.kind in ("prior_corrected", "stacking")
    recalls = by["accuracy"].metrics.recall.values()
    assert by["balanced"].metrics.score > sum(recalls) / len(recalls) + 0.03
    for metric in ("balanced", "f1"):
        tried = [each.name for each in by[metric].candidates]
        assert {"prior_corrected-a", "prior_corrected-b", "prior_corrected-a+b"} < set(tried)
        assert "prior_corrected" in [each.kind for each in by[metric].fitted]
    assert not any(each.kind == "prior_corrected" for each in by["accuracy"].candidates)
    assert "prior_corrected" not in by["accuracy"].cross_validated_by_kind


def test_nothing_is_corrected_where_labels_are_equally_frequent() -> None:
    selected = []
    for seed in range(10):
        probabilities, y_true = unbalanced(300, 1.0, seed)
        selection = select_blend(
            probabilities, y_true, ("a", "b"), list("uvwxyz"), np.arange(300), 0, "balanced"
        )
        selected.append(selection.blend.kind)
    assert selected.count("prior_corrected") <= 1


def test_the_metric_decides_what_is_blended_and_selected() -> None:
    random = np.random.default_rng(0)
    y_true = np.where(random.random(1500) < 0.92, 0, 1)
    logits = random.normal(size=(2, 1500, 2))
    logits[:, np.arange(1500), y_true] += 0.8
    logits[:, :, 0] += 2.4  # both members have learned how rare the second label is
    probabilities = softmax(logits)
    by = {
        metric: select_blend(probabilities, y_true, ("a", "b"), ("x", "y"), np.arange(1500), 0, metric)
        for metric in ("accuracy", "balanced", "f1", "logloss")
    }
    assert by["balanced"].metrics.recall["y"] > by["accuracy"].metrics.recall["y"] + 0.3
    assert by["balanced"].blend.kind == "stacking"
    assert by["accuracy"].metrics.accuracy > by["balanced"].metrics.accuracy
    recalls = by["balanced"].metrics.recall
    assert by["balanced"].metrics.score == pytest.approx((recalls["x"] + recalls["y"]) / 2)
    assert by["logloss"].metrics.score == pytest.approx(by["logloss"].metrics.log_loss)
    assert "balanced accuracy" in by["balanced"].reasons[0]


def test_a_blend_is_set_beside_the_best_member_alone() -> None:
    probabilities, y_true = members([2.0, 2.0, 2.0], 800, 6, sharpness=2.0)
    selection = select(probabilities, y_true)
    (words,) = [reason for reason in selection.reasons if "alone" in reason]
    assert "more than chance would explain" in words and "no more" not in words
