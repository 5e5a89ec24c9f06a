"""What of a blend is fitted to true labels: precisions, frequencies, stacking weights and temperature."""

import numpy as np
from scipy import optimize

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import Blend, BlendKind, log_probabilities, softmax

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0


def fit_blend(
    kind: BlendKind,
    names: tuple[str, ...],
    probabilities: Floats,
    y_true: Ints,
    regularization: float,
    photo_weights: Floats | None = None,
) -> Blend:
    """Returns a blend of the members `names`, fitted, at temperature 1.

    Args:
        probabilities: (members, n, classes).
        y_true: (n,), positions of true labels.
        regularization: of the stacking weights, see `fit_pool`; the other kinds do not use it.
        photo_weights: (n,), what a photo counts for stacking, 1 on average; None if all count the same.
    """
    if kind == "prior_corrected":
        bias = fit_prior_bias(y_true, probabilities.shape[2])
        return Blend(kind=kind, members=names, bias=tuple(bias.tolist()))
    if kind == "precision_weighted":
        rows = fit_precisions(probabilities, y_true).tolist()
        return Blend(kind=kind, members=names, precisions=tuple(map(tuple, rows)))
    if kind == "stacking":
        logs = log_probabilities(probabilities)
        weights, bias = fit_pool(logs, y_true, regularization, photo_weights=photo_weights)
        return Blend(kind=kind, members=names, weights=tuple(weights.tolist()), bias=tuple(bias.tolist()))
    return Blend(kind=kind, members=names)


def fit_prior_bias(y_true: Ints, num_classes: int) -> Floats:
    """Returns, for each label, minus the logarithm of its frequency among the labels `y_true` (n,).

    Each label counts as one photo more, so that none has the frequency 0.
    """
    counts = np.bincount(y_true, minlength=num_classes) + 1
    return np.asarray(-np.log(counts / counts.sum()))


def fit_precisions(probabilities: Floats, y_true: Ints) -> Floats:
    """Returns each member's precision for each label, (members, classes), of (members, n, classes) and (n,).

    A precision is smoothed towards the member's accuracy with the weight of one photo, as a label that a
    member never predicts has no precision of its own.
    """
    num_classes = probabilities.shape[2]
    precisions = np.empty((len(probabilities), num_classes))
    for member, predicted in enumerate(probabilities.argmax(axis=2)):
        correct = predicted == y_true
        prior = (correct.sum() + 1) / (len(y_true) + 2)  # never 0, so that no row of a blend sums to 0
        hits = np.bincount(predicted[correct], minlength=num_classes)
        precisions[member] = (hits + prior) / (np.bincount(predicted, minlength=num_classes) + 1)
    return precisions


def fit_pool(
    logs: Floats,
    y_true: Ints,
    regularization: float,
    with_bias: bool = True,
    photo_weights: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Returns the weights (members,) and the bias (classes,) of a log-linear pool.

    It is multinomial logistic regression with one coefficient per member, shared by all labels, and a
    bias for each label: one for every pair of inputs and labels would be hundreds of numbers fitted to a few
    hundred photos. Weights are not negative (Breiman 1996, "Stacked regressions").

    Args:
        logs: log-probabilities, (members, n, classes).
        y_true: (n,), positions of true labels.
        regularization: half of it times the squared distance from the plain geometric mean and from a bias of
            0 is added to the summed log loss.
        with_bias: False leaves the bias out; it is then empty.
        photo_weights: (n,), what each photo's log loss is multiplied by; None for 1.
    """
    num_members, num_photos, num_classes = logs.shape
    start = np.concatenate([np.full(num_members, 1 / num_members), np.zeros(num_classes if with_bias else 0)])
    # labels before photos: sums over a long last axis are several times as fast as over a short one
    flat = np.ascontiguousarray(logs.transpose(0, 2, 1)).reshape(num_members, -1)
    true_cells = y_true, np.arange(num_photos)
    counts = np.ones(num_photos) if photo_weights is None else photo_weights

    def objective(parameters: Floats) -> tuple[float, Floats]:
        logits = (parameters[:num_members] @ flat).reshape(num_classes, num_photos)
        if with_bias:
            logits += parameters[num_members:, None]
        residuals = softmax(logits, labels_axis=0)
        loss = -(counts * log_probabilities(residuals[true_cells])).sum()
        residuals[true_cells] -= 1  # probabilities less targets: the gradient of the loss by the logits
        residuals *= counts
        distance = parameters - start
        gradient = regularization * distance
        gradient[:num_members] += flat @ residuals.ravel()
        if with_bias:
            gradient[num_members:] += residuals.sum(axis=1)
        return (loss + regularization / 2 * distance @ distance) / num_photos, gradient / num_photos

    bounds = [(0, None)] * num_members + [(None, None)] * (len(start) - num_members)
    fitted = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return fitted[:num_members], fitted[num_members:]


def fit_temperature(
    probabilities: Floats, y_true: Ints, photo_weights: Floats | None = None, regularization: float = 1.0
) -> float:
    """Returns the temperature, from 0.1 to 10, at which (n, classes) have the lowest log loss, in which each
    photo counts as `photo_weights` (n,) says; None if all count the same.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599. It is a pool of one member without bias; a trace of
    regularization keeps a handful of photos, all predicted correctly, from making it infinitely confident;
    where two temperatures are only compared, it may be less.
    """
    logs = log_probabilities(probabilities)[None]
    weights, _ = fit_pool(logs, y_true, regularization, with_bias=False, photo_weights=photo_weights)
    return 1 / float(np.clip(weights[0], 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE))
