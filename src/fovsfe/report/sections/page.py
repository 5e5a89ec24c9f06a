"""All sections of the report by name, and those of its beginning and end."""

import shlex

from fovsfe.recipe import to_toml
from fovsfe.report import charts
from fovsfe.report.run_data import RunData
from fovsfe.report.sections import ablation, figures, photos
from fovsfe.report.sections.selected import Section, SelectedPredictions, select_predictions


def render_sections(story: RunData) -> Section:
    """Every section by its name; None (or an empty list) for what the run has not come to yet."""
    trusted = select_predictions(story)
    return {
        "name": story.run.root.resolve().name,
        "finished": story.metrics is not None,
        "answer": _answer(story, trusted),
        "photos": photos.photos(story, trusted),
        "augmented": photos.augmented(story),
        "curves": figures.curves(story),
        "compared": figures.compared(story),
        "confusions": figures.confusions(story, trusted),
        "mistakes": photos.mistakes(story, trusted),
        "calibration": figures.calibration(story, trusted),
        "unknown": figures.unknown(story, trusted),
        "brought": ablation.brought(story),
        "members": ablation.members(story, trusted),
        "suspects": photos.label_errors(story, trusted),
        "cost": _cost(story),
        "again": _again(story),
    }


def _answer(story: RunData, trusted: SelectedPredictions | None) -> Section:
    done = sum(
        curve.kept is not None for each in story.rounds for some in each.curves.values() for curve in some
    )
    tested = bool((story.table["part"] == "test").any())
    chosen = story.metrics["chosen"] if story.metrics else {}
    return {
        "figures": trusted.figures if trusted else None,
        "title": trusted.title if trusted else "",
        "is_choice": bool(trusted and trusted.blend),
        "round": trusted.round.number if trusted else 0,
        "tta": chosen.get("tta", []),
        "reasons": chosen.get("reasons", []),
        "labels": len(story.class_names),
        "seconds": story.seconds,
        "networks_done": done,
        "networks": story.networks * (story.recipe.rounds if tested else 1),
        "photos_gone": len(story.table) > 0 and not story.photos.exists(),
        "photos": str(story.photos),
    }


def _cost(story: RunData) -> Section | None:
    if not story.steps:
        return None
    seconds = {name: step["seconds"] for name, step in story.steps.items()}
    return {"chart": charts.seconds_by_step(seconds), "steps": story.steps, "seconds": story.seconds}


def _again(story: RunData) -> Section:
    command = story.command
    words = ["fovsfe", "train", command["photos"], "--recipe", str(story.run.recipe)]
    words += ["--weights", command["weights"]]
    if command["minutes"] is not None:
        words += ["--minutes", f"{command['minutes']:g}"]
    if command["devices"] != 1:
        words += ["--devices", str(command["devices"])]
    return {
        "command": shlex.join([*words, "--out", "again"]),
        "recipe": to_toml(story.recipe),
        "versions": story.versions,
    }
