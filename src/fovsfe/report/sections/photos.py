"""The sections that show photos: a sheet of them, augmentation, mistakes and possible label errors."""

import base64
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from fovsfe.report.audit_page import render_findings
from fovsfe.report.augmentation_sheet import augmentation_sheet
from fovsfe.report.cams import cams_for_photos
from fovsfe.report.charts import class_balance_chart, photo_sizes_chart
from fovsfe.report.label_errors import LabelError, find_label_errors, sure_label_errors
from fovsfe.report.run_data import RunData
from fovsfe.report.sections import Section
from fovsfe.report.thumbnails import SIDE, thumbnail

# Thumbnails are most of the file: one of 160 pixels takes some 6 kB, one of 320 some 17.
SHEET_PHOTOS = 240  # of all labels
SHEET_PHOTOS_PER_LABEL = 6
AUGMENTED_PHOTOS = 4
MAX_MISTAKES, MAX_MISTAKE_BYTES = 150, 4_500_000  # at most, and what their thumbnails take of the file
FIRST_MISTAKES = 60  # that are shown before one of each pair of labels
MAX_CAMS = 20
MISTAKE_SIDE = 480  # pixels, as they can be looked at closely


def photos_section(run_data: RunData) -> Section | None:
    """Shows some photos of each label, how many and how large they are, and the audit's findings."""
    manifest = run_data.manifest
    if manifest.empty:
        return None
    usable = manifest[_is_usable(manifest)]
    folds = run_data.recipe.split.folds
    held_out = usable["fold"] == 0 if folds == 0 else pd.Series(False, index=usable.index)
    train, val = Counter(usable["label"][~held_out]), Counter(usable["label"][held_out])
    names = run_data.class_names
    figures = run_data.reported.figures if run_data.reported else None
    return {
        "labelled": int((manifest["split"] == "train").sum()),
        "test": int((manifest["split"] == "test").sum()),
        "unreadable": int((manifest["fault"] != "").sum()),
        "folds": folds,
        "class_balance": class_balance_chart({n: train[n] for n in names}, {n: val[n] for n in names}),
        "sizes": _sizes(manifest),
        "sheet": _sheet(run_data, usable),
        "labels": [
            {
                "label": name,
                "photos": train[name] + val[name],
                "recall": figures.recall[name] if figures else None,
                "precision": figures.precision[name] if figures else None,
            }
            for name in names
        ],
        "findings": _findings(run_data),
    }


def _is_usable(manifest: pd.DataFrame) -> "pd.Series[bool]":
    return (manifest["split"] == "train") & (manifest["fault"] == "")


def _sizes(manifest: pd.DataFrame) -> Markup | None:
    readable = manifest[manifest["fault"] == ""]
    if readable.empty:
        return None
    return photo_sizes_chart(Counter(zip(readable["width"], readable["height"], strict=True)))


def _sheet(run_data: RunData, usable: pd.DataFrame) -> list[Section]:
    names = run_data.class_names
    per_label = max(1, min(SHEET_PHOTOS_PER_LABEL, SHEET_PHOTOS // len(names)))
    paths = dict(list(usable.groupby("label", sort=False)["path"]))
    return [
        {
            "label": name,
            "photos": [_thumbnail(run_data, path) for path in _evenly_spaced(paths[name], per_label)]
            if name in paths
            else [],
        }
        for name in names[:SHEET_PHOTOS]
    ]


def _findings(run_data: RunData) -> Markup | None:
    if not any(finding["ids"] for finding in run_data.findings):
        return None
    recipe = run_data.recipe
    return render_findings(
        run_data.root, run_data.findings, run_data.manifest, recipe.photos.max_pixels, recipe.about
    )


def _thumbnail(run_data: RunData, path: str, side: int = SIDE) -> str:
    return thumbnail(run_data.root, path, run_data.sha256[path], side, run_data.recipe.photos.max_pixels)


def _evenly_spaced(paths: "pd.Series[str]", count: int) -> list[str]:
    """Returns at most `count` paths, evenly spaced from the first to the last."""
    positions = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [str(path) for path in paths.iloc[np.unique(positions)]]


def augmentation_section(run_data: RunData) -> Section | None:
    """Shows a few photos, each augmented several times."""
    usable = run_data.manifest[_is_usable(run_data.manifest)]
    if usable.empty:
        return None
    paths = _evenly_spaced(usable["path"], AUGMENTED_PHOTOS)
    sha256 = [run_data.sha256[path] for path in paths]
    rows = augmentation_sheet(run_data.root, paths, sha256, run_data.recipe)
    return {"rows": rows, "settings": run_data.recipe.augment} if rows else None


def mistakes_section(run_data: RunData) -> Section | None:
    """Shows mistakes, those first whose label is the most likely to be wrong, with heat maps of the evidence
    for the predicted label."""
    if run_data.reported is None:
        return None
    held_out = run_data.reported.held_out
    found = find_label_errors(held_out.probabilities, held_out.y_true)
    certain = set(sure_label_errors(held_out.probabilities, held_out.y_true).tolist())
    manifest = run_data.manifest.iloc[held_out.val_idx]
    shown = _within_bytes(run_data, manifest["path"], _most_telling(found))
    first = [mistake for mistake, _ in shown[:MAX_CAMS]]
    cams = cams_for_photos(
        run_data.run,
        run_data.root,
        manifest.iloc[[mistake.position for mistake in first]],
        [run_data.class_names[mistake.predicted] for mistake in first],
    )
    cams += [None] * (len(shown) - len(first))
    return {
        "wrong": len(found),
        "photos": run_data.reported.figures.photos,
        "cams": sum(png is not None for png in cams),
        "suspects": sum(mistake.position in certain for mistake, _ in shown),
        "shown": [
            {
                "thumbnail": picture,
                "cam": f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else None,
                "path": manifest["path"].iloc[mistake.position],
                "label": run_data.class_names[mistake.label],
                "predicted": run_data.class_names[mistake.predicted],
                "p_label": float(held_out.probabilities[mistake.position, mistake.label]),
                "p_predicted": float(held_out.probabilities[mistake.position, mistake.predicted]),
                "pair": f"{mistake.label}-{mistake.predicted}",
                "is_suspect": mistake.position in certain,
            }
            for (mistake, picture), png in zip(shown, cams, strict=True)
        ],
    }


def _most_telling(found: Sequence[LabelError]) -> list[LabelError]:
    """Returns the order in which mistakes deserve room: the first ones, then one of each pair of labels, so
    that every cell of the confusion matrix leads to a photo, then the rest."""
    first, rest = found[:FIRST_MISTAKES], found[FIRST_MISTAKES:]
    seen = {(mistake.label, mistake.predicted) for mistake in first}
    of_pairs: list[LabelError] = []
    others: list[LabelError] = []
    for mistake in rest:
        pair = mistake.label, mistake.predicted
        (others if pair in seen else of_pairs).append(mistake)
        seen.add(pair)
    return [*first, *of_pairs, *others]


def _within_bytes(
    run_data: RunData, paths: "pd.Series[str]", found: Sequence[LabelError]
) -> list[tuple[LabelError, str]]:
    """Returns as many mistakes as there is room for, with their thumbnails, the most suspicious first."""
    shown, left = [], MAX_MISTAKE_BYTES
    for mistake in found[:MAX_MISTAKES]:
        picture = _thumbnail(run_data, paths.iloc[mistake.position], MISTAKE_SIDE)
        left -= len(picture)
        if left < 0:
            break
        shown.append((mistake, picture))
    return sorted(shown, key=lambda each: -each[0].score)
