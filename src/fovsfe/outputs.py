"""What a run leaves at its end: submissions, what more photos would bring, metrics, and the bundle."""

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fovsfe import machine
from fovsfe.arrays import Floats, Ints
from fovsfe.bundle.export import NONPHOTOS, export_seconds
from fovsfe.bundle.format import BUNDLE_FILE, MEASURED_AT_EXPORT, read_metrics
from fovsfe.bundle.run_export import MOST_NEGATIVES, RunSource, export_run
from fovsfe.callbacks import Notify
from fovsfe.context import RoundResult, RunContext
from fovsfe.ensemble.acceptance import accept_change, group_folds
from fovsfe.ensemble.averaging import AverageEstimate, estimate_average
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.gain_kept import GainKept, gain_kept_in_words, measure_gain_kept
from fovsfe.ensemble.headline import evaluated_networks, next_steps
from fovsfe.ensemble.metrics import HeadlineMetrics, accuracy, compute_metrics, headline_metrics
from fovsfe.ensemble.predictions import predictions_frame, read_predictions, write_predictions
from fovsfe.ensemble.selection import select_blend
from fovsfe.ensemble.submission import write_submission
from fovsfe.files import write_json
from fovsfe.recipe import MemberSettings
from fovsfe.report.label_errors import sure_label_errors
from fovsfe.report.sections.photos import MAX_CAMS
from fovsfe.training.features import Features
from fovsfe.training.learning_curve import DRAWS, LearningCurve, measure_learning_curve, principal_components
from fovsfe.wording import counted

LIBRARIES = (
    "fovsfe",
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "scikit-learn",
    "pillow",
    "numpy",
)

RULE = (
    "the rule: whatever is optional takes the place of the simple default, the mean of all members in round 1"
    " without test-time augmentation, only if its gain is above the noise bar, which the luckiest of all"
    " candidates without merit stays below in 95 of 100 cases"
)


OTHER_SECONDS = 15.0  # of what is not measured: writing, charts and leaving the process
MOST_OF_THE_TIME = 0.5  # that may be kept free; training gets the rest

CURVE_PHOTOS, CURVE_FOLDS = 5_000, 5  # that heads are fitted to, at most, for the learning curve
CURVE_SECONDS, CURVE_SECONDS_PER_PHOTO = 4.0, 0.001
REPORTED_PHOTOS = 510  # thumbnails of a report, at most
SECTIONS_OF_A_PHOTO = 4  # of a report, in which it may be shown
MEASURED_PHOTOS = 500  # that are blended to measure it, at most


def closing_seconds(
    context: RunContext, round_index: int, members: Sequence[MemberSettings] | None = None
) -> float:
    """Estimates the seconds from the last training of a run to its end: blends, the export and the report.

    Each member's network is exported once to measure how long that takes here, and how long a heat map of
    the report takes; random probabilities are blended; the audit has shown how long it takes to decode a
    photo on all cores at once, of which the report uses one.

    Args:
        context: a run whose photos have been audited.
        round_index: the round that comes next.
        members: those that the recipe is going to have; None: it has them.
    """
    members = context.recipe.members if members is None else members
    steps, folds = context.run.stopwatch.read(), len(context.folds)
    if "blend round 1" in steps:
        blend = steps["blend round 1"]["seconds"]
    else:
        blend = _blend_seconds(context, len(members))
    seconds = OTHER_SECONDS + blend * (context.rounds - round_index + 1)
    labelled = int((context.readable["split"] == "train").sum())
    seconds += CURVE_SECONDS + CURVE_SECONDS_PER_PHOTO * min(labelled, CURVE_PHOTOS)
    if "audit" in steps:
        shown = min(REPORTED_PHOTOS, SECTIONS_OF_A_PHOTO * len(context.manifest))
        seconds += shown * machine.cores() * steps["audit"]["seconds"] / len(context.manifest)
    for member in members:
        of_export, of_photo, of_cam = export_seconds(member, len(context.facts.class_names))
        networks = 1 if context.recipe.is_refitted(member) else folds
        shown = NONPHOTOS + (MOST_NEGATIVES if context.arguments.negatives else 0)
        pictures = shown * (1 + len(context.recipe.ensemble.tta))  # in each variant
        seconds += networks * (of_export + pictures * of_photo) + MAX_CAMS * of_cam
    return seconds


def _blend_seconds(context: RunContext, members: int) -> float:
    """Returns how long it takes to select a blend of so many members, by selecting one of random figures."""
    of_all = context.val_idx
    positions = of_all[:: -(-len(of_all) // MEASURED_PHOTOS)]
    classes = len(context.facts.class_names)
    random = np.random.default_rng(0).dirichlet(np.ones(classes), (2, members, len(positions)))
    started = time.monotonic()
    select_blend(
        random[0],
        context.y_true(positions),
        [str(member) for member in range(members)],
        context.facts.class_names,
        context.groups(positions),
        context.recipe.seed,
        context.recipe.ensemble.metric,
        random[1] if context.recipe.ensemble.tta else None,
    )
    return (time.monotonic() - started) * len(of_all) / len(positions)


def write_outputs(context: RunContext, rounds: list[RoundResult], notify: Notify) -> None:
    """Decides which round counts, and writes submissions, the predictions that the figures are of, the bundle
    and, last, metrics.json, which makes the run complete.

    Raises:
        FovsfeError: the run folder cannot be written, or as `export_run` does.
    """
    run = context.run
    val_idx, recipe = context.val_idx, context.recipe
    selected_round, reason = rounds[0], "there is one round"
    held_out_predictions = selected_round.selection.untouched
    if len(rounds) == 2:
        first, second = (each.selection for each in rounds)
        acceptance = accept_change(
            first.cross_validated,
            second.cross_validated,
            context.y_true(val_idx),
            context.groups(val_idx),
            recipe.ensemble.metric,
            recipe.seed,
            (first.untouched, second.untouched),
        )
        selected_round, reason = rounds[int(acceptance.accepted)], f"round 2 {acceptance.reason}"
        held_out_predictions = acceptance.predictions
    if (context.manifest["split"] == "test").any():
        _write_submissions(context, rounds, selected_round, notify)
    write_predictions(
        run.held_out_file,
        predictions_frame(context.ids(val_idx), context.facts.class_names, held_out_predictions),
    )
    notify("finding out what more photos would bring")
    learning_curve = _learning_curve(context, held_out_predictions)
    write_json(run.learning_curve_file, learning_curve)
    metrics = _metrics(context, rounds, selected_round, reason, held_out_predictions)
    metrics["next_steps"] = next_steps(learning_curve)
    if not (run.bundle_folder / BUNDLE_FILE).exists():
        notify("exporting the bundle")
        source = RunSource(run, context.recipe, context.facts, context.manifest, context.arguments, metrics)
        export_run(source, run.bundle_folder)
    of_bundle = read_metrics(run.bundle_folder)
    metrics["selected"] |= {key: of_bundle[key] for key in MEASURED_AT_EXPORT if key in of_bundle}
    write_json(run.metrics_file, {**metrics, "steps": run.stopwatch.read(), "versions": _versions()})


def _write_submissions(
    context: RunContext, rounds: list[RoundResult], selected_round: RoundResult, notify: Notify
) -> None:
    """Writes a submission of every member and every blend of all members, of each round's selected blend, and
    submission.csv, that of the selected round."""
    run, manifest = context.run, context.manifest
    most_frequent = str(manifest.loc[manifest["split"] == "train", "label"].mode()[0])
    test_ids = list(manifest.loc[manifest["split"] == "test", "id"])
    row_of = {photo: row for row, photo in enumerate(test_ids)}
    readable_rows = [row_of[photo] for photo in context.ids(context.test_idx)]

    def write(file: Path, blend: Blend, result: RoundResult) -> list[str]:
        facts = context.facts
        probabilities = np.full((len(test_ids), len(facts.class_names)), np.nan)
        probabilities[readable_rows] = blend.apply(_test_probabilities(context, blend, result))
        return write_submission(
            file, facts.sample, test_ids, probabilities, facts.class_names, facts.label_ids, most_frequent
        )

    for each in rounds:
        alone = [Blend(kind="mean", members=(name,)) for name in context.member_names]
        blends = {blend.name: blend for blend in alone}
        blends |= {blend.kind: blend for blend in each.selection.fitted}
        for name, blend in (blends | {"selected": each.selection.blend}).items():
            write(run.named_submission_file(f"round-{each.round_index}-{name}"), blend, each)
    filled = write(run.submission_file, selected_round.selection.blend, selected_round)
    if filled:
        notify(
            f"warning: {counted(len(filled), 'test photo')} could not be read and got the most frequent"
            f' class, "{most_frequent}": {", ".join(filled[:4])}'
        )
        run.log("filled", ids=filled, label=most_frequent)


def _test_probabilities(context: RunContext, blend: Blend, result: RoundResult) -> Floats:
    """Returns what the blend takes: (members, test, classes), the mean over each member's folds."""
    return context.select_members(blend, result.test.mean(1))


def _metrics(
    context: RunContext,
    rounds: list[RoundResult],
    selected_round: RoundResult,
    reason: str,
    held_out_predictions: Floats,
) -> dict[str, Any]:
    manifest, y_true = context.manifest, context.y_true(context.val_idx)
    selection = selected_round.selection
    headline = headline_metrics(
        held_out_predictions,
        y_true,
        context.facts.class_names,
        context.recipe.ensemble.metric,
    )
    gain_kept = _gain_kept(context, held_out_predictions)
    of_average = _estimate_average(context, selected_round, headline)
    average = None if of_average is None else of_average.model_dump(mode="json")
    return {
        "measured_on": f"{counted(len(y_true), 'photo')} with true labels",
        "photos": {
            "labelled": int((manifest["split"] == "train").sum()),
            "val": len(y_true),
            "test": int((manifest["split"] == "test").sum()),
            "unreadable": int((manifest["fault"] != "").sum()),
        },
        "class_names": list(context.facts.class_names),
        "selected": {
            "round": selected_round.round_index,
            "blend": selection.blend.name,
            "tta": list(selected_round.tta),
            **headline.model_dump(mode="json"),
            "reasons": [RULE, reason, *selection.reasons, *gain_kept_in_words(gain_kept)],
            "average": average,
            "evaluated_networks": evaluated_networks(
                len(context.folds),
                average,
                _is_refitted(context, selection.blend),
                context.recipe.search is not None,
            ),
        },
        "distillation": gain_kept and gain_kept.model_dump(mode="json"),
        "rounds": [_round_metrics(context, each) for each in rounds],
    }


def _gain_kept(context: RunContext, held_out_predictions: Floats) -> GainKept | None:
    """Returns how a student does beside its teacher and, if there is one, its network alone, on the photos
    that all have held out; None if there is no teacher, or no such photo."""
    if context.arguments.teacher is None:
        return None
    ids = context.ids(context.val_idx)
    others = [read_predictions(context.run.teacher_file).reindex(ids).to_numpy(np.float64)]
    if context.arguments.alone is not None:
        others.append(read_predictions(context.run.alone_file).reindex(ids).to_numpy(np.float64))
    rows = np.flatnonzero(~np.isnan(others).any(axis=(0, 2)))
    if not len(rows):
        return None
    of_rows = [each[rows] for each in others]
    y_true = context.y_true(context.val_idx)[rows]
    return measure_gain_kept(of_rows[0], held_out_predictions[rows], y_true, *of_rows[1:])


def _learning_curve(context: RunContext, held_out_predictions: Floats) -> dict[str, Any]:
    """Returns what learning_curve.json holds: a `LearningCurve` or, as "reason", why there is none; and as
    "label_errors" how many labels of each kind are wrong in all probability."""
    class_names, y_true = context.facts.class_names, context.y_true(context.val_idx)
    errors = sure_label_errors(held_out_predictions, y_true)
    counts = np.bincount(y_true[errors], minlength=len(class_names)).tolist()
    curve = _measure_curve(context, accuracy(held_out_predictions, y_true))
    return {
        **({"reason": curve} if isinstance(curve, str) else curve.model_dump(mode="json")),
        "label_errors": {name: count for name, count in zip(class_names, counts, strict=True) if count},
        "judged": len(y_true),
    }


def _measure_curve(context: RunContext, of_run: float) -> LearningCurve | str:
    """Returns the learning curve of a run, or why there is none, in words."""
    labelled = context.positions(context.readable["split"] == "train")
    positions = labelled[:: -(-len(labelled) // CURVE_PHOTOS)]
    plain, features = np.zeros(len(positions), np.bool_), []
    for file in sorted({context.feature_cache(member) for member in context.recipe.members}):
        if file.exists():
            rows = Features.read(file, len(context.readable)).rows(positions, plain).numpy()
            if not np.isfinite(rows).all():
                return "the features of a backbone are not finite"
            features.append(principal_components(rows))
    if not features:
        return "no member of this recipe begins with a frozen backbone on this machine"
    y_true, groups, seed = context.y_true(positions), context.groups(positions), context.recipe.seed
    folds, curve = curve_folds(y_true, groups, seed), None
    if folds is not None:
        curve = measure_learning_curve(
            np.concatenate(features, axis=1),
            y_true,
            groups,
            folds,
            context.facts.class_names,
            np.bincount(context.y_true(labelled), minlength=len(context.facts.class_names)),
            of_run,
            seed,
        )
    return curve or f"{len(positions)} photos of {len(context.facts.class_names)} labels are too few"


def curve_folds(y_true: Ints, groups: Ints, seed: int) -> list[Ints] | None:
    """Returns the folds of each draw of a learning curve, (n,) each; None if there are too few photos."""
    drawn = [group_folds(y_true, groups, seed + draw, CURVE_FOLDS) for draw in range(DRAWS)]
    folds = [each for each in drawn if each is not None]
    return folds if len(folds) == DRAWS else None


def _estimate_average(
    context: RunContext, selected_round: RoundResult, headline: HeadlineMetrics
) -> AverageEstimate | None:
    """Returns what to expect of the mean of the networks of all folds.

    Returns None without folds, without test photos that no network was trained on, as those of round 2 were,
    and if a member is refitted: there is no mean of it.
    """
    blend = selected_round.selection.blend
    is_mean = len(context.folds) > 1 and not _is_refitted(context, blend)
    if not is_mean or not len(context.test_idx) or selected_round.round_index == 2:
        return None
    by_fold = [blend.apply(context.select_members(blend, selected_round.test[:, f])) for f in context.folds]
    average = blend.apply(_test_probabilities(context, blend, selected_round))
    return estimate_average(np.stack(by_fold), average, headline.accuracy, headline.interval)


def _is_refitted(context: RunContext, blend: Blend) -> bool:
    """Returns whether a member of the blend is refitted to all labelled photos."""
    recipe = context.recipe
    return any(recipe.is_refitted(each) for each in recipe.members if each.unique_name in blend.members)


def _round_metrics(context: RunContext, result: RoundResult) -> dict[str, Any]:
    y_true, class_names = context.y_true(context.val_idx), context.facts.class_names
    member_metrics = {
        name: {
            **compute_metrics(result.out_of_fold[m], y_true, class_names).model_dump(mode="json"),
            "networks": result.network_results[name],
        }
        for m, name in enumerate(context.member_names)
    }
    blends = {
        candidate.name: {"calibrated": candidate.calibrated, **candidate.metrics.model_dump(mode="json")}
        for candidate in result.selection.candidates
    }
    return {
        "round": result.round_index,
        "members": member_metrics,
        "blends": blends,
        "selected": result.selection.blend.name,
        "tta": list(result.tta),
        "reasons": list(result.selection.reasons),
    }


def _versions() -> dict[str, str]:
    """Returns the versions of what the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
