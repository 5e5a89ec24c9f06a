"""What a blend learns from true labels: precisions, stacking weights, temperature, threshold."""

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from fovsfe.ensemble.blend import Blend, BlendKind, Floats, log_probabilities, softmax
from fovsfe.ensemble.metrics import Ints

COLDEST, HOTTEST = 0.1, 10.0


def fit_blend(
    kind: BlendKind, names: tuple[str, ...], probabilities: Floats, y_true: Ints, strength: float
) -> Blend:
    """(members, n, classes), (n,) -> a Blend with its parameters, at temperature 1.

    `strength` holds the stacking weights back (see `fit_pool`); the other kinds do not use it.
    """
    if kind == "precision":
        rows = fit_precisions(probabilities, y_true).tolist()
        return Blend(kind=kind, members=names, precisions=tuple(map(tuple, rows)))
    if kind == "stacking":
        weights, bias = fit_pool(log_probabilities(probabilities), y_true, strength)
        return Blend(kind=kind, members=names, weights=tuple(weights.tolist()), bias=tuple(bias.tolist()))
    return Blend(kind=kind, members=names)


def fit_precisions(probabilities: Floats, y_true: Ints) -> Floats:
    """(members, n, classes), (n,) -> (members, classes): how often a member is right when it answers a label.

    Each is drawn towards the member's accuracy by the weight of one photo, as a label that a member never
    answers has no precision of its own.
    """
    answers = probabilities.argmax(axis=2)
    num_classes = probabilities.shape[2]
    precisions = np.empty((len(answers), num_classes))
    for member, answer in enumerate(answers):
        right = answer == y_true
        prior = (right.sum() + 1) / (len(y_true) + 2)  # never 0, so that no row of a blend sums to 0
        hits = np.bincount(answer[right], minlength=num_classes)
        precisions[member] = (hits + prior) / (np.bincount(answer, minlength=num_classes) + 1)
    return precisions


def fit_pool(logs: Floats, y_true: Ints, strength: float, with_bias: bool = True) -> tuple[Floats, Floats]:
    """Logs (members, n, classes), (n,) -> weights (members,) and bias (classes,) of a log-linear pool.

    Multinomial logistic regression with one coefficient a member, shared by all labels, and a bias a label:
    one for every pair of inputs and labels would be hundreds of numbers out of a few hundred photos.
    Weights are not negative (Breiman 1996, "Stacked regressions"), and are drawn towards the plain geometric
    mean, as is the bias towards 0, by strength / 2 times the squared distance against the summed log loss.
    """
    members, photos, num_classes = logs.shape
    start = np.concatenate([np.full(members, 1 / members), np.zeros(num_classes if with_bias else 0)])
    # labels before photos: sums over a long last axis are several times as fast as over a short one
    flat = np.ascontiguousarray(logs.transpose(0, 2, 1)).reshape(members, -1)
    at_truth = y_true, np.arange(photos)

    def objective(parameters: Floats) -> tuple[float, Floats]:
        logits = (parameters[:members] @ flat).reshape(num_classes, photos)
        if with_bias:
            logits += parameters[members:, None]
        excess = softmax(logits, labels_axis=0)
        loss = -log_probabilities(excess[at_truth]).sum()
        excess[at_truth] -= 1  # the answer less the truth: the gradient of the loss by the logits
        away = parameters - start
        gradient = strength * away
        gradient[:members] += flat @ excess.ravel()
        if with_bias:
            gradient[members:] += excess.sum(axis=1)
        return (loss + strength / 2 * away @ away) / photos, gradient / photos

    bounds = [(0, None)] * members + [(None, None)] * (len(start) - members)
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:members], found[members:]


def fit_temperature(probabilities: Floats, y_true: Ints) -> float:
    """(n, classes), (n,) -> the temperature of the lowest log loss, from 0.1 to 10 (Guo et al. 2017).

    It is the pool of one member without bias; drawn towards 1 by next to nothing, which keeps a handful of
    photos, all answered rightly, from making it infinitely sure.
    """
    weights, _ = fit_pool(log_probabilities(probabilities)[None], y_true, strength=1.0, with_bias=False)
    return 1 / float(np.clip(weights[0], 1 / HOTTEST, 1 / COLDEST))


def fit_threshold(probabilities: Floats, y_true: Ints, lost: float = 0.02) -> float:
    """Unseen (n, classes), (n,) -> the confidence under which at most `lost` of the right answers lie.

    Without photos of other things, what an honest answer costs can be measured, what it catches can not. 0
    where no answer is right.
    """
    confidence: NDArray[np.float64] = probabilities.max(axis=1)[probabilities.argmax(axis=1) == y_true]
    return float(np.quantile(confidence, lost, method="lower")) if len(confidence) else 0.0
