"""The whole story of a training, top to bottom: photos, rounds of members, blends, submission, bundle."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from fovsfe.context import Ints, RoundResult, RunArguments, RunContext
from fovsfe.ensemble import predictions
from fovsfe.ensemble.pseudo_label import pseudo_labels
from fovsfe.ensemble.selection import accept_change, select_blend
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json, write_text
from fovsfe.outputs import write_outputs
from fovsfe.photos import layouts
from fovsfe.photos import manifest as photo_table
from fovsfe.photos.audit import DAMAGED_SHARD, audit_photos
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.splits import assign_folds
from fovsfe.progress import Screen, print_event
from fovsfe.recipe import MemberSettings, Recipe, load_recipe, to_toml
from fovsfe.report import report
from fovsfe.run import Run
from fovsfe.storage.locations import as_path
from fovsfe.training.device import tune_malloc
from fovsfe.training.distributed import current_process_group
from fovsfe.training.loop import OnEvent, TrainingTask, fastest_precision_for, train_network

if TYPE_CHECKING:
    from fovsfe.executors.ray_executor import RayExecutor  # Ray need not be there

SECONDS_AT_THE_END = 27.0  # choosing, writing, the report and leaving, for which `--minutes` keeps time free
SECONDS_A_NETWORK = 4.5  # exporting one and proving it


def start(
    command: RunArguments, recipe: Recipe, folder: Path, screen: Screen, cluster: "RayExecutor | None" = None
) -> Run:
    """A new run in `folder`: trains everything that the recipe says and leaves the run folder complete.

    With a cluster, its machines train the networks.

    Raises:
        FovsfeError: there is something in the folder already, the photos cannot be trained on, weights are
            missing, or the folder cannot be written.
    """
    run = Run(folder)
    if folder.exists() and not (folder.is_dir() and run.is_hardly_begun()):
        what = f"go on with it: fovsfe resume {folder}" if run.arguments.exists() else "choose another --out"
        raise FovsfeError(f"{folder} is not empty; {what}")
    layouts.find_photos(as_path(command.photos))  # a mistyped path leaves no run behind
    write_text(run.recipe, to_toml(recipe))
    write_json(run.arguments, command.model_dump(mode="json"))
    return go_on(folder, screen, cluster)


def go_on(folder: Path, screen: Screen, cluster: "RayExecutor | None" = None) -> Run:
    """Does what a run has still to do; nothing where it is complete.

    Raises:
        FovsfeError: `folder` is no run, or as `start` does.
    """
    run = Run(folder)
    if not run.arguments.exists():
        raise FovsfeError(
            f"{folder} is not a run: it has no {run.arguments.name}; start one with fovsfe train"
        )
    command, recipe = RunArguments.model_validate(read_json(run.arguments)), load_recipe(str(run.recipe))
    if run.metrics.exists():
        if not run.report.exists() or run.cache.exists():  # killed just before the end
            _close(run, screen)
        screen.say(f"{folder.name} is complete")
        return run
    run.sweep()
    tune_malloc()
    deadline = _deadline(run, recipe, command)
    run.log("start", **command.model_dump(mode="json"))
    found = layouts.find_photos(as_path(command.photos))
    with run.spent.step("audit"):
        table = _look(run, recipe, found, screen)
    readable = table[table["fault"] == ""].reset_index(drop=True)
    context = RunContext(run, recipe, command, screen, found, readable, deadline)
    rounds = list(_rounds(context, cluster))
    with run.spent.step("finish"):
        write_outputs(context, table, rounds)
    _close(run, screen)
    if cluster is not None:
        cluster.forget()
    run.log("done")
    return run


def _close(run: Run, screen: Screen) -> None:
    """What follows when all figures are there; nothing of it may cost them."""
    try:
        with run.spent.step("report"):
            report.write_report(run)
    except Exception as error:  # whatever is wrong with a picture
        screen.say(f"warning: the report could not be written: {error}; try fovsfe --debug report {run.root}")
        run.log("no report", error=repr(error))
    shutil.rmtree(run.cache, ignore_errors=True)


def _deadline(run: Run, recipe: Recipe, command: RunArguments) -> float | None:
    """When the last network must be trained, for all that follows it to end within the minutes."""
    if command.minutes is None:
        return None
    networks = len(recipe.members) * max(recipe.split.folds, 1)
    reserve = SECONDS_AT_THE_END + SECONDS_A_NETWORK * networks
    return time.monotonic() + 60 * command.minutes - run.spent.seconds - reserve


def _look(run: Run, recipe: Recipe, found: layouts.DataSet, screen: Screen) -> pd.DataFrame:
    """The photos with their groups, folds and faults: audited once, then remembered."""
    if run.photos.exists():
        return photo_table.read_manifest(run.photos)

    def tick(done: int, of: int) -> None:
        screen.bar("looking at photos", done, of)

    result = audit_photos(found, recipe.photos.max_pixels, tick)
    table = result.table
    broken = [finding.detail for finding in result.findings if finding.kind == DAMAGED_SHARD]
    if broken and recipe.photos.damaged_shards == "refuse":
        raise FovsfeError(
            f"{found.root}: shard {broken[0]}{f' and {len(broken) - 1} more' if broken[1:] else ''}; copy it"
            " again, or leave its photos out: --set photos.damaged_shards=skip"
        )
    table["fold"] = assign_folds(table, recipe.split.holdout, recipe.split.folds, recipe.seed)
    write_json(run.audit, [asdict(finding) for finding in result.findings])
    predictions.write_csv(run.photos, table[photo_table.COLUMNS])
    for finding in result.findings:
        if finding.severity != "info":
            shown = ", ".join(finding.ids[:4]) + (", ..." if len(finding.ids) > 4 else "")
            screen.say(f"{finding.severity}: {finding.kind}: {finding.detail} ({shown})")
            run.log("finding", **asdict(finding))
    return table[photo_table.COLUMNS]


def _rounds(context: RunContext, cluster: "RayExecutor | None") -> Iterator[RoundResult]:
    """Round 1 on true labels, then round 2 on pseudo-labels of the test photos too."""
    first = _round(context, cluster, 1, None)
    yield first
    if _round_count(context) == 2:
        yield _round(context, cluster, 2, _pseudo(context, first))


def _round_count(context: RunContext) -> int:
    return context.recipe.rounds if len(context.test_idx) else 1


def _pseudo(context: RunContext, first: RoundResult) -> pd.DataFrame:
    """Round 1's labels for the test photos, fold by fold.

    A network of fold k learns only from what the networks of fold k said: the others have seen the photos
    that judge it.
    """
    settings = context.recipe.pseudo_labels
    each = []
    for fold in context.folds:
        answers = first.choice.blend.apply(context.of_blend(first.choice.blend, first.test[:, fold]))
        some = pseudo_labels(
            answers,
            context.ids(context.test_idx),
            context.dataset.class_names,
            settings.keep,
            settings.confidence,
            settings.soft,
        )
        some.insert(0, "fold", fold)
        each.append(some)
    table = pd.concat(each, ignore_index=True)
    predictions.write_csv(context.run.pseudo_labels, table)
    return table


def _round(
    context: RunContext, cluster: "RayExecutor | None", number: int, pseudo: pd.DataFrame | None
) -> RoundResult:
    """Trains every member on every fold, then puts their answers side by side and finds the blend."""
    if cluster is None:
        _train_in_turn(context, number, pseudo)
    else:
        _train_at_once(context, cluster, number, pseudo)
    with context.run.spent.step(f"blend round {number}"):
        return _blend(context, number)


def _train_in_turn(context: RunContext, number: int, pseudo: pd.DataFrame | None) -> None:
    """The networks of a round that are not there yet, one after the other."""
    for place, member in enumerate(context.recipe.members):
        photos = context.fitted(member)
        precision = _precision(context, member, fastest_precision_for)
        for fold in context.folds:
            if _is_trained(context, number, place, fold):
                continue
            task = _task(context, number, place, fold, photos, precision, pseudo)
            name = _name(context, number, place, fold)
            context.screen.network(name, _number(context, number, place, fold), _count(context))
            spawns = (
                context.arguments.devices > 1 and current_process_group() is None
            )  # a process of its own has no screen
            show = print_event if spawns else _teller(context, name, task.folder, context.screen.event)
            with context.run.spent.step(f"train {member.title} round {number}"):
                train_network(task, context.arguments.devices, show)


def _train_at_once(
    context: RunContext, cluster: "RayExecutor", number: int, pseudo: pd.DataFrame | None
) -> None:
    """The same on a cluster, fold by fold: a member's first fold makes the features that all of them use."""
    tasks: dict[str, TrainingTask] = {}
    tellers: dict[str, OnEvent] = {}
    for fold in context.folds:
        for place, member in enumerate(context.recipe.members):
            if not _is_trained(context, number, place, fold):
                name = _name(context, number, place, fold)
                precision = _precision(context, member, cluster.fastest_precision)
                task = _task(context, number, place, fold, context.photos(member), precision, pseudo)
                tasks[name] = replace(task, time_share=member.time_share)
                tellers[name] = _teller(context, name, task.folder, partial(context.screen.one_of_many, name))
    if not tasks:
        return
    later = [member.time_share for _ in context.folds for member in context.recipe.members]
    context.screen.networks(len(tasks), number * len(later) - len(tasks), _count(context))
    with context.run.spent.step(f"train round {number}"):
        cluster.train(
            tasks,
            later * (_round_count(context) - number),
            context.run.root,
            lambda name, event: tellers[name](event),
        )


def _is_trained(context: RunContext, number: int, place: int, fold: int) -> bool:
    return (context.run.fold(number, context.recipe.members[place].title, fold) / "result.json").exists()


def _name(context: RunContext, number: int, place: int, fold: int) -> str:
    folds = f", fold {fold}" if len(context.folds) > 1 else ""
    return f"{context.recipe.members[place].title}, round {number}{folds}"


def _number(context: RunContext, number: int, place: int, fold: int) -> int:
    """Of a network, from 0, in the order of a training without a cluster."""
    return ((number - 1) * len(context.recipe.members) + place) * len(context.folds) + fold


def _count(context: RunContext) -> int:
    """Of all networks of all rounds."""
    return _round_count(context) * len(context.recipe.members) * len(context.folds)


def _precision(context: RunContext, member: MemberSettings, fastest: Callable[[MemberSettings], str]) -> str:
    """The precision that the recipe says, or the faster one: probed once for a member, then remembered."""
    if context.recipe.training.precision != "auto":
        return context.recipe.training.precision
    file = context.run.member(1, member.title) / "precision.json"
    if not file.exists():
        with context.run.spent.step("probe"):
            write_json(file, fastest(member))
    return str(read_json(file))


def _task(
    context: RunContext,
    number: int,
    place: int,
    fold: int,
    photos: ResizedPhotos,
    precision: str,
    pseudo: pd.DataFrame | None,
) -> TrainingTask:
    """One network: a member on one fold."""
    member = context.recipe.members[place]
    train_idx = context.rows((context.manifest["part"] == "train") & (context.manifest["fold"] != fold))
    val_idx = context.rows(context.manifest["fold"] == fold)
    targets = np.eye(len(context.dataset.class_names), dtype=np.float32)[context.y_true(train_idx)]
    if pseudo is not None:
        more, answers = _targets(context, pseudo[pseudo["fold"] == fold])
        train_idx, targets = np.concatenate([train_idx, more]), np.concatenate([targets, answers])
    return TrainingTask(
        folder=context.run.fold(number, member.title, fold),
        member=member,
        recipe=context.recipe,
        weights=context.arguments.weights,
        num_classes=len(context.dataset.class_names),
        photos=photos,
        train_idx=train_idx,
        targets=targets,
        val_idx=val_idx,
        y_true=context.y_true(val_idx),
        test_idx=context.test_idx,
        features=context.run.cache / f"{member.title}.features",
        precision=precision,
        seed=context.recipe.seed + 7919 * member.seed + 104_729 * fold + 1_299_709 * number,
        deadline=context.deadline,
        time_share=_time_share(context, place, _number(context, number, place, fold)),
    )


def _teller(context: RunContext, name: str, folder: Path, screen: OnEvent) -> OnEvent:
    """What a training does is told to the screen, the log and, if the recipe says so, TensorBoard."""
    board = None
    if context.recipe.training.tensorboard:
        board = SummaryWriter(context.run.tensorboard / folder.relative_to(context.run.root))

    def show(event: dict[str, Any]) -> None:
        screen(event)
        if event["doing"] != "epoch":
            return
        context.run.log("epoch", network=name, **{k: v for k, v in event.items() if k != "doing"})
        if board is not None:
            for figure in ("loss", "log_loss", "accuracy"):
                board.add_scalar(f"{figure}/stage {event['stage']:.0%}", event[figure], event["epoch"])
            board.flush()

    return show


def _time_share(context: RunContext, place: int, done: int) -> float:
    """The part of the time left that the next network gets, when `done` networks are trained."""
    a_round = [member.time_share for member in context.recipe.members for _ in context.folds]
    return context.recipe.members[place].time_share / sum((a_round * _round_count(context))[done:])


def _targets(context: RunContext, pseudo: pd.DataFrame) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Pseudo-labels as positions and distributions over labels: soft ones as they are, hard ones one-hot."""
    position = {photo: i for i, photo in enumerate(context.manifest["id"])}
    where = np.array([position[photo] for photo in pseudo["id"]], np.int64)
    if context.recipe.pseudo_labels.soft:
        columns = [f"p:{label}" for label in context.dataset.class_names]
        return where, pseudo[columns].to_numpy(np.float32)
    number = {label: i for i, label in enumerate(context.dataset.class_names)}
    answers = np.array([number[label] for label in pseudo["label"]], np.int64)
    return where, np.eye(len(context.dataset.class_names), dtype=np.float32)[answers]


def _blend(context: RunContext, number: int) -> RoundResult:
    """Keeps test-time augmentation if it wins, then finds the blend; writes every member's out_of_fold.csv and test.csv."""
    members = [member.title for member in context.recipe.members]
    tta = ("plain", *context.recipe.ensemble.tta)
    judged, asked = context.val_idx, context.test_idx
    out_of_fold = np.zeros((len(tta), len(members), len(context.manifest), len(context.dataset.class_names)))
    test = np.zeros(
        (len(tta), len(members), len(context.folds), len(asked), len(context.dataset.class_names))
    )
    kept = {}
    for m, member in enumerate(members):
        for fold in context.folds:
            folder = context.run.fold(number, member, fold)
            with np.load(folder / "predictions.npz") as saved:
                out_of_fold[:, m, context.rows(context.manifest["fold"] == fold)] = saved["val"]
                test[:, m, fold] = saved["test"]
        kept[member] = [read_json(context.run.fold(number, member, f) / "result.json") for f in context.folds]
    out_of_fold = out_of_fold[:, :, judged]
    y_true = context.y_true(judged)
    more, reason = (False, "the recipe asks for none")
    if len(tta) > 1:
        more, reason = accept_change(out_of_fold[0].mean(0), out_of_fold.mean((0, 1)), y_true)
    used = tta if more else tta[:1]
    answers, answers_test = out_of_fold[: len(used)].mean(0), test[: len(used)].mean(0)
    class_names = context.dataset.class_names
    for m, member in enumerate(members):
        folder = context.run.member(number, member)
        predictions.write_predictions(
            folder / "out_of_fold.csv",
            predictions.predictions_frame(context.ids(judged), class_names, answers[m]),
        )
        averaged = answers_test[m].mean(0)
        predictions.write_predictions(
            folder / "test.csv", predictions.predictions_frame(context.ids(asked), class_names, averaged)
        )
    groups = context.manifest["group"].to_numpy(np.int64)[judged]
    choice = select_blend(answers, y_true, members, class_names, groups, context.recipe.seed)
    for name, of_blend in [*choice.of_kinds.items(), ("chosen", choice.out_of_fold)]:
        predictions.write_predictions(
            context.run.blend(number, name),
            predictions.predictions_frame(context.ids(judged), class_names, of_blend),
        )
    write_json(context.run.round(number) / "blend.json", choice.blend.model_dump(mode="json"))
    return RoundResult(number, answers, answers_test, used, reason, choice, kept)
