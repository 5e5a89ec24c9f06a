"""networks.licences: what weights may be used for is known from the table or from timm, or not at all."""

import pytest
import timm

from fovsfe.errors import FovsfeError
from fovsfe.networks.backbones import known_backbones
from fovsfe.networks.licences import find_licence, find_licences, is_permissive, require_licences

RESTRICTED = "convnextv2_atto.fcmae"  # which the table does not have


def test_the_table_says_what_may_be_used() -> None:
    for row in known_backbones().values():
        assert (find_licence(row.name), is_permissive(row.name)) == (row.licence, row.commercial)


@pytest.mark.parametrize(
    ("backbone", "licence", "permissive"),
    [
        ("test_resnet", "apache-2.0", True),
        ("dla34.in1k", "bsd-3-clause", True),
        (RESTRICTED, "cc-by-nc-4.0", False),
        ("res2net50_14w_8s.in1k", None, False),  # "unknown"
        ("test_resnet.no_such_weights", None, False),
    ],
)
def test_else_timm_says_it(backbone: str, licence: str | None, permissive: bool) -> None:
    assert (find_licence(backbone), is_permissive(backbone)) == (licence, permissive)


def test_only_known_licences_are_told_and_none_without_weights() -> None:
    names = ["test_resnet", "res2net50_14w_8s.in1k", RESTRICTED]
    assert find_licences("hub", names) == {"test_resnet": "apache-2.0", RESTRICTED: "cc-by-nc-4.0"}
    assert find_licences("none", names) == {}


def test_weights_that_may_not_be_used_are_named() -> None:
    names = ["test_resnet", RESTRICTED, "res2net50_14w_8s.in1k", RESTRICTED]
    named = rf"{RESTRICTED} \(cc-by-nc-4.0\), res2net50_14w_8s.in1k \(no known licence\); .* --licence any"
    for weights in ("hub", "folder"):
        with pytest.raises(FovsfeError, match=named):
            require_licences(weights, names, "permissive")
        require_licences(weights, names, "any")
        require_licences(weights, names[:1], "permissive")
    require_licences("none", names, "permissive")


def test_a_backbone_that_timm_has_not_is_no_matter_of_licences() -> None:
    assert not timm.is_model("test_resnett")
    with pytest.raises(FovsfeError, match='timm has no backbone "test_resnett"'):
        require_licences("hub", ["test_resnett"], "permissive")
