"""search.affordable: members for which the minutes are too few are left out, by what was measured."""

import time

import pytest

from fovsfe.search import affordable
from fovsfe.search.affordable import affordable_members
from fovsfe.search.probing import Prober

NAMES = ("test_resnet", "test_efficientnet", "test_vit")
SECONDS = dict(zip(NAMES, (0.1, 0.5, 0.2), strict=True))  # of a photo
PHOTOS, LABELLED, TEST = 46, 42, 4
SEEN = 2 * PHOTOS + 2 * (LABELLED + 2 * TEST)  # features and predictions, with flip


@pytest.fixture
def context(make_context, monkeypatch):
    monkeypatch.setattr(Prober, "forward_seconds", lambda _, member: SECONDS[member.backbone])
    monkeypatch.setattr(affordable, "closing_seconds", lambda context, index, members: 10.0 * len(members))
    weights = dict(zip(NAMES, (1.0, 4.0, 2.0), strict=True))
    members = [{"backbone": name, "size": [64, 96], "time_weight": weights[name]} for name in NAMES]
    return make_context(
        search=None, members=members, ensemble={"tta": ["flip"]}, training={"stages": [0.0, 1.0]}
    )


def needed(*names):
    return 1.5 * sum(10.0 + SEEN * SECONDS[name] for name in names)


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        (needed(*NAMES) + 1, NAMES),
        (needed(*NAMES) - 1, NAMES[1:]),  # the least weight goes first
        (needed("test_efficientnet", "test_vit") - 1, NAMES[:2]),
        (needed("test_efficientnet") - 1, ("test_resnet", "test_vit")),
        (needed("test_vit") - 1, ("test_resnet",)),
        (5.0, ("test_resnet",)),  # the cheapest, in any case
    ],
)
def test_the_members_with_the_most_weight_stay_as_long_as_they_fit(context, seconds, kept):
    members, line = affordable_members(context, time.monotonic() + seconds)
    assert tuple(member.unique_name for member in members) == kept
    left_out = ", ".join(name for name in NAMES if name not in kept)
    assert line.startswith(f"without {left_out}: too little time; ") if left_out else not line


def test_the_minutes_that_would_do_are_those_that_do(context):
    _, line = affordable_members(context, time.monotonic() + 5.0)
    minutes = int(line.split("--minutes ")[1].split()[0])
    assert affordable_members(context, time.monotonic() + 60 * minutes)[1] == ""


def test_features_that_are_cached_cost_nothing(context):
    seconds = needed(*NAMES) - 1
    file = context.feature_cache(context.recipe.members[0])
    file.parent.mkdir(parents=True)
    file.touch()
    assert affordable_members(context, time.monotonic() + seconds)[1] == ""
