"""What is reviewed: the photos of a run, or of a folder, with the features and predictions that rank them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch

from fovsfe.arrays import Float32s, Floats, Ints
from fovsfe.context import RunContext
from fovsfe.ensemble.acceptance import group_folds
from fovsfe.ensemble.predictions import read_predictions
from fovsfe.ensemble.strangers import square_roots
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.files import read_json
from fovsfe.networks.network import build_network
from fovsfe.networks.weights import require_weights
from fovsfe.photos.audit import AuditResult, audit_photos
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.fixes import Fix, read_rows
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.listing import PhotoListing
from fovsfe.photos.manifest import readable_photos
from fovsfe.progress import Screen
from fovsfe.recipe import AboutSettings, PhotoSettings
from fovsfe.run import Run
from fovsfe.search.candidates import Candidate, find_candidates
from fovsfe.storage.locations import AnyPath, as_path, cache_root
from fovsfe.training.device import Device
from fovsfe.training.features import Features, frozen_features
from fovsfe.training.learning_curve import principal_components
from fovsfe.training.task import PREDICTIONS

NEIGHBOURS = 10  # that a photo is compared with, to tell whether it is a stranger
COMPARED = 500  # photos whose neighbours are looked for at once
FEW, OF_FEW, OF_MANY = 3000, (10, 3), (5, 1)
"""photos, and of so many or of more, in how many folds they are held out, and how often these are drawn: with
few photos, the gain of heads depends on the draw"""
LIGHT_GMACS = 1.0  # of a backbone that looks at photos of which there is no run
ACROSS = ("two labels", "in both splits", "across parts")  # findings about copies that should not be


@dataclass(frozen=True, eq=False)
class Photos:
    """The photos to review, before anything has looked at them; all positions are rows of `table`."""

    root: AnyPath
    """what paths are relative to"""
    table: pd.DataFrame
    """readable photos: id, path, split, label, group, height, width and sha256"""
    class_names: tuple[str, ...]
    copies: tuple[tuple[str, Ints], ...]
    """copies across labels or parts: what is wrong in words, and their positions"""
    tested: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """positions of the test photos that may get labels"""
    tested_probabilities: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """(tested, classes)"""
    trained_with: tuple[Fix, ...] = ()
    """the fixes that the labels have already"""
    settings: PhotoSettings = PhotoSettings()  # noqa: RUF009  # it is frozen
    about: AboutSettings = AboutSettings()  # noqa: RUF009  # it is frozen

    @property
    def labelled(self) -> Ints:
        """(n,) positions of the photos with labels."""
        return np.flatnonzero((self.table["split"] == "train").to_numpy())

    @property
    def y_given(self) -> Ints:
        """(n,) the labels of the labelled photos, as positions in the class names."""
        position = {label: index for index, label in enumerate(self.class_names)}
        return np.array([position[label] for label in self.table["label"].iloc[self.labelled]], np.int64)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of the n labelled photos, in their order."""

    folds: Ints
    """(draws, n) in which each of them is held out"""
    components: Float32s
    """(n, width) the features that heads are fitted to"""
    nearness: Floats
    """(n,) the mean cosine between a photo and those that are nearest to it, near-duplicates apart"""
    predicted: Floats
    """(n, classes) the run's predictions for held-out photos; NaN where there are none"""


def material_of_run(run: Run, screen: Screen) -> tuple[Photos, Evidence]:
    """Returns the photos of a run and what it knows of them.

    If a member is frozen and all labelled photos were held out in turn, their features are in the run;
    otherwise a backbone of the run looks at the photos once, and its features are kept in the cache.

    Raises FovsfeError if a file of the run is missing or damaged, or the features cannot be computed.
    """
    if not run.manifest_file.exists():
        raise FovsfeError(f"{run.root} has no photos yet; go on with fovsfe resume {run.root}")
    context = RunContext.open(run)
    facts, table = context.facts, context.readable
    findings = [(each["kind"], each["detail"], each["ids"]) for each in read_json(run.audit_file)]
    tested, of_tested = _tested(context)
    photos = Photos(
        facts.location,
        table,
        facts.class_names,
        _copies(table, findings),
        tested,
        of_tested,
        tuple(read_rows(str(run.fixes_file))) if run.fixes_file.exists() else (),
        context.recipe.photos,
        context.recipe.about,
    )
    labelled = photos.labelled
    predicted = np.full((len(labelled), len(facts.class_names)), np.nan)
    if run.held_out_file.exists():
        held_out = read_predictions(run.held_out_file)
        rows = held_out.index.get_indexer(pd.Index(table["id"].iloc[labelled]))
        predicted[rows >= 0] = held_out.to_numpy(np.float64)[rows[rows >= 0]]
    folds = table["fold"].to_numpy(np.int64)[labelled]
    in_turn = bool((folds >= 0).all() and folds.max() > 0)
    features = _features_in_run(context) if in_turn else []
    if not features:
        weights = context.arguments.weights
        if members := context.recipe.members:
            backbone, size = members[0].backbone, members[0].size
        else:
            candidate = _light_candidate(weights)
            backbone, size = candidate.backbone, _size(candidate, table)
        features = [_computed(photos, backbone, size, weights, screen)]
    return photos, _evidence(photos, features, predicted)


def material_of_photos(location: str, weights: str, screen: Screen) -> tuple[Photos, Evidence]:
    """Returns photos of which there is no run, after an audit, and what a light backbone makes of them.

    Args:
        location: of the photos, as `train` takes them.
        weights: where the backbone comes from, as in `RunArguments`.
        screen: shows what happens.

    Raises FovsfeError if the photos cannot be trained on, or there is no backbone.
    """
    listing = find_photos(as_path(location))
    require_weights([_light_candidate(weights).backbone], weights, screen.notify)  # an audit takes long
    progress = partial(screen.show_progress, "looking at photos")
    return material_of_audit(listing, audit_photos(listing, progress=progress), weights, screen)


def material_of_audit(
    listing: PhotoListing, audit: AuditResult, weights: str, screen: Screen
) -> tuple[Photos, Evidence]:
    """Does what `material_of_photos` does with photos that are audited already."""
    table, candidate = readable_photos(audit.table), _light_candidate(weights)
    findings = [(each.kind, each.detail, each.ids) for each in audit.findings]
    photos = Photos(listing.root, table, listing.class_names, _copies(table, findings))
    features = _computed(photos, candidate.backbone, _size(candidate, table), weights, screen)
    predicted = np.full((len(photos.labelled), len(photos.class_names)), np.nan)
    return photos, _evidence(photos, [features], predicted)


def _copies(
    table: pd.DataFrame, findings: Iterable[tuple[str, str, Sequence[str]]]
) -> tuple[tuple[str, Ints], ...]:
    row_of = {photo: row for row, photo in enumerate(table["id"])}
    found = [
        (detail, np.array([row_of[photo] for photo in ids if photo in row_of], np.int64))
        for kind, detail, ids in findings
        if kind in ACROSS
    ]
    return tuple((detail, rows) for detail, rows in found if len(rows))


def _tested(context: RunContext) -> tuple[Ints, Floats]:
    """Returns the positions of the test photos that may get labels, none if a sample submission asks for
    them, and what the members of the last round predict for them."""
    none = np.empty(0, np.int64), np.empty((0, len(context.facts.class_names)))
    if context.facts.sample is not None:
        return none
    for index in range(context.rounds, 0, -1):
        files = [context.run.member_folder(index, name) / "test.csv" for name in context.member_names]
        if files and all(file.exists() for file in files):
            frames = [read_predictions(file) for file in files]
            rows = frames[0].index.get_indexer(pd.Index(context.ids(context.test_idx)))
            return context.test_idx[rows >= 0], np.mean([frame.to_numpy() for frame in frames], axis=0)[
                rows[rows >= 0]
            ]
    return none


def _features_in_run(context: RunContext) -> list[Float32s]:
    """Returns the features (n, width) of the labelled photos by each frozen backbone of round 1."""
    folds = context.readable["fold"].to_numpy(np.int64)[context.readable["split"] == "train"]
    by_backbone: dict[tuple[str, tuple[int, int]], Float32s] = {}
    for member in context.recipe.members:
        files = [context.run.fold_folder(1, member.unique_name, fold) / PREDICTIONS for fold in context.folds]
        if not context.recipe.is_frozen(member) or not all(file.exists() for file in files):
            continue
        parts = []
        for file in files:
            with np.load(file) as saved:
                parts.append(saved["val_features"])
        features = np.empty((len(folds), parts[0].shape[1]), np.float32)
        for fold, part in enumerate(parts):
            features[folds == fold] = part
        by_backbone[member.backbone, member.size] = features
    return list(by_backbone.values())


def _light_candidate(weights: str) -> Candidate:
    """Returns the most accurate backbone at hand among the light ones. Raises FovsfeError."""
    if weights == "none":
        raise UsageError("--weights none: a pretrained backbone looks at the photos; give hub or a folder")
    candidates = find_candidates(weights, "permissive")
    light = [each for each in candidates if each.gmacs is not None and each.gmacs <= LIGHT_GMACS]
    return light[0] if light else min(candidates, key=lambda each: each.gmacs or np.inf)


def _size(candidate: Candidate, table: pd.DataFrame) -> tuple[int, int]:
    """Returns the smaller size of a backbone for photos of the table."""
    return candidate.sizes((float(table["height"].median()), float(table["width"].median())))[0]


def _computed(photos: Photos, backbone: str, size: tuple[int, int], weights: str, screen: Screen) -> Float32s:
    """Returns the features (n, width) of the labelled photos, computed once and then cached."""
    table = photos.table.iloc[photos.labelled]
    key = hashlib.sha256("\n".join([backbone, str(size), weights, *table["sha256"]]).encode()).hexdigest()
    file = cache_root() / "review" / f"{key[:32]}.features"
    resized = ResizedPhotos(
        photos.root,
        list(table["path"]),
        size,
        photos.settings.resize_mode,
        photos.settings.max_pixels,
        sha256=list(table["sha256"]),
    )
    if file.exists():
        features = Features.read(file, len(table))
    else:
        screen.notify(f"{backbone} looks at {len(table)} photos, once")
        require_weights([backbone], weights, screen.notify)
        network = build_network(backbone, size, "linear", 2, weights)
        device = Device("fp32")
        progress = partial(screen.show_progress, "looking at photos")
        features = frozen_features(device, device.move(network), resized, file, progress)
    return features.rows(np.arange(len(table)), np.zeros(len(table), np.bool_)).numpy()


def _evidence(photos: Photos, features: Sequence[Float32s], predicted: Floats) -> Evidence:
    """Returns what the features (n, width) of several backbones tell."""
    groups = photos.table["group"].to_numpy(np.int64)[photos.labelled]
    count, draws = OF_FEW if len(groups) <= FEW else OF_MANY
    drawn = [group_folds(photos.y_given, groups, seed, count) for seed in range(draws)]
    folds = [each for each in drawn if each is not None]
    if not folds:
        raise FovsfeError(f"{photos.root}: no label has three photos, too few to say which are doubtful")
    roots = [square_roots(each) for each in features]
    components = np.concatenate([principal_components(each) for each in roots], axis=1)
    return Evidence(np.stack(folds), components, _nearness(roots, groups), predicted)


def _nearness(roots: Sequence[Float32s], groups: Ints) -> Floats:
    """Returns the mean cosine (n,) between each photo and those that are nearest to it in other groups, the
    mean over several backbones (n, width)."""
    units = [torch.nn.functional.normalize(torch.from_numpy(each)) for each in roots]
    group = torch.from_numpy(groups)
    nearest = min(NEIGHBOURS, len(groups) - 1)
    result = []
    for rows in torch.split(torch.arange(len(groups)), COMPARED):
        cosines = torch.stack([each[rows] @ each.T for each in units]).mean(0)
        cosines[group[rows, None] == group] = -1
        result.append(cosines.topk(nearest).values.mean(1))
    return torch.cat(result).double().numpy()
