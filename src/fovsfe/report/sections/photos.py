"""The sections that show photos: those there are, augmented ones, the worst mistakes, suspected labels."""

import base64
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.report import audit_page, charts
from fovsfe.report.augmentation_sheet import augmentation_sheet
from fovsfe.report.gradcam import cams_for_photos
from fovsfe.report.label_errors import find_label_errors
from fovsfe.report.run_data import RunData
from fovsfe.report.sections.selected import Section, SelectedPredictions
from fovsfe.report.thumbnails import SIDE, thumbnail

# Pictures are most of the file: a thumbnail of 160 pixels is some 6 kB, one of 320 some 17.
SHEET_PHOTOS = 240  # over all labels
SHEET_A_LABEL = 6
AUGMENTED = 4  # photos
MISTAKES = 20
MISTAKE_SIDE = 320
SUSPECTS = 30


def photos(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """A sheet of each label, how many and how large they are, and what the audit found."""
    if story.table.empty:
        return None
    table = story.table
    good = table[(table["part"] == "train") & (table["fault"] == "")]
    names = list(story.class_names) or list(dict.fromkeys(good["label"]))
    held_out = good["fold"] == 0 if story.recipe.split.folds == 0 else pd.Series(False, index=good.index)
    learned, judged = Counter(good["label"][~held_out]), Counter(good["label"][held_out])
    figures = trusted.figures if trusted else None
    photos = dict(list(good.groupby("label", sort=False)["path"]))
    a_label = max(1, min(SHEET_A_LABEL, SHEET_PHOTOS // len(names)))
    return {
        "labelled": int((table["part"] == "train").sum()),
        "test": int((table["part"] == "test").sum()),
        "unreadable": int((table["fault"] != "").sum()),
        "folds": story.recipe.split.folds,
        "balance": charts.class_balance({n: learned[n] for n in names}, {n: judged[n] for n in names}),
        "sizes": _sizes(table),
        "sheet": [
            {"label": name, "photos": [_picture(story, p) for p in _spread(photos[name], a_label)]}
            for name in names[:SHEET_PHOTOS]
        ],
        "labels": [
            {
                "label": name,
                "photos": learned[name] + judged[name],
                "recall": figures.recall[name] if figures else None,
                "precision": figures.precision[name] if figures else None,
            }
            for name in names
        ],
        "faults": audit_page.render_findings(
            story.photos, story.findings, table, story.recipe.photos.max_pixels
        )
        if any(finding["ids"] for finding in story.findings)
        else None,
    }


def _picture(story: RunData, path: str, side: int = SIDE) -> str:
    return thumbnail(story.photos, path, side, story.recipe.photos.max_pixels)


def _sizes(table: pd.DataFrame) -> Any:
    if "width" not in table or not (table["fault"] == "").any():
        return None
    good = table[table["fault"] == ""]
    return charts.photo_sizes(Counter(zip(good["width"].tolist(), good["height"].tolist(), strict=True)))


def _spread(paths: "pd.Series[str]", most: int) -> list[str]:
    """Some of them, from the whole range."""
    at = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    return [str(path) for path in paths.iloc[at]]


def augmented(story: RunData) -> Section | None:
    """A few photos, each as several draws of the augmentation."""
    good = story.table[(story.table["part"] == "train") & (story.table["fault"] == "")]
    rows = (
        augmentation_sheet(story.photos, _spread(good["path"], AUGMENTED), story.recipe) if len(good) else []
    )
    return {"rows": rows, "settings": story.recipe.augment} if rows else None


def mistakes(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """The wrong answers that were the surest, with maps of what spoke for them."""
    if trusted is None:
        return None
    said, y_true = trusted.answers.probabilities, trusted.answers.y_true
    given = said.argmax(axis=1)
    wrong = np.flatnonzero(given != y_true)
    worst = wrong[np.argsort(-said[wrong, given[wrong]], kind="stable")][:MISTAKES]
    photos = story.table.iloc[trusted.answers.rows[worst]]
    names = [story.class_names[i] for i in given[worst]]
    maps = cams_for_photos(story.run, story.photos, photos, names) if len(worst) else []
    return {
        "wrong": len(wrong),
        "photos": len(y_true),
        "has_maps": any(maps),
        "worst": [
            {
                "photo": _picture(story, path, MISTAKE_SIDE),
                "cam": f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else None,
                "path": path,
                "true": story.class_names[y_true[i]],
                "given": name,
                "p_given": float(said[i, given[i]]),
                "p_true": float(said[i, y_true[i]]),
            }
            for i, path, name, png in zip(worst, photos["path"], names, maps, strict=True)
        ],
    }


def label_errors(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """The photos whose given label is the least likely to be right."""
    if trusted is None:
        return None
    said, y_true = trusted.answers.probabilities, trusted.answers.y_true
    found = find_label_errors(said, y_true, SUSPECTS)
    paths = story.table["path"].iloc[trusted.answers.rows]
    return {
        "photos": len(y_true),
        "worst": [
            {
                "photo": _picture(story, paths.iloc[each.position]),
                "path": paths.iloc[each.position],
                "given": story.class_names[each.given],
                "suspected": story.class_names[each.suspected],
                "p_given": float(said[each.position, each.given]),
                "p_suspected": float(said[each.position, each.suspected]),
            }
            for each in found
        ],
    }
