"""validation: what is wrong with settings, in plain words, whatever their types."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fovsfe.validation import explain, nearest


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(gt=0)] | None = None
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.5
    word: Annotated[str, Field(max_length=3)] = ""
    only: Literal["one"] = "one"
    free: str = ""


class Moss(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sizes: Annotated[tuple[int, ...], Field(min_length=1)] | None = None


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = ()
    moss: Moss | None = None


def explanations(**raw):
    with pytest.raises(ValidationError) as caught:
        Tree.model_validate(raw)
    return explain(caught.value, Tree)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"leaf": {"count": 0}}, "leaf.count = 0: must be a whole number above 0"),
        ({"leaf": {"ratio": 1}}, "leaf.ratio = 1: must be a number of at least 0 and below 1"),
        ({"leaf": {"word": "four"}}, 'leaf.word = "four": must be text of at most 3 characters'),
        ({"leaf": {"only": "two"}}, 'leaf.only = "two": must be "one"'),
        ({"leaf": {"free": 1}}, "leaf.free = 1: must be text"),
        (
            {"leaves": [{}, {"ratio": "x"}]},
            'leaves.1.ratio = "x": must be a number of at least 0 and below 1',
        ),
        ({"leaves": 1}, "leaves = 1: must be a list of entries, each a table"),
        ({"leaf": {"cuont": 1}}, 'unknown key "leaf.cuont": did you mean "count"? allowed are count, ratio,'),
        ({"raito": 1}, 'unknown key "raito": did you mean "leaf.ratio"? allowed are leaf, leaves'),
        ({"zzz": 1}, 'unknown key "zzz": allowed are leaf, leaves'),
        # of tables and lists that need not be there
        ({"moss": 1}, "moss = 1: must be a table"),
        ({"moss": {"size": 1}}, 'unknown key "moss.size": did you mean "sizes"? allowed are sizes'),
        ({"sizes": 1}, 'unknown key "sizes": did you mean "moss.sizes"? allowed are leaf, leaves, moss'),
        ({"moss": {"sizes": []}}, "moss.sizes = []: must be a list of at least 1 entry, each a whole"),
        ({"moss": {"sizes": [1, "x"]}}, 'moss.sizes.1 = "x": must be a whole number'),
    ],
)
def test_a_fault_is_one_plain_text(raw, text):
    (found,) = explanations(**raw)
    assert found.startswith(text)


def test_each_fault_has_its_text():
    assert len(explanations(leaf={"count": 0, "ratio": 1}, zzz=1)) == 3


def test_a_long_value_is_cut():
    (text,) = explanations(leaf={"word": "x" * 1000})
    assert len(text) < 200


def test_the_nearest_of_no_similar_word_is_none():
    assert nearest("quik", ["quick", "best"]) == "quick"
    assert nearest("zzz", ["quick", "best"]) is None
