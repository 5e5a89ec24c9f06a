"""search.probing: out-of-fold predictions of heads on frozen features, and what they cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from fovsfe.networks.network import build_network
from fovsfe.recipe import MemberSettings
from fovsfe.search import probing
from fovsfe.search.probing import Probe, Prober, cross_validate_heads, mean_log_loss
from fovsfe.training import discriminant
from fovsfe.training.device import Device

MEMBER = MemberSettings(backbone="test_resnet", size=(64, 96), stages=(0,))


@pytest.fixture
def prober(make_context):
    context = make_context()
    return Prober(context, Device("fp32"), context.positions(context.readable["split"] == "train"))


def probabilities(*rows):
    return np.array(rows, np.float64)


def probe(out_of_fold, y_true, name="one"):
    member = MEMBER.model_copy(update={"name": name})
    return Probe(member, probabilities(*out_of_fold), np.array(y_true), 0.1, 0.1)


# ---- figures


def test_figures_of_a_probe_and_of_a_mean():
    one = probe([[0.8, 0.2], [0.6, 0.4]], [0, 1])
    other = probe([[0.4, 0.6], [0.2, 0.8]], [0, 1])
    assert one.accuracy == other.accuracy == 0.5
    assert mean_log_loss([one, other]) < -np.log(0.6) < one.log_loss  # the mean is right about both


@pytest.mark.parametrize("confidence", [0.55, 0.7, 0.999])
def test_how_sure_a_probe_is_does_not_count(confidence):
    found = probe([[confidence, 1 - confidence]] * 1000, [0] * 700 + [1] * 300)
    assert found.log_loss == pytest.approx(-(0.7 * np.log(0.7) + 0.3 * np.log(0.3)), abs=2e-3)


# ---- heads


@pytest.fixture
def only_one(monkeypatch):
    """One shrinkage and one temperature, so that nothing is chosen."""
    for module in (probing, discriminant):
        monkeypatch.setattr(module, "SHRINKAGES", (0.4,))
    monkeypatch.setattr(discriminant, "TEMPERATURES", (2.0,))


def features_of(labels, width=8):
    random = np.random.default_rng(0)
    means = random.normal(size=(labels.max() + 1, 1, width))
    return (means[labels] + random.normal(size=(len(labels), 2, width))).astype(np.float32)


LABELS = np.arange(60) % 3
FOLDS = np.arange(60) // 3 % 4


@pytest.mark.usefixtures("only_one")
def test_each_photo_is_predicted_by_a_head_that_has_not_seen_its_fold():
    features = features_of(LABELS)
    out_of_fold = cross_validate_heads(torch.from_numpy(features), LABELS, 3, FOLDS)
    for fold in range(4):
        rest = fold != FOLDS
        reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.4)
        reference.fit(features[rest].reshape(-1, 8), LABELS[rest].repeat(2))
        scores = features[~rest].reshape(-1, 8) @ reference.coef_.T + reference.intercept_
        expected = torch.from_numpy(scores / 2).softmax(-1).view(-1, 2, 3).mean(1)
        np.testing.assert_allclose(out_of_fold[~rest], expected, atol=1e-3)
    np.testing.assert_allclose(out_of_fold.sum(1), 1, rtol=1e-5)


@pytest.mark.usefixtures("only_one")
def test_labels_of_a_fold_do_not_change_its_predictions():
    features, changed = features_of(LABELS), np.where(FOLDS == 1, (LABELS + 1) % 3, LABELS)
    one, other = (
        cross_validate_heads(torch.from_numpy(features), labels, 3, FOLDS) for labels in (LABELS, changed)
    )
    np.testing.assert_array_equal(one[FOLDS == 1], other[FOLDS == 1])
    assert not np.allclose(one[FOLDS != 1], other[FOLDS != 1], atol=1e-3)


def test_photos_in_no_fold_train_and_are_not_predicted():
    folds = np.where(FOLDS == 0, 0, -1)
    out_of_fold = cross_validate_heads(torch.from_numpy(features_of(LABELS)), LABELS, 3, folds)
    assert not out_of_fold[folds < 0].any()
    assert (out_of_fold[folds == 0].argmax(1) == LABELS[folds == 0]).mean() > 0.6


def test_shrinkage_and_temperature_of_a_fold_are_chosen_by_the_others(monkeypatch):
    """Those of random labels are the ones that say the least, whatever the labels of the fold itself."""
    random = np.random.default_rng(1).permutation(LABELS)
    features = features_of(LABELS)
    blind = cross_validate_heads(torch.from_numpy(features), random, 3, FOLDS)
    assert blind.max() < 0.75
    seeing = cross_validate_heads(torch.from_numpy(features), LABELS, 3, FOLDS)
    assert seeing.max() > 0.9
    chosen = []
    original = probing.best_temperature

    def note(logits, labels):
        chosen.append(len(labels))
        return original(logits, labels)

    monkeypatch.setattr(probing, "best_temperature", note)
    cross_validate_heads(torch.from_numpy(features), LABELS, 3, FOLDS)
    assert set(chosen) == {45}


# ---- probes


def test_all_labelled_photos_leave_their_features_where_training_finds_them(prober):
    context, calls = prober.context, []
    found = prober.probe(MEMBER, lambda *call: calls.append(call))
    photos = len(context.readable)
    assert calls[-1] == (photos, photos)
    file = context.feature_cache(MEMBER)
    network = build_network("test_resnet", MEMBER.size, "linear", 3, context.arguments.weights).eval()
    width = network.backbone.head_hidden_size
    saved = np.fromfile(file, np.float32).reshape(photos, 2, width)
    shown = torch.from_numpy(np.stack([context.resized_photos(MEMBER)[index] for index in range(photos)]))
    with torch.no_grad():
        for mirrored in (0, 1):
            expected = network.features(shown.flip(2) if mirrored else shown)
            np.testing.assert_allclose(saved[:, mirrored], expected, atol=1e-4)
    val = context.val_idx
    assert found.member == MEMBER
    assert list(found.y_true) == list(context.y_true(val))
    labelled = prober.positions
    folds = context.readable["fold"].to_numpy()[labelled]
    expected = cross_validate_heads(torch.from_numpy(saved[labelled]), context.y_true(labelled), 3, folds)
    np.testing.assert_allclose(found.out_of_fold, expected, atol=1e-6)
    assert found.accuracy > 0.8
    assert found.seconds > 0 and found.head_seconds > 0


@pytest.mark.parametrize("better", ["root", "linear"])
def test_the_better_one_of_two_heads_is_the_member_s(prober, monkeypatch, better):
    given = {}

    def right_if_better(inputs, y_true, num_classes, folds):
        head = "linear" if given else "root"
        given[head] = inputs
        shown = y_true if head == better else np.zeros_like(y_true)
        return np.eye(num_classes)[shown] * 0.7 + 0.1

    monkeypatch.setattr(probing, "cross_validate_heads", right_if_better)
    found = prober.probe(MEMBER.model_copy(update={"head": "root"}))
    assert (found.member.head, found.accuracy) == (better, 1.0)
    features = given["linear"]
    torch.testing.assert_close(given["root"], features.sign() * features.abs().sqrt(), atol=1e-3, rtol=0)


def test_of_some_photos_nothing_is_kept(prober):
    some = prober.positions[::3]
    found = replace(prober, positions=some).probe(MEMBER)
    assert len(found.y_true) == len(found.out_of_fold) == len(some)
    assert not prober.context.feature_cache(MEMBER).exists()


def test_held_out_photos_are_what_a_probe_is_judged_by(make_context):
    context = make_context(split={"holdout": 0.3})
    labelled = context.positions(context.readable["split"] == "train")
    found = Prober(context, Device("fp32"), labelled).probe(MEMBER)
    assert list(found.y_true) == list(context.y_true(context.val_idx))
    assert 0 < len(found.y_true) < len(labelled)
    np.testing.assert_allclose(found.out_of_fold.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_costs_are_measured_in_seconds_of_a_photo(prober, share):
    assert 0 < prober.forward_seconds(MEMBER) < 10
    assert 0 < prober.step_seconds(MEMBER, share) < 10


def test_what_a_photo_costs_is_measured_once(prober, monkeypatch):
    measured = prober.forward_seconds(MEMBER), prober.step_seconds(MEMBER, 1.0)
    monkeypatch.setattr(Prober, "_build", lambda *given: pytest.fail("measured again"))
    some = replace(prober, positions=prober.positions[:9])
    assert (some.forward_seconds(MEMBER), some.step_seconds(MEMBER, 1.0)) == measured
