"""The section on the networks: what they are, what their weights may be used for, and how they were found."""

from typing import Any

from fovsfe.networks.licences import find_licences
from fovsfe.recipe import MemberSettings
from fovsfe.report.run_data import RunData
from fovsfe.report.sections import Section


def networks_section(run_data: RunData) -> Section | None:
    """Lists the members and, if they were searched for, what was probed; None before there is either."""
    found = run_data.search
    probes: list[dict[str, Any]] = found["probes"] if found else []
    members = run_data.recipe.members
    if not members and not probes:
        return None
    backbones = [*(each.backbone for each in members), *(each["backbone"] for each in probes)]
    licences = find_licences(run_data.arguments["weights"], backbones)
    frozen = {each.unique_name for each in members if run_data.recipe.is_frozen(each)}
    return {
        "members": [
            {
                "name": each.unique_name,
                "backbone": each.backbone,
                "size": each.size,
                "trained": _trained(run_data, each),
                "licence": licences.get(each.backbone),
            }
            for each in members
        ],
        "is_pretrained": run_data.arguments["weights"] != "none",
        "search": found,
        "probes": [
            {**each, "licence": licences.get(each["backbone"]), "is_member": each["name"] in frozen}
            for each in sorted(probes, key=lambda each: float(each["log_loss"]))
        ],
    }


def _trained(run_data: RunData, member: MemberSettings) -> str:
    """Returns in words what of a member is trained."""
    share = max(run_data.recipe.stages_of(member))
    return (
        "its head"
        if share == 0
        else "its head and all layers"
        if share == 1
        else f"{share:.0%} of its layers"
    )
