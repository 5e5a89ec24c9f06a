"""One answer out of many members: what a blend is, and how it is applied. Needs numpy and pydantic only."""

from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Floats = NDArray[np.float64]
BlendKind = Literal["mean", "maximum", "precision", "stacking"]
BLEND_KINDS: tuple[BlendKind, ...] = get_args(BlendKind)

SMALLEST = 1e-7
"""Probabilities are taken to be at least this before a logarithm, as float32 may round them to 0."""


class Blend(BaseModel):
    """How the members' probabilities become one answer.

    "mean", "maximum" and "precision" (a member weighs what its precision for the label is) are the reference
    team's three. "stacking" is a log-linear pool, softmax over labels of sum_m weights[m] * log p[m] + bias:
    multinomial logistic regression on log-probabilities with one coefficient a member. `temperature` divides
    the logarithm of the blended probabilities (Guo et al. 2017, https://arxiv.org/abs/1706.04599). An answer
    whose highest probability is under `threshold` means "not one of these".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: BlendKind
    members: tuple[str, ...] = Field(min_length=1)
    precisions: tuple[tuple[FiniteFloat, ...], ...] = ()
    """(members, classes), for "precision" only"""
    weights: tuple[FiniteFloat, ...] = ()
    """(members,), for "stacking" only"""
    bias: tuple[FiniteFloat, ...] = ()
    """(classes,), for "stacking" only"""
    temperature: FiniteFloat = Field(default=1.0, gt=0)
    threshold: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _has_its_parameters(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"a member is named twice: {self.members}")
        of_precision = len(self.members) if self.kind == "precision" else 0
        of_stacking = len(self.members) if self.kind == "stacking" else 0
        if len(self.precisions) != of_precision or len({len(row) for row in self.precisions}) > 1:
            raise ValueError(f"a {self.kind} blend needs {of_precision} equal rows of precisions")
        if len(self.weights) != of_stacking or bool(self.bias) != bool(of_stacking):
            raise ValueError(f"a {self.kind} blend needs {of_stacking} weights and their bias")
        return self

    @property
    def name(self) -> str:
        """The same for the same kind and members, fit for a file name."""
        return blend_name(self.kind, self.members)

    def apply(self, probabilities: Floats) -> Floats:
        """(members, n, classes), in the order of `members` -> float64 (n, classes), every row sums to 1.

        Raises ValueError when the shape is not the blend's.
        """
        if probabilities.ndim != 3 or len(probabilities) != len(self.members):
            raise ValueError(f"{probabilities.shape} is not (members, n, classes) of {self.members}")
        members = np.asarray(probabilities, dtype=np.float64)
        if self.kind == "mean":
            blended = members.mean(axis=0)
        elif self.kind == "maximum":
            blended = members.max(axis=0)
        elif self.kind == "precision":
            blended = (members * self._parameters(self.precisions, members)[:, None, :]).sum(axis=0)
        else:
            pooled = np.tensordot(np.asarray(self.weights), log_probabilities(members), axes=1)
            blended = softmax(pooled + self._parameters(self.bias, members))
        return at_temperature(blended / blended.sum(axis=1, keepdims=True), self.temperature)

    def is_known(self, probabilities: Floats) -> NDArray[np.bool_]:
        """Blended (n, classes) -> bool (n,): False where the answer is "not one of these"."""
        return np.asarray(probabilities.max(axis=1) >= self.threshold)

    @staticmethod
    def _parameters(values: tuple[float, ...] | tuple[tuple[float, ...], ...], members: Floats) -> Floats:
        parameters = np.asarray(values)
        if parameters.shape[-1] != members.shape[-1]:
            raise ValueError(f"a blend of {parameters.shape[-1]} labels got {members.shape[-1]}")
        return parameters


def blend_name(kind: BlendKind, members: tuple[str, ...]) -> str:
    """ "mean", ("a", "b") -> "mean-a+b"; one member alone goes by its own name."""
    return members[0] if len(members) == 1 and kind == "mean" else f"{kind}-{'+'.join(members)}"


def log_probabilities(probabilities: Floats) -> Floats:
    """Natural logarithms, finite also where a probability is 0. Any shape."""
    return np.log(np.maximum(probabilities, SMALLEST))


def softmax(logits: Floats, labels_axis: int = -1) -> Floats:
    """Any shape -> the same shape, not negative, summing to 1 over the labels."""
    exponentials = np.exp(logits - logits.max(axis=labels_axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=labels_axis, keepdims=True))


def at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """(n, classes) -> (n, classes): over 1 less sure of itself, under 1 surer; 1 changes nothing."""
    return probabilities if temperature == 1 else softmax(log_probabilities(probabilities) / temperature)
