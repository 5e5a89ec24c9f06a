"""The sections that show photos: a sheet of them, augmentation, the worst mistakes, possible label errors."""

import base64
from collections import Counter

import numpy as np
import pandas as pd
from markupsafe import Markup

from fovsfe.report.audit_page import render_findings
from fovsfe.report.augmentation_sheet import augmentation_sheet
from fovsfe.report.cams import cams_for_photos
from fovsfe.report.charts import class_balance_chart, photo_sizes_chart
from fovsfe.report.label_errors import find_label_errors
from fovsfe.report.run_data import RunData, mistakes
from fovsfe.report.sections import Section
from fovsfe.report.thumbnails import SIDE, thumbnail

# Thumbnails are most of the file: one of 160 pixels takes some 6 kB, one of 320 some 17.
SHEET_PHOTOS = 240  # of all labels
SHEET_PHOTOS_PER_LABEL = 6
AUGMENTED_PHOTOS = 4
MAX_MISTAKES, MAX_CAMS = 60, 20
MISTAKE_SIDE = 320  # pixels
MAX_LABEL_ERRORS = 30


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


def label_pair(run_data: RunData, label: str, predicted: str) -> str:
    """Returns what a mistake is known by where the page filters them: the positions of both labels."""
    return f"{run_data.class_names.index(label)}-{run_data.class_names.index(predicted)}"


def mistakes_section(run_data: RunData) -> Section | None:
    """Shows the most confident mistakes, with heat maps of the evidence for the predicted label."""
    if run_data.reported is None:
        return None
    wrong = mistakes(run_data)
    worst = wrong[:MAX_MISTAKES]
    worst = worst.assign(sha256=worst["path"].map(run_data.sha256))
    first = worst[:MAX_CAMS]
    cams = cams_for_photos(run_data.run, run_data.root, first, list(first["predicted"]))
    cams += [None] * (len(worst) - len(first))
    return {
        "wrong": len(wrong),
        "photos": run_data.reported.figures.photos,
        "has_cams": any(cams),
        "worst": [
            {
                "thumbnail": _thumbnail(run_data, mistake["path"], MISTAKE_SIDE),
                "cam": f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else None,
                "path": mistake["path"],
                "label": mistake["label"],
                "predicted": mistake["predicted"],
                "p_label": mistake["p_label"],
                "p_predicted": mistake["probability"],
                "pair": label_pair(run_data, mistake["label"], mistake["predicted"]),
            }
            for mistake, png in zip(worst.to_dict("records"), cams, strict=True)
        ],
    }


def label_errors_section(run_data: RunData) -> Section | None:
    """Shows the photos whose given label is the most likely to be wrong."""
    if run_data.reported is None:
        return None
    held_out = run_data.reported.held_out
    paths, probabilities = run_data.manifest["path"].iloc[held_out.val_idx], held_out.probabilities
    errors = find_label_errors(probabilities, held_out.y_true, MAX_LABEL_ERRORS)
    return {
        "photos": len(held_out.y_true),
        "worst": [
            {
                "thumbnail": _thumbnail(run_data, paths.iloc[error.position]),
                "path": paths.iloc[error.position],
                "label": run_data.class_names[error.label],
                "predicted": run_data.class_names[error.predicted],
                "p_label": float(probabilities[error.position, error.label]),
                "p_predicted": float(probabilities[error.position, error.predicted]),
                "pair": f"{error.label}-{error.predicted}",
            }
            for error in errors
        ],
    }
