"""training.discriminant: the heads of scikit-learn's discriminant analysis, of soft targets, too."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from fovsfe.training.discriminant import (
    SHRINKAGES,
    TEMPERATURES,
    best_temperature,
    heads_by_shrinkage,
    left_out_logits,
)

LABELS = np.array([0] * 40 + [1] * 25 + [2] * 9)


def features_of(labels, width=12, seed=0):
    """Features whose means and scales differ, far from 0 as those of some backbones are."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(labels.max() + 1, width))
    values = means[labels] + random.normal(size=(len(labels), width)) @ random.normal(size=(width, width))
    return (100 + values * np.geomspace(0.1, 3, width)).astype(np.float32)


def one_hot(labels, classes=None):
    return torch.eye(classes or int(labels.max()) + 1)[torch.from_numpy(labels)]


def fitted(features, targets):
    return list(heads_by_shrinkage([(torch.from_numpy(features), targets)]))


def same(heads, others, features, tolerance=1e-3):
    inputs = torch.from_numpy(features)
    for head, other in zip(heads, others, strict=True):
        np.testing.assert_allclose(
            head.logits(inputs).softmax(-1), other.logits(inputs).softmax(-1), atol=tolerance
        )


@pytest.mark.parametrize("labels", [LABELS, LABELS[:65]], ids=["three labels", "two labels"])
def test_the_heads_are_those_of_scikit_learn(labels):
    features = features_of(labels)
    others = features_of(labels, seed=1)
    heads = fitted(features, one_hot(labels))
    assert len(heads) == len(SHRINKAGES)
    for shrinkage, head in zip(SHRINKAGES, heads, strict=True):
        reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        reference.fit(features.astype(np.float64), labels)
        for inputs in (features, others):
            np.testing.assert_allclose(
                head.logits(torch.from_numpy(inputs)).softmax(-1), reference.predict_proba(inputs), atol=2e-3
            )


def test_they_are_as_many_and_different():
    first, *_, last = fitted(features_of(LABELS), one_hot(LABELS))
    assert not torch.allclose(first.weight, last.weight)


def test_photos_in_parts_give_the_same_heads():
    features, targets = features_of(LABELS), one_hot(LABELS)
    order = np.random.default_rng(0).permutation(len(LABELS))  # else the first part has one label alone
    parts = [
        (torch.from_numpy(features[rows]), targets[rows]) for rows in np.array_split(order, [1, 2, 30, 31])
    ]
    same(heads_by_shrinkage(parts), fitted(features, targets), features)


def test_a_soft_target_is_as_many_photos_as_it_has_labels():
    """Three quarters of one label and a quarter of another are three photos and one, of four."""
    labels = LABELS[:65]
    features, soft = features_of(labels), one_hot(labels)
    soft[0] = torch.tensor([0.75, 0.25])
    copies = np.repeat(np.arange(len(labels)), 4)
    hard = labels[copies]
    hard[3] = 1
    same(fitted(features, soft), fitted(features[copies], one_hot(hard)), features)


@pytest.mark.parametrize("classes", [3, 4], ids=["one photo of a label", "no photo of a label"])
def test_few_photos_and_constant_features_give_finite_logits(classes):
    labels = np.array([0] * 20 + [1] * 20 + [2])
    features = features_of(labels, width=200)  # more features than photos
    features[:, 5] = 3.0
    features[:, 6] = 0.0
    for head in fitted(features, one_hot(labels, classes)):
        logits = head.logits(torch.from_numpy(features))
        assert logits.isfinite().all()
        assert (logits.argmax(-1).numpy() == labels).mean() > 0.9


def test_features_that_are_all_the_same_give_the_priors():
    labels = np.array([0, 0, 0, 1])
    for head in fitted(np.full((4, 3), 7.0, np.float32), one_hot(labels)):
        np.testing.assert_allclose(
            head.logits(torch.full((1, 3), 7.0)).softmax(-1), [[0.75, 0.25]], atol=1e-4
        )


def test_a_head_is_the_linear_layer_of_its_state():
    head = fitted(features_of(LABELS), one_hot(LABELS))[0]
    layer = nn.Linear(12, 3)
    layer.load_state_dict(head.state)
    inputs = torch.from_numpy(features_of(LABELS))
    assert torch.equal(layer(inputs), head.logits(inputs))
    torch.testing.assert_close(head.at(4.0).logits(inputs), head.logits(inputs) / 4, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 40.0])
def test_the_temperature_is_the_one_with_the_lowest_loss(scale):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    temperature, loss = best_temperature(scale * logits, labels)
    cross_entropy = nn.functional.cross_entropy
    losses = {each: cross_entropy(scale * logits / each, labels).item() for each in TEMPERATURES}
    assert loss == min(losses.values()) == losses[temperature]
    nearest = min(TEMPERATURES, key=lambda each: abs(np.log(each / scale)))  # of the true one
    assert abs(TEMPERATURES.index(temperature) - TEMPERATURES.index(nearest)) <= 1


@pytest.mark.parametrize("index", range(len(SHRINKAGES)))
def test_a_photo_that_is_left_out_gets_the_logits_of_a_head_without_it(index):
    """But for what the covariance is divided by and shrunk towards, which one photo hardly changes."""
    plain, mirrored = features_of(LABELS), features_of(LABELS, seed=1) - features_of(LABELS, seed=1).mean(0)
    photos = torch.from_numpy(np.stack([plain, plain + 0.1 * mirrored], axis=1))
    labels, targets = torch.from_numpy(LABELS), one_hot(LABELS)

    def both(rows):
        return photos[rows].flatten(0, 1), targets[rows].repeat_interleave(2, 0)

    some = torch.tensor([0, 17, 50, 64, 70])
    logits = left_out_logits([both(torch.arange(len(LABELS)))], photos[some], labels[some], SHRINKAGES[index])
    with_it = list(heads_by_shrinkage([both(torch.arange(len(LABELS)))]))[index]
    for row, photo in enumerate(some):
        without = list(heads_by_shrinkage([both(torch.arange(len(LABELS)) != photo)]))[index]
        wanted, not_this = (head.logits(photos[photo, 0]) for head in (without, with_it))
        apart = (logits[row] - logits[row].mean()) - (wanted - wanted.mean())
        size = (wanted - wanted.mean()).abs().max()
        assert apart.abs().max() < 0.05 * size
        assert apart.abs().max() < 0.5 * ((not_this - not_this.mean()) - (wanted - wanted.mean())).abs().max()
