"""How good frozen backbones are for the photos: heads on their features, cross-validated."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fovsfe.arrays import Float32s, Floats, Ints
from fovsfe.callbacks import Progress, no_progress
from fovsfe.context import RunContext
from fovsfe.ensemble.blend import at_temperature
from fovsfe.ensemble.fitting import fit_temperature
from fovsfe.ensemble.metrics import log_losses
from fovsfe.networks.layers import set_train_mode, unfreeze_layers
from fovsfe.networks.network import Network, build_network, inverse_roots
from fovsfe.recipe import MemberSettings
from fovsfe.training.device import Device
from fovsfe.training.discriminant import SHRINKAGES, best_temperature, heads_by_shrinkage
from fovsfe.training.features import Features, frozen_features, photo_features

MOST_JUDGED = 20_000  # photos that heads are judged on: all their features are in memory
TIMED_PHOTOS = 8  # of what is timed
REPETITIONS = 2  # of which the faster counts
REGULARIZATION = 0.01  # of a temperature: next to none, so that how sure a mean is of itself does not count


@dataclass(frozen=True, eq=False)
class Probe:
    """What a frozen backbone's features are worth, and what they cost."""

    member: MemberSettings
    out_of_fold: Floats
    """(n, classes): each photo by a head that was fitted without it"""
    y_true: Ints
    """(n,)"""
    seconds: float
    """of one photo, forward"""
    head_seconds: float
    """of the heads, of all folds"""

    @property
    def log_loss(self) -> float:
        """The mean log loss."""
        return mean_log_loss([self])

    @property
    def accuracy(self) -> float:
        """The share of photos whose most likely label is right."""
        return float((self.out_of_fold.argmax(axis=1) == self.y_true).mean())


def mean_log_loss(probes: Sequence[Probe]) -> float:
    """Returns the log loss of the probes' mean, at the temperature that is best for it: a mean says less than
    it knows, the more so the more its parts differ."""
    y_true = probes[0].y_true
    blended = calibrated_mean([each.out_of_fold for each in probes], y_true)
    return float(log_losses(blended, y_true).mean())


def calibrated_mean(probabilities: Sequence[Floats] | Floats, y_true: Ints) -> Floats:
    """Returns the mean of (members, n, classes), at the temperature that is best for the labels (n,)."""
    blended = np.mean(probabilities, axis=0)
    return at_temperature(blended, fit_temperature(blended, y_true, regularization=REGULARIZATION))


@dataclass(frozen=True)
class Prober:
    """Probes members whose backbones stay as they are, on some of a run's photos."""

    context: RunContext
    device: Device
    positions: Ints
    """the labelled photos to probe on, among the readable ones"""
    _seconds: dict[tuple[str, tuple[int, int], float | None], float] = field(default_factory=dict)
    """of a photo, by backbone, size and the share of the layers that are trained; None: forward only"""

    def probe(self, member: MemberSettings, progress: Progress = no_progress) -> Probe:
        """Probes a member.

        On all labelled photos, the features of all photos are left in the run's cache, where training finds
        them, and linear heads are tried beside the member's own, root heads, on at most MOST_JUDGED of them:
        the probe's member has the better ones. Raises FovsfeError if the cache cannot be written.
        """
        context, positions = self.context, self.positions
        network, members = self._build(member), [member]
        photos = context.resized_photos(member)
        file, started = context.feature_cache(member), time.monotonic()
        was_cached = file.exists()  # before the run was interrupted
        if len(positions) == (context.readable["split"] == "train").sum():
            limit = context.recipe.photos.cache_gb * 1e9
            photos = photos.cached(context.photo_cache(member), limit, no_progress)
            cached = frozen_features(self.device, network, photos, file, progress)
            count = len(photos)
            positions = positions[:: math.ceil(len(positions) / MOST_JUDGED)]
            members.append(member.model_copy(update={"head": "linear"}))
            features = _plain_and_mirrored(cached, positions)
        else:
            features = photo_features(self.device, network, photos, positions, progress)
            count = len(positions)
        seconds = self.forward_seconds(member) if was_cached else (time.monotonic() - started) / (2 * count)
        folds = context.readable["fold"].to_numpy(np.int64)[positions]
        y_true = context.y_true(positions)
        started = time.monotonic()
        probes: list[Probe] = []
        for each in members:
            inputs = torch.from_numpy(features)
            if each.head == "root":
                inputs = inputs * inverse_roots(inputs)
            out_of_fold = cross_validate_heads(inputs, y_true, len(context.facts.class_names), folds)
            probes.append(Probe(each, out_of_fold[folds >= 0], y_true[folds >= 0], seconds, 0.0))
        best = min(probes, key=lambda probe: probe.log_loss)
        return replace(best, head_seconds=time.monotonic() - started)

    @torch.no_grad()
    def forward_seconds(self, member: MemberSettings) -> float:
        """Measures, once, the seconds of one photo, forward."""
        key = member.backbone, member.size, None
        if key not in self._seconds:
            network = self._build(member).eval()
            self._seconds[key] = self._fastest(member, lambda photos: network(photos))
        return self._seconds[key]

    def step_seconds(self, member: MemberSettings, layer_share: float) -> float:
        """Measures, once, the seconds of one photo in a training step with `layer_share` (0 to 1) of the
        layers."""
        key = member.backbone, member.size, layer_share
        if key not in self._seconds:
            network = self._build(member)
            unfreeze_layers(network, layer_share)
            set_train_mode(network)
            self._seconds[key] = self._fastest(
                member, lambda photos: network(photos).square().mean().backward()
            )
        return self._seconds[key]

    def _build(self, member: MemberSettings) -> Network:
        context = self.context
        classes = len(context.facts.class_names)
        weights = context.arguments.weights
        return self.device.move(build_network(member.backbone, member.size, member.head, classes, weights))

    def _fastest(self, member: MemberSettings, step: Callable[[Tensor], object]) -> float:
        def timed(count: int) -> float:
            photos = torch.zeros(count, *member.size, 3, dtype=torch.uint8, device=self.device.fabric.device)
            fastest = float("inf")
            for _ in range(REPETITIONS):
                started = time.monotonic()
                step(photos)
                if photos.is_cuda:
                    torch.cuda.synchronize()
                fastest = min(fastest, time.monotonic() - started)
            return fastest / count

        return self.device.within_memory(timed, TIMED_PHOTOS)


def cross_validate_heads(inputs: Tensor, y_true: Ints, num_classes: int, folds: Ints) -> Floats:
    """Returns out-of-fold probabilities (n, classes) of heads, means over plain and mirrored photos.

    The shrinkage and the temperature for a fold's photos are the best ones for the other folds, or for
    themselves if there is but one fold. Rows of photos that are in no fold are 0.

    Args:
        inputs: (n, 2, width), what a linear layer gets of the photos, plain and mirrored.
        folds: (n,), each photo's fold; -1 for those that only train.
    """
    labels = torch.from_numpy(y_true)
    targets = torch.eye(num_classes)[labels]
    logits = torch.zeros(len(SHRINKAGES), len(labels), 2, num_classes)
    folds_there = np.unique(folds[folds >= 0])
    for fold in folds_there:
        rest, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        both = inputs[rest].flatten(0, 1), targets[rest].repeat_interleave(2, 0)
        for index, head in enumerate(heads_by_shrinkage([both])):
            logits[index, held_out] = head.logits(inputs[held_out])
    result = torch.zeros(len(labels), num_classes)
    for fold in folds_there:
        others = np.flatnonzero((folds >= 0) & ((folds != fold) | (len(folds_there) == 1)))
        held_out = np.flatnonzero(folds == fold)
        best = [best_temperature(each[others, 0], labels[others]) for each in logits]
        index = min(range(len(best)), key=lambda index: best[index][1])
        result[held_out] = (logits[index, held_out] / best[index][0]).softmax(-1).mean(1)
    return result.double().numpy()


def _plain_and_mirrored(features: Features, positions: Ints) -> Float32s:
    """Returns (n, 2, width) features of photos."""
    plain = np.zeros(len(positions), np.bool_)
    return torch.stack([features.rows(positions, plain), features.rows(positions, ~plain)], dim=1).numpy()
