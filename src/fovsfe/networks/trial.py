"""Tries a member of a recipe on two photos: not every backbone takes photos of every size."""

import time
from collections.abc import Iterator

import timm
import torch

from fovsfe.errors import FovsfeError
from fovsfe.networks.layers import parameter_groups, unfreeze_layers
from fovsfe.networks.network import build_network, require_backbone
from fovsfe.recipe import MAX_SIDE, MIN_SIDE, MemberSettings

PHOTOS = 2  # the smallest batch that there is in training
LABELS = 2
# Of the sides of photos: patches and windows of transformers, and the strides of other networks.
MULTIPLES = (14, 16, 28, 32, 64)

Size = tuple[int, int]


def try_member(member: MemberSettings) -> float:
    """Takes two photos of the member's size forward and backward through its network, as in training.

    Returns:
        The seconds that it took on the CPU.

    Raises:
        FovsfeError: there is no such backbone, or it cannot be trained at this size; the line names a size
            that it takes.
    """
    require_backbone(member.backbone)
    try:
        return _pass_seconds(member, member.size)
    except Exception as error:  # whatever a backbone does with a size that it was not made for
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        size = next((size for size in _other_sizes(member) if _fits(member, size)), None)
        advice = "use another backbone" if size is None else f"it takes size = [{size[0]}, {size[1]}]"
        raise FovsfeError(
            f"member {member.unique_name}: {member.backbone} cannot be trained on photos of"
            f" {member.size[0]}x{member.size[1]}: {advice} ({reason})"
        ) from error


def _pass_seconds(member: MemberSettings, size: Size) -> float:
    with torch.random.fork_rng(devices=[]):
        network = build_network(member.backbone, size, member.head, LABELS, "none").train()
        unfreeze_layers(network, 1.0)
        parameter_groups(network, 1.0, 1.0, 0.0)  # the network must have layers that can be told apart
        photos = torch.randint(256, (PHOTOS, *size, 3), dtype=torch.uint8)
        started = time.monotonic()
        logits = network(photos)
        if logits.shape != (PHOTOS, LABELS):
            raise ValueError(f"its features are of another shape than they should be: {tuple(logits.shape)}")
        logits.square().mean().backward()
        return time.monotonic() - started


def _fits(member: MemberSettings, size: Size) -> bool:
    try:
        _pass_seconds(member, size)
    except Exception:  # as above
        return False
    return True


def _other_sizes(member: MemberSettings) -> Iterator[Size]:
    """Yields sizes that the backbone may take: near the member's, the nearest first, then its own."""
    height, width = member.size
    near = {(_nearest(height, multiple), _nearest(width, multiple)) for multiple in MULTIPLES} - {member.size}
    yield from sorted(near, key=lambda size: (abs(size[0] - height) + abs(size[1] - width), size))
    _, *own = timm.create_model(member.backbone, num_classes=0).pretrained_cfg["input_size"]
    yield own[0], own[1]


def _nearest(side: int, multiple: int) -> int:
    """Returns the multiple that is nearest to a side and that a recipe may have."""
    fewest, most = -(-MIN_SIDE // multiple), MAX_SIDE // multiple
    return multiple * min(max(round(side / multiple), fewest), most)
