import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fovsfe.ensemble.blend import BLEND_KINDS, Blend, at_temperature, blend_name
from fovsfe.ensemble.fitting import fit_blend


def drawn(members: int, photos: int, num_classes: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(members, photos, num_classes)) * sharpness
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(2, 6), st.integers(0, 99))


@settings(deadline=None)
@given(shapes, st.sampled_from(BLEND_KINDS), st.floats(0.1, 10), st.floats(0.5, 200))
def test_rows_sum_to_one(
    shape: tuple[int, int, int, int], kind: str, temperature: float, sharpness: float
) -> None:
    members, photos, num_classes, seed = shape
    probabilities = drawn(*shape, sharpness=sharpness)
    y_true = np.random.default_rng(seed).integers(0, num_classes, photos)
    names = tuple(f"m{i}" for i in range(members))
    blend = fit_blend(kind, names, probabilities, y_true, 1.0).model_copy(update={"temperature": temperature})
    blended = blend.apply(probabilities)
    assert blended.shape == (photos, num_classes)
    assert blended.dtype == np.float64
    assert (blended >= 0).all()
    np.testing.assert_allclose(blended.sum(axis=1), 1)


@settings(deadline=None)
@given(shapes, st.sampled_from(BLEND_KINDS))
def test_the_order_of_members_does_not_matter(shape: tuple[int, int, int, int], kind: str) -> None:
    members, photos, num_classes, seed = shape
    probabilities = drawn(*shape)
    y_true = np.random.default_rng(seed).integers(0, num_classes, photos)
    order = np.random.default_rng(seed + 1).permutation(members)
    names = np.array([f"m{i}" for i in range(members)])
    plain = fit_blend(kind, tuple(names), probabilities, y_true, 1.0).apply(probabilities)
    mixed = fit_blend(kind, tuple(names[order]), probabilities[order], y_true, 1.0).apply(
        probabilities[order]
    )
    np.testing.assert_allclose(plain, mixed, atol=1e-4)


@settings(deadline=None)
@given(shapes)
def test_one_member_alone_is_left_as_it_is(shape: tuple[int, int, int, int]) -> None:
    probabilities = drawn(1, *shape[1:])
    for kind in ("mean", "maximum"):
        blended = Blend(kind=kind, members=("a",)).apply(probabilities)
        np.testing.assert_allclose(blended, probabilities[0])


def test_worked_examples_of_every_kind() -> None:
    two = np.array([[[0.8, 0.2]], [[0.4, 0.6]]])
    ab = ("a", "b")
    np.testing.assert_allclose(Blend(kind="mean", members=ab).apply(two), [[0.6, 0.4]])
    np.testing.assert_allclose(Blend(kind="maximum", members=ab).apply(two), [[0.8 / 1.4, 0.6 / 1.4]])
    corrected = Blend(kind="prior_corrected", members=ab, bias=(-np.log(0.9), -np.log(0.1)))
    np.testing.assert_allclose(corrected.apply(two), [[0.6 / 0.9 / 4.6667, 0.4 / 0.1 / 4.6667]], rtol=1e-4)
    precision = Blend(kind="precision_weighted", members=ab, precisions=((1.0, 0.5), (0.5, 1.0)))
    np.testing.assert_allclose(precision.apply(two), [[1.0 / 1.7, 0.7 / 1.7]])
    stacking = Blend(kind="stacking", members=ab, weights=(1.0, 0.0), bias=(0.0, np.log(2)))
    np.testing.assert_allclose(stacking.apply(two), [[0.8 / 1.2, 0.4 / 1.2]])


def test_a_blend_survives_json() -> None:
    blend = fit_blend("stacking", ("a", "b"), drawn(2, 30, 4, 0), np.arange(30) % 4, 1.0)
    blend = blend.model_copy(update={"temperature": 1.3})
    again = Blend.model_validate_json(blend.model_dump_json())
    assert again == blend
    assert (again.apply(drawn(2, 5, 4, 1)) == blend.apply(drawn(2, 5, 4, 1))).all()


def test_temperature_keeps_the_prediction_and_changes_its_confidence() -> None:
    blended = drawn(1, 50, 5, 0)[0]
    softer, surer = at_temperature(blended, 2.0), at_temperature(blended, 0.5)
    assert (softer.argmax(axis=1) == blended.argmax(axis=1)).all()
    assert (softer.max(axis=1) < blended.max(axis=1)).all()
    assert (surer.max(axis=1) > blended.max(axis=1)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "mean", "members": ()},
        {"kind": "mean", "members": ("a", "a")},
        {"kind": "median", "members": ("a",)},
        {"kind": "mean", "members": ("a",), "temperature": 0},
        {"kind": "mean", "members": ("a",), "weights": (1.0,)},
        {"kind": "mean", "members": ("a",), "bias": (1.0, 0.0)},
        {"kind": "prior_corrected", "members": ("a",)},
        {"kind": "prior_corrected", "members": ("a",), "weights": (1.0,), "bias": (1.0, 0.0)},
        {"kind": "precision_weighted", "members": ("a", "b"), "precisions": ((0.5, 0.5),)},
        {"kind": "precision_weighted", "members": ("a", "b"), "precisions": ((0.5, 0.5), (0.5,))},
        {"kind": "stacking", "members": ("a", "b"), "weights": (1.0, 1.0)},
        {"kind": "stacking", "members": ("a",), "weights": (float("nan"),), "bias": (0.0, 0.0)},
        {"kind": "mean", "members": ("a",), "colour": "red"},
    ],
)
def test_a_blend_without_its_parameters_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Blend.model_validate(wrong)


def test_apply_refuses_other_shapes() -> None:
    blend = Blend(kind="stacking", members=("a", "b"), weights=(1.0, 1.0), bias=(0.0, 0.0, 0.0))
    corrected = Blend(kind="prior_corrected", members=("a", "b"), bias=(0.0, 0.0, 0.0))
    for shape in [(3, 4, 3), (2, 4, 5), (4, 3)]:
        for each in (blend, corrected):
            with pytest.raises(ValueError, match="classes"):
                each.apply(np.full(shape, 0.2))


def test_names() -> None:
    assert blend_name("mean", ("a", "b")) == "mean-a+b"
    assert blend_name("mean", ("a",)) == "a"
    assert blend_name("stacking", ("a",)) == "stacking-a"


def test_the_server_gets_no_training_library_with_it() -> None:
    heavy = "{'sklearn', 'scipy', 'pandas', 'torch'} & sys.modules.keys()"
    code = f"import sys, fovsfe.ensemble.blend; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
