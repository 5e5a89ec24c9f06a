"""What a student keeps of its teacher's gain over the student's network alone."""

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.metrics import Share

DRAWS = 4000  # of the bootstrap


class GainKept(BaseModel):
    """A student beside its teacher and beside its network alone, as `measure_gain_kept` returns it."""

    model_config = ConfigDict(frozen=True)

    student: Share
    """how many photos it predicts correctly"""
    teacher: Share
    alone: Share | None
    """of the network that was trained without a teacher; None: there is none"""
    kept: float | None
    """the share of the gain: 1 for a student that is as good as its teacher; None if there is none"""
    interval: tuple[float, float] | None
    """its 95% interval; None if the teacher's gain may be chance"""


def measure_gain_kept(
    teacher: Floats, student: Floats, y_true: Ints, alone: Floats | None = None
) -> GainKept:
    """Compares predictions (n, classes) for the same photos, whose true labels (n,) none was trained on.

    The interval is that of a bootstrap over the photos.
    """
    right = {
        "teacher": teacher.argmax(axis=1) == y_true,
        "student": student.argmax(axis=1) == y_true,
        **({} if alone is None else {"alone": alone.argmax(axis=1) == y_true}),
    }
    shares = {name: Share.of(flags) for name, flags in right.items()}
    kept: float | None = None
    interval: tuple[float, float] | None = None
    if alone is not None:
        gains = [right[name].astype(np.int64) - right["alone"] for name in ("teacher", "student")]
        kinds, counts = np.unique(gains, axis=1, return_counts=True)  # of photos: there are few
        if (of_teacher := kinds[0] @ counts) > 0:
            kept = float(kinds[1] @ counts / of_teacher)
            draws = np.random.default_rng(0).multinomial(len(y_true), counts / len(y_true), DRAWS)
            drawn_teacher, drawn_student = kinds @ draws.T
            if np.quantile(drawn_teacher, 0.025) > 0:
                is_gain = drawn_teacher > 0
                low, high = np.quantile(drawn_student[is_gain] / drawn_teacher[is_gain], (0.025, 0.975))
                interval = float(low), float(high)
    return GainKept(
        student=shares["student"],
        teacher=shares["teacher"],
        alone=shares.get("alone"),
        kept=kept,
        interval=interval,
    )


def gain_kept_in_words(gain: GainKept | None) -> Iterator[str]:
    """Yields what to say of a student, line by line."""
    if gain is None:
        return
    yield (
        f"beside its teacher, on the same {gain.student.photos} photos: {_in_words(gain.student)},"
        f" the teacher {_in_words(gain.teacher)}"
    )
    if gain.alone is None:
        return
    line = f"the same network without a teacher: {_in_words(gain.alone)}"
    if gain.kept is None:
        yield f"{line}; the teacher gains nothing over it"
    elif gain.interval is None:
        yield f"{line}; the student keeps {gain.kept:.0%} of what the teacher gains, which may be chance"
    else:
        low, high = gain.interval
        yield f"{line}; the student keeps {gain.kept:.0%} ({low:.0%} to {high:.0%}) of what the teacher gains"


def _in_words(share: Share) -> str:
    low, high = share.interval
    return f"{share.share:.3f} ({low:.3f} to {high:.3f})"
