"""Blends: how the members' probabilities become one. Needs numpy and pydantic only.

A new kind of blend is a name in `BlendKind` and in `recipe.RESERVED_NAMES`, a branch in `Blend.apply` and,
if it has something to fit, one in `fitting.fit_blend`.
"""

from typing import Literal, Self, assert_never, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from fovsfe.arrays import Floats

BlendKind = Literal["mean", "maximum", "prior_corrected", "precision_weighted", "stacking"]
BLEND_KINDS: tuple[BlendKind, ...] = get_args(BlendKind)

MIN_PROBABILITY = 1e-7
"""Probabilities are raised to this before a logarithm is taken, as float32 may round them to 0."""


class Blend(BaseModel):
    """How the members' probabilities are combined.

    "mean", "maximum" and "precision_weighted" average the members' probabilities, take the highest, or weigh
    a member by its precision for the label. "prior_corrected" divides the mean by how frequent each label is
    (logit adjustment, Menon et al. 2021, https://arxiv.org/abs/2007.07314). "stacking" is a log-linear pool,
    the softmax over labels of sum_m weights[m] * log p[m] + bias: multinomial logistic regression on
    log-probabilities with one coefficient for each member. `temperature` divides the logarithm of the blended
    probabilities (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: BlendKind
    members: tuple[str, ...] = Field(min_length=1)
    precisions: tuple[tuple[FiniteFloat, ...], ...] = ()
    """(members, classes), for "precision_weighted" only"""
    weights: tuple[FiniteFloat, ...] = ()
    """(members,), for "stacking" only"""
    bias: tuple[FiniteFloat, ...] = ()
    """(classes,), for "stacking", and for "prior_corrected": minus the logarithm of each label's frequency"""
    temperature: FiniteFloat = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"a member is named twice: {self.members}")
        num_precisions = len(self.members) if self.kind == "precision_weighted" else 0
        num_weights = len(self.members) if self.kind == "stacking" else 0
        if len(self.precisions) != num_precisions or len({len(row) for row in self.precisions}) > 1:
            raise ValueError(f"a {self.kind} blend needs {num_precisions} rows of precisions of equal length")
        has_bias = self.kind in ("prior_corrected", "stacking")
        if len(self.weights) != num_weights or bool(self.bias) != has_bias:
            bias = "a" if has_bias else "no"
            raise ValueError(f"a {self.kind} blend needs {num_weights} weights and {bias} bias")
        return self

    @property
    def name(self) -> str:
        """The blend's name, of its kind and members; fit for a file name."""
        return blend_name(self.kind, self.members)

    def apply(self, probabilities: Floats) -> Floats:
        """Returns the blended probabilities, float64 (n, classes); every row sums to 1.

        `probabilities` are (members, n, classes), in the order of `members`. Raises ValueError if their shape
        does not fit the blend.
        """
        if probabilities.ndim != 3 or len(probabilities) != len(self.members):
            raise ValueError(
                f"the shape {probabilities.shape} is not (members, n, classes) of {self.members}"
            )
        probabilities = np.asarray(probabilities, dtype=np.float64)
        if self.kind == "mean":
            blended = probabilities.mean(axis=0)
        elif self.kind == "maximum":
            blended = probabilities.max(axis=0)
        elif self.kind == "prior_corrected":
            mean = log_probabilities(probabilities.mean(axis=0))
            blended = softmax(mean + self._parameters(self.bias, probabilities))
        elif self.kind == "precision_weighted":
            blended = (probabilities * self._parameters(self.precisions, probabilities)[:, None, :]).sum(
                axis=0
            )
        elif self.kind == "stacking":
            logits = np.tensordot(np.asarray(self.weights), log_probabilities(probabilities), axes=1)
            blended = softmax(logits + self._parameters(self.bias, probabilities))
        else:
            assert_never(self.kind)
        return at_temperature(blended / blended.sum(axis=1, keepdims=True), self.temperature)

    @staticmethod
    def _parameters(
        values: tuple[float, ...] | tuple[tuple[float, ...], ...], probabilities: Floats
    ) -> Floats:
        parameters = np.asarray(values)
        if parameters.shape[-1] != probabilities.shape[-1]:
            raise ValueError(
                f"a blend of {parameters.shape[-1]} classes got probabilities of {probabilities.shape[-1]}"
            )
        return parameters


def blend_name(kind: BlendKind, members: tuple[str, ...]) -> str:
    """Returns a blend's name: ("mean", ("a", "b")) -> "mean-a+b"; a member alone has its own name."""
    return members[0] if len(members) == 1 and kind == "mean" else f"{kind}-{'+'.join(members)}"


def log_probabilities(probabilities: Floats) -> Floats:
    """Returns natural logarithms, finite also for a probability of 0; any shape."""
    return np.log(np.maximum(probabilities, MIN_PROBABILITY))


def softmax(logits: Floats, labels_axis: int = -1) -> Floats:
    """Returns probabilities of the same shape as `logits`, which sum to 1 along `labels_axis`."""
    exponentials = np.exp(logits - logits.max(axis=labels_axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=labels_axis, keepdims=True))


def at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Returns (n, classes) at a temperature: above 1 less confident, below 1 more; 1 changes nothing."""
    return probabilities if temperature == 1 else softmax(log_probabilities(probabilities) / temperature)
