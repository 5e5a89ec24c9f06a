"""A training from top to bottom: photos, networks, blend, and perhaps a second round; then the outputs."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from fovsfe.arguments import RunArguments
from fovsfe.arrays import Floats
from fovsfe.bundle.run_export import require_negatives
from fovsfe.context import RoundResult, RunContext, require_run
from fovsfe.distillation import require_inputs, take_over
from fovsfe.ensemble.predictions import predictions_frame, write_predictions
from fovsfe.ensemble.pseudo_label import pseudo_labels
from fovsfe.ensemble.selection import BlendSelection, SelectedCandidate, select_blend
from fovsfe.errors import FovsfeError
from fovsfe.executors.executor import Executor, open_executor
from fovsfe.executors.tasks import is_trained, network_folder, network_keys, network_name, time_weights
from fovsfe.files import read_json, write_json, write_text
from fovsfe.machine import keep_freed_memory
from fovsfe.networks.licences import require_licences
from fovsfe.networks.trial import try_member
from fovsfe.networks.weights import require_weights
from fovsfe.outputs import MOST_OF_THE_TIME, closing_seconds, write_outputs
from fovsfe.photos.audit import DAMAGED_SHARD, Finding, audit_photos
from fovsfe.photos.changes import find_changes
from fovsfe.photos.fixes import Fixes, apply_fixes, read_fixes, write_fixes
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.listing import PhotoListing, describe
from fovsfe.photos.manifest import ListingFacts, write_facts, write_manifest
from fovsfe.photos.splits import assign_folds, given_folds
from fovsfe.progress import Screen
from fovsfe.recipe import MemberSettings, Recipe, load_recipe, to_toml
from fovsfe.report.report import write_report
from fovsfe.run import Run
from fovsfe.search.affordable import affordable_members
from fovsfe.search.candidates import require_candidates
from fovsfe.search.growth import Growth
from fovsfe.search.search import members_so_far, search
from fovsfe.storage.folders import Expected, synced_folder
from fovsfe.storage.locations import as_path
from fovsfe.tables import write_csv
from fovsfe.training.distributed import ProcessGroup
from fovsfe.training.task import PREDICTIONS, RESULT, Event, NetworkKey, OnNetworkEvent

FINDINGS_SHOWN = 5  # of a kind, on the screen
CLOSING_MINUTES = (
    1.0  # kept free at least, for what follows the last training, where the minutes are proposed
)
CLOSING_SHARE = 0.1  # of them, the same


def train(
    recipe: Recipe,
    arguments: RunArguments,
    location: str,
    screen: Screen,
    cluster: str | None = None,
    process_group: ProcessGroup | None = None,
) -> Run:
    """Trains a new run and leaves it complete.

    Args:
        location: where the run goes: a folder that is empty or not there yet, or a URL.
        screen: shows what happens.
        cluster: the address of a Ray cluster whose machines train the networks; None for this machine.
        process_group: the processes of a launcher that train each network together; None for this one
            alone.

    Returns:
        The run, in its folder on this machine.

    Raises:
        FovsfeError: there is something at `location` already, the photos cannot be trained on, weights are
            missing, or the folder cannot be written.
    """
    started = time.monotonic()
    with _opened_run(location, "new", screen, cluster, process_group) as (run, executor):
        listing = _begin(run, recipe, arguments, screen)
        return _complete(run, executor, screen, started, listing)


def resume(
    location: str,
    screen: Screen,
    cluster: str | None = None,
    process_group: ProcessGroup | None = None,
    weights: str | None = None,
) -> Run:
    """Does what a run has still to do, which is nothing if it is complete.

    Other arguments and the result are those of `train`.

    Args:
        weights: where pretrained weights come from now, as in `RunArguments`; None: as before.

    Raises:
        FovsfeError: there is no run at `location`, photos that it needs are gone or have changed, or as
            `train` does.
    """
    started = time.monotonic()
    with _opened_run(location, "existing", screen, cluster, process_group) as (run, executor):
        require_run(run)
        if weights is not None and not run.metrics_file.exists():
            changed = {**read_json(run.arguments_file), "weights": weights}
            write_json(run.arguments_file, changed)
        return _complete(run, executor, screen, started)


def finish(location: str, screen: Screen) -> Run:
    """Leaves a run complete with the networks that it has, and trains no other. It is then complete for good.

    What is there are the members whose networks are trained on all folds or, if there is none yet, on the
    most of them. So are frozen members whose features are cached: only their heads, a matter of seconds, have
    to be fitted. Arguments and the result are those of `resume`.

    Raises:
        FovsfeError: nothing is there yet, or as `resume` does.
    """
    started = time.monotonic()
    with _opened_run(location, "existing", screen, None, None) as (run, executor):
        require_run(run)
        return _complete(run, executor, screen, started, only_what_is_there=True)


@contextmanager
def _opened_run(
    location: str, expected: Expected, screen: Screen, cluster: str | None, process_group: ProcessGroup | None
) -> Iterator[tuple[Run, Executor]]:
    """The run in its folder on this machine, and what trains its networks."""
    with (
        open_executor(location, cluster, process_group) as executor,
        synced_folder(location, screen.notify, expected) as folder,
        screen.live(),
    ):
        yield Run(folder), executor


def _begin(run: Run, recipe: Recipe, arguments: RunArguments, screen: Screen) -> PhotoListing | None:
    """Finds out whether this can be trained, finds the photos, and makes the folder a run.

    A student takes its photos over from its teacher; then there is no listing.
    """
    if run.root.exists() and not (run.root.is_dir() and run.is_unstarted()):
        hint = (
            f"resume it: fovsfe resume {run.root}" if run.arguments_file.exists() else "choose another --out"
        )
        raise FovsfeError(f"{run.root} is not empty; {hint}")
    # First: what cannot be done leaves no run behind.
    if recipe.search is not None and not recipe.members:
        require_candidates(arguments.weights, recipe.licence)
    backbones = [member.backbone for member in recipe.members]
    require_licences(arguments.weights, backbones, recipe.licence)
    require_weights(backbones, arguments.weights, screen.notify)
    if arguments.negatives is not None:
        require_negatives(arguments.negatives)
    listing = None
    if arguments.teacher is None:
        fixes = read_fixes(arguments.fixes)
        listing = _find_photos(arguments, fixes)
        recipe = _with_given_folds(recipe, listing)
    else:
        require_inputs(arguments)
    for member in recipe.members:
        try_member(member)
    write_text(run.recipe_file, to_toml(recipe))
    if arguments.teacher is None and arguments.fixes:
        write_fixes(run.fixes_file, fixes.fixes)
    write_json(run.arguments_file, arguments.model_dump(mode="json"))
    return listing


def _complete(
    run: Run,
    executor: Executor,
    screen: Screen,
    started: float,
    listing: PhotoListing | None = None,
    only_what_is_there: bool = False,
) -> Run:
    """Does all steps of a run that are not done.

    Args:
        started: when the command began, in seconds of time.monotonic.
        listing: what was found, if the run begins now.
        only_what_is_there: train no more networks, but complete the run with those that there are.
    """
    if run.metrics_file.exists():
        if not run.report_file.exists() or run.cache_folder.exists():  # killed just before the end
            _close(run, executor, screen)
        screen.notify(f"{run.root.name} is complete")
        return run
    run.remove_unfinished_files()
    keep_freed_memory()
    started -= run.stopwatch.seconds  # of earlier sessions
    arguments = RunArguments.model_validate(read_json(run.arguments_file))
    run.log("start", **arguments.model_dump(mode="json"))
    with run.stopwatch.step("audit"):
        if run.manifest_file.exists():
            _compare_photos(run, screen)
        elif only_what_is_there:
            raise _nothing_finished(run)
        elif arguments.teacher is not None:
            take_over(run, load_recipe(str(run.recipe_file)), arguments, screen, started)
            _compare_photos(run, screen)
        else:
            _audit_and_split(run, screen, listing or _find_photos(arguments, _own_fixes(run)))
    context = RunContext.open(run)
    last_round = context.rounds
    if only_what_is_there:
        context, last_round = _reduce(context, screen)
    elif not context.recipe.members:
        context = _search(context, screen, started)
    elif context.recipe.search is None:
        context = _leave_out_unaffordable(context, screen, started)
    if listing is None:  # resumed, perhaps on another machine
        untrained = _untrained_backbones(context, last_round)
        require_weights(untrained, context.arguments.weights, screen.notify)
    if context.recipe.search is not None and run.search_file.exists() and not only_what_is_there:
        context = _grow(context, executor, screen, started)
    rounds = [_round(context, executor, screen, 1, started)]
    if last_round == 2:
        _pseudo_label(context, rounds[0])
        rounds.append(_round(context, executor, screen, 2, started, rounds[0].selection.selected))
    with run.stopwatch.step("outputs"):
        write_outputs(context, rounds, screen.notify)
    _close(run, executor, screen)
    return run


def _deadline(context: RunContext, round_index: int, started: float) -> float | None:
    """When the last network must be trained, for all that follows it to end within the minutes."""
    if context.arguments.minutes is None:
        return None
    with context.run.stopwatch.step("estimate"):
        closing = closing_seconds(context, round_index)
    seconds = 60 * context.arguments.minutes
    context.run.log("estimate", closing_seconds=round(closing, 1))
    return started + seconds - min(closing, MOST_OF_THE_TIME * seconds)


# ---- photos


def _compare_photos(run: Run, screen: Screen) -> None:
    """Compares the photos with what a resumed run remembers of them, and says what is different.

    Raises FovsfeError if it needs what has changed.
    """
    context = RunContext.open(run)
    changes = find_changes(
        lambda: _find_photos(context.arguments, _own_fixes(run)),
        context.facts,
        context.manifest,
        run.manifest_file.stat().st_mtime_ns,
    )
    if changes.lost:
        also = f"; also {changes.other}" if changes.other else ""
        raise FovsfeError(
            f"{context.facts.root}: since the run began: {changes.lost}{also}; put the photos back, or train"
            " a new run"
        )
    if changes.other:
        screen.notify(
            f"{context.facts.root}: since the run began: {changes.other}; it goes on with its own photos and"
            " labels"
        )
        run.log("photos changed", detail=changes.other)


def _find_photos(arguments: RunArguments, fixes: Fixes) -> PhotoListing:
    listing = find_photos(
        as_path(arguments.photos),
        arguments.follow_links,
        arguments.layout,
        arguments.group_by,
        arguments.encoding,
    )
    return apply_fixes(listing, fixes)


def _own_fixes(run: Run) -> Fixes:
    """The fixes that the run began with, whatever has become of the files that they were read from."""
    return read_fixes([str(run.fixes_file)] if run.fixes_file.exists() else [])


def _with_given_folds(recipe: Recipe, listing: PhotoListing) -> Recipe:
    """Returns the recipe with the folds that the photos come with, unless it pools them."""
    folds = given_folds(listing.table)
    if folds is None or recipe.split.given == "pool":
        return recipe
    return recipe.model_copy(update={"split": recipe.split.model_copy(update={"folds": folds})})


def _audit_and_split(run: Run, screen: Screen, listing: PhotoListing) -> None:
    """Audits and splits the photos, once; the manifest and the facts in dataset.json remember all that."""
    recipe = load_recipe(str(run.recipe_file))
    screen.notify(f"photos: {describe(listing)}")
    audit = audit_photos(
        listing,
        recipe.photos.max_pixels,
        lambda done, total: screen.show_progress("looking at photos", done, total),
    )
    damaged = [finding.detail for finding in audit.findings if finding.kind == DAMAGED_SHARD]
    if damaged and recipe.photos.damaged_shards == "refuse":
        more = f" and {len(damaged) - 1} more" if damaged[1:] else ""
        raise FovsfeError(
            f"{listing.root}: shard {damaged[0]}{more}; copy it again, or leave its photos out:"
            " --set photos.damaged_shards=skip"
        )
    split = recipe.split
    folds = assign_folds(audit.table, split.holdout, split.folds, recipe.seed, split.given == "keep")
    write_json(run.audit_file, [asdict(finding) for finding in audit.findings])
    write_facts(run.dataset_file, ListingFacts.of(listing))
    write_manifest(run.manifest_file, audit.table.assign(fold=folds))
    for finding in audit.findings:
        if finding.severity != "info":
            run.log("finding", **asdict(finding))
    _show_findings(audit.findings, screen)


def _show_findings(findings: Sequence[Finding], screen: Screen) -> None:
    """Shows the first findings of each kind, and how many more there are; audit.json has all."""
    counts = Counter[str]()
    for finding in findings:
        if finding.severity != "info":
            counts[finding.kind] += 1
            if counts[finding.kind] <= FINDINGS_SHOWN:
                screen.notify(_describe(finding))
    for kind, count in counts.items():
        if count > FINDINGS_SHOWN:
            screen.notify(f"{count - FINDINGS_SHOWN} more: {kind}; fovsfe check lists them")


def _describe(finding: Finding) -> str:
    shown = ", ".join(finding.ids[:4]) + (", ..." if len(finding.ids) > 4 else "")
    return f"{finding.severity}: {finding.kind}: {finding.detail} ({shown})"


# ---- networks


def _search(context: RunContext, screen: Screen, started: float) -> RunContext:
    """Finds the first members of the ensemble; from then on the run's recipe has them."""
    minutes = context.arguments.minutes
    end = None if minutes is None else started + 60 * minutes
    with context.run.stopwatch.step("search"):
        recipe, facts = search(context, end, screen)
    write_json(context.run.search_file, facts)
    if minutes is None:
        _propose_minutes(context, facts, started, screen)
    return _with_recipe(context, recipe)


def _leave_out_unaffordable(context: RunContext, screen: Screen, started: float) -> RunContext:
    """Removes, before the first network is trained, the members for which there is no time."""
    minutes = context.arguments.minutes
    if minutes is None or any(is_trained(context, key) for key in network_keys(context, 1)):
        return context
    with context.run.stopwatch.step("estimate"):
        members, line = affordable_members(context, started + 60 * minutes)
    if not line:
        return context
    screen.notify(line)
    context.run.log("left out", detail=line)
    return _with_recipe(context, context.recipe.model_copy(update={"members": members}))


def _grow(context: RunContext, executor: Executor, screen: Screen, started: float) -> RunContext:
    """Trains the members that were found and then, while there is time and a gain is expected, one more after
    the other, each of which is kept only by the one rule."""
    growth = Growth(context)
    context = _without_members(context, growth.left_out())  # killed before they were removed
    _train(context, executor, screen, 1, started)
    while not growth.is_over:
        member = growth.unjudged(context.recipe)
        if member is None:
            deadline = _deadline(context, 1, started)
            assert deadline is not None  # a search sets minutes, where nobody has
            with context.run.stopwatch.step("search"):
                trial = growth.next_trial(context, deadline)
            if isinstance(trial, str):
                screen.notify(trial)
                growth.end(trial)
                break
            screen.notify(f"trying {trial.described}")
            context, member = _with_recipe(context, trial.added_to(context.recipe)), trial.member
        try:
            _train(context, executor, screen, 1, started)
        except FovsfeError as error:  # the members before it are complete, and do not depend on it
            verdict = growth.give_up(member, error)
        else:
            verdict = growth.judge(context, member, _read_network_predictions(context, 1)[0].mean(0))
        screen.notify(verdict)
        context = _without_members(context, growth.left_out())
    return context


def _without_members(context: RunContext, names: Collection[str]) -> RunContext:
    """Removes members, and what was trained for them, from a run."""
    members = [member for member in context.recipe.members if member.unique_name not in names]
    if len(members) < len(context.recipe.members):
        context = _with_recipe(context, context.recipe.model_copy(update={"members": tuple(members)}))
    for name in names:
        shutil.rmtree(context.run.member_folder(1, name), ignore_errors=True)
    return context


def _with_recipe(context: RunContext, recipe: Recipe) -> RunContext:
    """Returns the run with another recipe, which it keeps."""
    write_text(context.run.recipe_file, to_toml(recipe))
    return RunContext.open(context.run)


def _propose_minutes(context: RunContext, facts: dict[str, Any], started: float, screen: Screen) -> None:
    """Gives the run the minutes that its plan takes, and says so; from then on it keeps to them."""
    so_far, training = (time.monotonic() - started) / 60, facts["training_seconds"] / 60
    whole = math.ceil(2 * (so_far + training + CLOSING_MINUTES) / (1 - CLOSING_SHARE)) / 2
    more = " and ".join(facts["more_time"])
    screen.notify(
        f"it will take {whole:g} minutes: {so_far:.1f} until here, {training:.1f} for training,"
        f" the rest for blend, bundle and report; more time would bring: {more or 'nothing'}"
    )
    arguments = context.arguments.model_copy(update={"minutes": whole})
    write_json(context.run.arguments_file, arguments.model_dump(mode="json"))


def _reduce(context: RunContext, screen: Screen) -> tuple[RunContext, int]:
    """Leaves, of the run, the members and folds that are trained, and says so; returns, too, its last round.

    Raises FovsfeError if nothing is trained, and then changes nothing.
    """
    run, folds = context.run, len(context.folds)
    recipe = context.recipe
    if not recipe.members:
        recipe = recipe.model_copy(update={"members": members_so_far(context)})
    context = replace(context, recipe=recipe)
    trained = [_folds_at_hand(context, index) for index in range(len(recipe.members))]
    most = max(trained, default=0)
    if not most:
        raise _nothing_finished(run)
    members = tuple(each for each, count in zip(recipe.members, trained, strict=True) if count == most)
    whole_rounds = all(is_trained(context, key) for key in network_keys(context, context.rounds))
    left_out = [each.unique_name for each in recipe.members if each not in members]
    screen.notify(
        f"complete with what is there: {', '.join(each.unique_name for each in members)}"
        + (f", on {most} of {folds} folds" if most < folds else "")
        + (f"; without {', '.join(left_out)}" if left_out else "")
        + ("; without round 2" if context.rounds == 2 and not whole_rounds else "")
    )
    run.log("finish", members=[each.unique_name for each in members], folds=most)
    if most < folds:
        rest_only_trains = context.manifest["fold"].where(context.manifest["fold"] < most, -1)
        write_manifest(run.manifest_file, context.manifest.assign(fold=rest_only_trains))
    if run.search_file.exists():  # or resume would go on with the search
        write_json(run.search_file, read_json(run.search_file) | {"ended": "finished early"})
    if folds > 1:
        split = {"folds": most} if most > 1 else {"folds": 0, "holdout": 1 / folds}
        recipe = recipe.model_copy(update={"split": recipe.split.model_copy(update=split)})
    write_text(run.recipe_file, to_toml(recipe.model_copy(update={"members": members})))
    context = RunContext.open(run)
    unhurried = context.arguments.model_copy(update={"minutes": None})
    return replace(context, arguments=unhurried), context.rounds if whole_rounds else 1


def _folds_at_hand(context: RunContext, member_index: int) -> int:
    """On how many folds, from the first on, networks of a member are trained in round 1, or nearly so."""
    member = context.recipe.members[member_index]
    if context.recipe.is_frozen(member) and context.feature_cache(member).exists():
        return len(context.folds)
    keys = [key for key in network_keys(context, 1) if key.member_index == member_index]
    return next((key.fold for key in keys if not is_trained(context, key)), len(keys))


def _nothing_finished(run: Run) -> FovsfeError:
    return FovsfeError(f"no network of {run.root} has finished; fovsfe resume {run.root} goes on")


def _round(
    context: RunContext,
    executor: Executor,
    screen: Screen,
    round_index: int,
    started: float,
    selected_before: SelectedCandidate | None = None,
) -> RoundResult:
    """Trains the networks of a round that are not trained yet, and blends all of them."""
    _train(context, executor, screen, round_index, started)
    with context.run.stopwatch.step(f"blend round {round_index}"):
        return _blend(context, round_index, selected_before)


def _train(context: RunContext, executor: Executor, screen: Screen, round_index: int, started: float) -> None:
    """Trains the networks of a round that are not trained yet."""
    keys = network_keys(context, round_index)
    untrained = [key for key in keys if not is_trained(context, key)]
    if untrained:
        context = replace(context, deadline=_deadline(context, round_index, started))
        trained = round_index * len(keys) - len(untrained)
        screen.start_networks(len(untrained), trained, context.rounds * len(keys), executor.where)
        precisions = [_precision(context, executor, member) for member in context.recipe.members]
        fold_by_fold = sorted(keys, key=lambda key: key.fold)
        later_time_weights = time_weights(context, fold_by_fold) * (context.rounds - round_index)
        executor.train(context, untrained, precisions, later_time_weights, _listener(context, screen, keys))


def _untrained_backbones(context: RunContext, last_round: int) -> list[str]:
    """The backbones of the networks, of all rounds, that are not trained yet."""
    keys = [key for index in range(1, last_round + 1) for key in network_keys(context, index)]
    return [context.recipe.members[key.member_index].backbone for key in keys if not is_trained(context, key)]


def _precision(context: RunContext, executor: Executor, member: MemberSettings) -> str:
    """The precision that the recipe says, or the faster one: measured once for a member, then remembered."""
    if context.recipe.is_frozen(member):
        return "fp32"  # in which a search caches its features
    if context.recipe.training.precision != "auto":
        return context.recipe.training.precision
    file = context.run.member_folder(1, member.unique_name) / "precision.json"
    if not file.exists():
        with context.run.stopwatch.step("probe"):
            write_json(file, executor.fastest_precision(member))
    return str(read_json(file))


def _listener(context: RunContext, screen: Screen, keys: list[NetworkKey]) -> OnNetworkEvent:
    """Shows what trainings do on the screen, in the log and, if the recipe says so, in TensorBoard."""
    folders = {network_name(context, key): network_folder(context, key) for key in keys}
    boards: dict[str, SummaryWriter] = {}

    def on_event(name: str, event: Event) -> None:
        screen.on_network_event(name, event)
        if event["type"] == "epoch":
            row = {key: value for key, value in event.items() if key != "type"}
            context.run.log("epoch", network=name, **row)
            if context.recipe.training.tensorboard:
                if name not in boards:
                    folder = folders[name].relative_to(context.run.root)
                    boards[name] = SummaryWriter(context.run.tensorboard_folder / folder)
                for figure in ("loss", "log_loss", "accuracy"):
                    boards[name].add_scalar(
                        f"{figure}/stage {row['layer_share']:.0%}", row[figure], row["epoch"]
                    )
                boards[name].flush()
        elif event["type"] == "end" and name in boards:
            boards.pop(name).close()

    return on_event


def _pseudo_label(context: RunContext, first: RoundResult) -> None:
    """Writes round 1's labels for the test photos, fold by fold.

    A network of fold k is trained only on what the networks of fold k predicted: the others were trained on
    its validation photos.
    """
    settings, blend = context.recipe.pseudo_labels, first.selection.blend
    ids, class_names = context.ids(context.test_idx), context.facts.class_names
    tables = []
    for fold in context.folds:
        probabilities = blend.apply(context.select_members(blend, first.test[:, fold]))
        table = pseudo_labels(
            probabilities, ids, class_names, settings.keep, settings.confidence, settings.soft
        )
        table.insert(0, "fold", fold)
        tables.append(table)
    write_csv(context.run.pseudo_labels_file, pd.concat(tables, ignore_index=True))


# ---- blend


def _blend(context: RunContext, round_index: int, selected_before: SelectedCandidate | None) -> RoundResult:
    """Selects the blend, with or without test-time augmentation, and writes the predictions of a round."""
    run, names, class_names = context.run, context.member_names, context.facts.class_names
    val_idx, y_true = context.val_idx, context.y_true(context.val_idx)
    out_of_fold, test = _read_network_predictions(context, round_index)
    selection = select_blend(
        out_of_fold[0],
        y_true,
        names,
        class_names,
        context.groups(val_idx),
        context.recipe.seed,
        context.recipe.ensemble.metric,
        out_of_fold.mean(0) if len(out_of_fold) > 1 else None,
        selected_before,
    )
    tta = ("plain", *context.recipe.ensemble.tta) if selection.has_tta else ("plain",)
    out_of_fold, test = out_of_fold[: len(tta)].mean(0), test[: len(tta)].mean(0)
    _write_round_predictions(context, round_index, out_of_fold, test.mean(1), selection)
    results = {
        name: [read_json(run.fold_folder(round_index, name, fold) / RESULT) for fold in context.folds]
        for name in names
    }
    return RoundResult(round_index, out_of_fold, test, tta, selection, results)


def _write_round_predictions(
    context: RunContext, round_index: int, out_of_fold: Floats, test: Floats, selection: BlendSelection
) -> None:
    """Writes the predictions of members, (members, n, classes), and of every blend of all members."""
    run, class_names = context.run, context.facts.class_names
    val_ids, test_ids = context.ids(context.val_idx), context.ids(context.test_idx)
    for m, name in enumerate(context.member_names):
        val_frame = predictions_frame(val_ids, class_names, out_of_fold[m])
        write_predictions(run.out_of_fold_file(round_index, name), val_frame)
        test_frame = predictions_frame(test_ids, class_names, test[m])
        write_predictions(run.member_folder(round_index, name) / "test.csv", test_frame)
    for name, probabilities in [
        *selection.cross_validated_by_kind.items(),
        ("selected", selection.untouched),
    ]:
        frame = predictions_frame(val_ids, class_names, probabilities)
        write_predictions(run.blend_predictions_file(round_index, name), frame)
    write_json(run.blend_file(round_index), selection.blend.model_dump(mode="json"))


def _read_network_predictions(context: RunContext, round_index: int) -> tuple[Floats, Floats]:
    """Returns all predictions of a round's networks: (tta, members, val, classes), each photo predicted by
    networks that were not trained on it, and (tta, members, folds, test, classes)."""
    num_variants, num_members = 1 + len(context.recipe.ensemble.tta), len(context.recipe.members)
    num_classes, manifest = len(context.facts.class_names), context.readable
    val = np.zeros((num_variants, num_members, len(manifest), num_classes))
    test = np.zeros((num_variants, num_members, len(context.folds), len(context.test_idx), num_classes))
    for m, name in enumerate(context.member_names):
        is_refitted = context.recipe.is_refitted(context.recipe.members[m])
        for fold in context.folds:
            with np.load(context.run.fold_folder(round_index, name, fold) / PREDICTIONS) as saved:
                val[:, m, context.positions(manifest["fold"] == fold)] = saved["val"]
                test[:, m, fold] = saved["test"] if fold == 0 or not is_refitted else test[:, m, 0]
    return val[:, :, context.val_idx], test


# ---- the end


def _close(run: Run, executor: Executor, screen: Screen) -> None:
    """Writes the report, which may not cost the figures, and removes the caches."""
    try:
        with run.stopwatch.step("report"):
            write_report(run)
    except Exception as error:  # whatever is wrong with a picture
        screen.notify(
            f"warning: the report could not be written: {error}; try fovsfe --debug report {run.root}"
        )
        run.log("no report", error=repr(error))
    executor.clean_up()
    run.log("done")
    shutil.rmtree(run.cache_folder, ignore_errors=True)
