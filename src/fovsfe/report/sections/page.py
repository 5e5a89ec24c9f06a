"""Sections of the report: all of them by name, and those at its beginning and end."""

import shlex

from fovsfe.ensemble.headline import (
    baseline_warning,
    baselines_in_words,
    labels_without_validation,
    next_steps,
)
from fovsfe.recipe import to_toml
from fovsfe.report.charts import learning_curve_chart, step_seconds_chart
from fovsfe.report.run_data import RunData
from fovsfe.report.sections import Section
from fovsfe.report.sections.ablation import ablation_section, members_section
from fovsfe.report.sections.figures import (
    calibration_section,
    comparison_section,
    confusion_section,
    training_curves_section,
    unknown_section,
)
from fovsfe.report.sections.networks import networks_section
from fovsfe.report.sections.photos import (
    augmentation_section,
    mistakes_section,
    photos_section,
)
from fovsfe.storage.locations import exists


def render_sections(run_data: RunData) -> Section:
    """Returns every section by its name; None, or an empty list, for what the run does not have yet."""
    return {
        "name": run_data.run.root.resolve().name,
        "is_finished": run_data.metrics is not None,
        "summary": _summary_section(run_data),
        "next": _next_section(run_data),
        "photos": photos_section(run_data),
        "augmentation": augmentation_section(run_data),
        "training_curves": training_curves_section(run_data),
        "comparison": comparison_section(run_data),
        "confusion": confusion_section(run_data),
        "mistakes": mistakes_section(run_data),
        "calibration": calibration_section(run_data),
        "unknown": unknown_section(run_data),
        "ablation": ablation_section(run_data),
        "members": members_section(run_data),
        "networks": networks_section(run_data),
        "cost": _cost_section(run_data),
        "reproduce": _reproduce_section(run_data),
    }


def _summary_section(run_data: RunData) -> Section:
    reported = run_data.reported
    curves = [curve for each in run_data.rounds for of_member in each.curves.values() for curve in of_member]
    has_test_photos = bool((run_data.manifest["split"] == "test").any())
    selected = run_data.metrics["selected"] if run_data.metrics else {}
    return {
        "figures": reported.figures if reported else None,
        "display_name": reported.display_name if reported else "",
        "is_selected": bool(reported and reported.blend),
        "round": reported.round.round_index if reported else 0,
        "tta": selected.get("tta", []),
        "reasons": selected.get("reasons", []),
        "warning": baseline_warning(selected) if selected else None,
        "baselines": baselines_in_words(selected),
        "evaluated_networks": selected.get("evaluated_networks", ""),
        "without_validation": labels_without_validation(reported.figures.model_dump()) if reported else [],
        "labels": len(run_data.class_names),
        "seconds": run_data.seconds,
        "trained_networks": sum(curve.best_epoch is not None for curve in curves),
        # Round 2 needs test photos to label.
        "networks": run_data.networks_per_round * (run_data.recipe.rounds if has_test_photos else 1),
        "photos_are_missing": len(run_data.manifest) > 0 and not exists(run_data.root),
        "root": str(run_data.root),
    }


def _next_section(run_data: RunData) -> Section | None:
    """Says what would make the model better: more photos, of which labels, or labels that are right."""
    curve = run_data.learning_curve
    if curve is None:
        return None
    steps: Section = {"steps": next_steps(curve), "reason": curve.get("reason")}
    if "reason" in curve:
        return steps
    gains = [each["gain"] for each in curve["labels"] if each["gain"]]
    labels = [{**each, "wrong": curve["label_errors"].get(each["label"], 0)} for each in curve["labels"]]
    return {
        **steps,
        "chart": learning_curve_chart(curve),
        "heads_accuracy": curve["heads_accuracy"],
        "more": gains[0]["photos"] if gains else 0,
        "labels": sorted(labels, key=lambda each: -each["gain"]["gain"] if each["gain"] else 0.0),
    }


def _cost_section(run_data: RunData) -> Section | None:
    if not run_data.steps:
        return None
    seconds = {name: step["seconds"] for name, step in run_data.steps.items()}
    return {"chart": step_seconds_chart(seconds), "steps": run_data.steps, "seconds": run_data.seconds}


def _reproduce_section(run_data: RunData) -> Section:
    arguments = run_data.arguments
    words = ["fovsfe", "train", arguments["photos"]]
    if teacher := arguments.get("teacher"):
        words = ["fovsfe", "distil", teacher, "--student", run_data.recipe.members[0].backbone]
        words += [f"--{name}={arguments[name]}" for name in ("unlabelled", "alone") if arguments[name]]
    words += ["--recipe", str(run_data.run.recipe_file), "--weights", arguments["weights"]]
    if arguments["minutes"] is not None:
        words += ["--minutes", f"{arguments['minutes']:g}"]
    return {
        "command": shlex.join([*words, "--out", "reproduced"]),
        "recipe": to_toml(run_data.recipe),
        "versions": run_data.versions,
    }
