"""What averaging the networks of several folds gains, from how much they disagree on the test photos."""

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import optimize

from fovsfe.arrays import Floats
from fovsfe.ensemble.blend import at_temperature, log_probabilities, softmax
from fovsfe.ensemble.metrics import NORMAL_95

GAIN_ERROR = 0.2  # the share of the gain by which it may be wrong: nothing can check the probabilities
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-2, 1e3


class AverageEstimate(BaseModel):
    """The accuracy to expect of the mean of the networks of all folds, as `estimate_average` returns it."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    interval: tuple[float, float]
    """95% confidence interval"""
    test_photos: int
    """whose predictions it was estimated from"""


def estimate_average(
    by_fold: Floats, average: Floats, accuracy: float, interval: tuple[float, float]
) -> AverageEstimate:
    """Estimates the accuracy of the mean of the networks of all folds, from that of one network alone.

    Every photo with a label was trained on by all networks but one, so none shows what their mean is worth.
    The test photos were trained on by none, but have no label. Were we given true probabilities for them, any
    answer, that of the mean or that of one network, would be right as often as these say. The geometric mean
    of all networks takes their place, at the temperature at which it says of the single networks what was
    measured of them. What it then says of the mean, less that, is the gain: 0 where all networks agree. The
    interval allows for a fifth of the gain: on average the estimate was off by less where the truth was known
    (`python -m benchmarks estimates`). From their disagreement alone Jiang et al. 2022 estimate an accuracy
    (https://arxiv.org/abs/2106.13799); here it is tied to one that was measured.

    Args:
        by_fold: (folds, n, classes), of the test photos: the blend of the networks of each fold.
        average: (n, classes), of the same photos: the blend of the mean of the networks of all folds.
        accuracy: of the networks of one fold, measured on photos that they were not trained on.
        interval: its 95% confidence interval.
    """
    gains = _gains(by_fold, average, accuracy)
    estimate = min(accuracy + gains.mean(), 1.0)
    # The gain depends on the accuracy that was measured, so it has a part in how far the ends are away.
    at_ends = [end + _gains(by_fold, average, end).mean() for end in interval]
    of_gain = np.hypot(NORMAL_95 * gains.std() / np.sqrt(len(gains)), GAIN_ERROR * gains.mean())
    below, above = (
        np.hypot(max(abs(end - accuracy), abs(at_end - estimate)), of_gain)
        for end, at_end in zip(interval, at_ends, strict=True)
    )
    return AverageEstimate(
        accuracy=float(estimate),
        interval=(float(max(estimate - below, 0)), float(min(estimate + above, 1))),
        test_photos=len(average),
    )


def _gains(by_fold: Floats, average: Floats, accuracy: float) -> Floats:
    """Returns, for each photo, how much likelier the mean is to be right than one network is: (n,)."""
    rows, answers, mean_answers = np.arange(len(average)), by_fold.argmax(axis=2), average.argmax(axis=1)
    geometric_mean = softmax(log_probabilities(by_fold).mean(axis=0))

    def probability_right(log_temperature: float) -> Floats:
        """How likely the single networks' answers are to be right, (folds, n)."""
        return np.asarray(at_temperature(geometric_mean, np.exp(log_temperature))[rows, answers])

    # the higher the temperature, the less likely is any answer that most networks give
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    if probability_right(low).mean() <= accuracy:
        log_temperature = low
    elif probability_right(high).mean() >= accuracy:
        log_temperature = high
    else:
        log_temperature = optimize.brentq(
            lambda each: probability_right(each).mean() - accuracy, low, high, xtol=1e-4
        )
    probabilities = at_temperature(geometric_mean, np.exp(log_temperature))
    return np.asarray(probabilities[rows, mean_answers] - probability_right(log_temperature).mean(axis=0))
