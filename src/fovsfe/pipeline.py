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

from fovsfe.ensemble import predictions
from fovsfe.ensemble.choose import accept, choose
from fovsfe.ensemble.pseudo import pseudo_labels
from fovsfe.errors import FovsfeError
from fovsfe.finish import finish
from fovsfe.job import Command, Ints, Job, Round
from fovsfe.learning.device import keep_memory
from fovsfe.learning.team import current
from fovsfe.learning.training import Show, Task, fastest_for, run_task
from fovsfe.photos import layouts
from fovsfe.photos import table as photo_table
from fovsfe.photos.audit import DAMAGED_SHARD, audit
from fovsfe.photos.dataset import FittedPhotos
from fovsfe.photos.split import split
from fovsfe.progress import Screen, print_event
from fovsfe.recipe import Member, Recipe, read, to_toml
from fovsfe.report import report
from fovsfe.run import Run, read_json, write_json, write_text
from fovsfe.storage import located

if TYPE_CHECKING:
    from fovsfe.cluster.training import Cluster  # Ray need not be there

SECONDS_AT_THE_END = 27.0  # choosing, writing, the report and leaving, for which `--minutes` keeps time free
SECONDS_A_NETWORK = 4.5  # exporting one and proving it


def start(
    command: Command, recipe: Recipe, folder: Path, screen: Screen, cluster: "Cluster | None" = None
) -> Run:
    """A new run in `folder`: trains everything that the recipe says and leaves the run folder complete.

    With a cluster, its machines train the networks.

    Raises:
        FovsfeError: there is something in the folder already, the photos cannot be trained on, weights are
            missing, or the folder cannot be written.
    """
    run = Run(folder)
    if folder.exists() and not (folder.is_dir() and run.is_hardly_begun()):
        what = f"go on with it: fovsfe resume {folder}" if run.command.exists() else "choose another --out"
        raise FovsfeError(f"{folder} is not empty; {what}")
    layouts.find(located(command.photos))  # a mistyped path leaves no run behind
    write_text(run.recipe, to_toml(recipe))
    write_json(run.command, command.model_dump(mode="json"))
    return go_on(folder, screen, cluster)


def go_on(folder: Path, screen: Screen, cluster: "Cluster | None" = None) -> Run:
    """Does what a run has still to do; nothing where it is complete.

    Raises:
        FovsfeError: `folder` is no run, or as `start` does.
    """
    run = Run(folder)
    if not run.command.exists():
        raise FovsfeError(f"{folder} is not a run: it has no {run.command.name}; start one with fovsfe train")
    command, recipe = Command.model_validate(read_json(run.command)), read(str(run.recipe))
    if run.metrics.exists():
        if not run.report.exists() or run.cache.exists():  # killed just before the end
            _close(run, screen)
        screen.say(f"{folder.name} is complete")
        return run
    run.sweep()
    keep_memory()
    deadline = _deadline(run, recipe, command)
    run.log("start", **command.model_dump(mode="json"))
    found = layouts.find(located(command.photos))
    with run.spent.step("audit"):
        table = _look(run, recipe, found, screen)
    readable = table[table["fault"] == ""].reset_index(drop=True)
    job = Job(run, recipe, command, screen, found, readable, deadline)
    rounds = list(_rounds(job, cluster))
    with run.spent.step("finish"):
        finish(job, table, rounds)
    _close(run, screen)
    if cluster is not None:
        cluster.forget()
    run.log("done")
    return run


def _close(run: Run, screen: Screen) -> None:
    """What follows when all figures are there; nothing of it may cost them."""
    try:
        with run.spent.step("report"):
            report.write(run)
    except Exception as error:  # whatever is wrong with a picture
        screen.say(f"warning: the report could not be written: {error}; try fovsfe --debug report {run.root}")
        run.log("no report", error=repr(error))
    shutil.rmtree(run.cache, ignore_errors=True)


def _deadline(run: Run, recipe: Recipe, command: Command) -> float | None:
    """When the last network must be trained, for all that follows it to end within the minutes."""
    if command.minutes is None:
        return None
    networks = len(recipe.members) * max(recipe.split.folds, 1)
    reserve = SECONDS_AT_THE_END + SECONDS_A_NETWORK * networks
    return time.monotonic() + 60 * command.minutes - run.spent.seconds - reserve


def _look(run: Run, recipe: Recipe, found: layouts.Photos, screen: Screen) -> pd.DataFrame:
    """The photos with their groups, folds and faults: audited once, then remembered."""
    if run.photos.exists():
        return photo_table.read(run.photos)

    def tick(done: int, of: int) -> None:
        screen.bar("looking at photos", done, of)

    result = audit(found, recipe.photos.max_pixels, tick)
    table = result.table
    broken = [finding.detail for finding in result.findings if finding.kind == DAMAGED_SHARD]
    if broken and recipe.photos.damaged_shards == "refuse":
        raise FovsfeError(
            f"{found.root}: shard {broken[0]}{f' and {len(broken) - 1} more' if broken[1:] else ''}; copy it"
            " again, or leave its photos out: --set photos.damaged_shards=skip"
        )
    table["fold"] = split(table, recipe.split.holdout, recipe.split.folds, recipe.seed)
    write_json(run.audit, [asdict(finding) for finding in result.findings])
    predictions.write_csv(run.photos, table[photo_table.COLUMNS])
    for finding in result.findings:
        if finding.severity != "info":
            shown = ", ".join(finding.ids[:4]) + (", ..." if len(finding.ids) > 4 else "")
            screen.say(f"{finding.severity}: {finding.kind}: {finding.detail} ({shown})")
            run.log("finding", **asdict(finding))
    return table[photo_table.COLUMNS]


def _rounds(job: Job, cluster: "Cluster | None") -> Iterator[Round]:
    """Round 1 on true labels, then round 2 on pseudo-labels of the test photos too."""
    first = _round(job, cluster, 1, None)
    yield first
    if _round_count(job) == 2:
        yield _round(job, cluster, 2, _pseudo(job, first))


def _round_count(job: Job) -> int:
    return job.recipe.rounds if len(job.asked) else 1


def _pseudo(job: Job, first: Round) -> pd.DataFrame:
    """Round 1's labels for the test photos, fold by fold.

    A network of fold k learns only from what the networks of fold k said: the others have seen the photos
    that judge it.
    """
    settings = job.recipe.pseudo
    each = []
    for fold in job.folds:
        answers = first.choice.blend.apply(job.of_blend(first.choice.blend, first.test[:, fold]))
        some = pseudo_labels(
            answers, job.ids(job.asked), job.found.labels, settings.keep, settings.confidence, settings.soft
        )
        some.insert(0, "fold", fold)
        each.append(some)
    table = pd.concat(each, ignore_index=True)
    predictions.write_csv(job.run.pseudo_labels, table)
    return table


def _round(job: Job, cluster: "Cluster | None", number: int, pseudo: pd.DataFrame | None) -> Round:
    """Trains every member on every fold, then puts their answers side by side and finds the blend."""
    if cluster is None:
        _train_in_turn(job, number, pseudo)
    else:
        _train_at_once(job, cluster, number, pseudo)
    with job.run.spent.step(f"blend round {number}"):
        return _blend(job, number)


def _train_in_turn(job: Job, number: int, pseudo: pd.DataFrame | None) -> None:
    """The networks of a round that are not there yet, one after the other."""
    for place, member in enumerate(job.recipe.members):
        photos = job.fitted(member)
        precision = _precision(job, member, fastest_for)
        for fold in job.folds:
            if _is_trained(job, number, place, fold):
                continue
            task = _task(job, number, place, fold, photos, precision, pseudo)
            name = _name(job, number, place, fold)
            job.screen.network(name, _number(job, number, place, fold), _count(job))
            spawns = job.command.devices > 1 and current() is None  # a process of its own has no screen
            show = print_event if spawns else _teller(job, name, task.folder, job.screen.event)
            with job.run.spent.step(f"train {member.title} round {number}"):
                run_task(task, job.command.devices, show)


def _train_at_once(job: Job, cluster: "Cluster", number: int, pseudo: pd.DataFrame | None) -> None:
    """The same on a cluster, fold by fold: a member's first fold makes the features that all of them use."""
    tasks: dict[str, Task] = {}
    tellers: dict[str, Show] = {}
    for fold in job.folds:
        for place, member in enumerate(job.recipe.members):
            if not _is_trained(job, number, place, fold):
                name = _name(job, number, place, fold)
                precision = _precision(job, member, cluster.fastest_precision)
                task = _task(job, number, place, fold, job.photos(member), precision, pseudo)
                tasks[name] = replace(task, share=member.share)
                tellers[name] = _teller(job, name, task.folder, partial(job.screen.one_of_many, name))
    if not tasks:
        return
    later = [member.share for _ in job.folds for member in job.recipe.members]
    job.screen.networks(len(tasks), number * len(later) - len(tasks), _count(job))
    with job.run.spent.step(f"train round {number}"):
        cluster.train(
            tasks,
            later * (_round_count(job) - number),
            job.run.root,
            lambda name, event: tellers[name](event),
        )


def _is_trained(job: Job, number: int, place: int, fold: int) -> bool:
    return (job.run.fold(number, job.recipe.members[place].title, fold) / "result.json").exists()


def _name(job: Job, number: int, place: int, fold: int) -> str:
    folds = f", fold {fold}" if len(job.folds) > 1 else ""
    return f"{job.recipe.members[place].title}, round {number}{folds}"


def _number(job: Job, number: int, place: int, fold: int) -> int:
    """Of a network, from 0, in the order of a training without a cluster."""
    return ((number - 1) * len(job.recipe.members) + place) * len(job.folds) + fold


def _count(job: Job) -> int:
    """Of all networks of all rounds."""
    return _round_count(job) * len(job.recipe.members) * len(job.folds)


def _precision(job: Job, member: Member, fastest: Callable[[Member], str]) -> str:
    """The precision that the recipe says, or the faster one: probed once for a member, then remembered."""
    if job.recipe.training.precision != "auto":
        return job.recipe.training.precision
    file = job.run.member(1, member.title) / "precision.json"
    if not file.exists():
        with job.run.spent.step("probe"):
            write_json(file, fastest(member))
    return str(read_json(file))


def _task(
    job: Job,
    number: int,
    place: int,
    fold: int,
    photos: FittedPhotos,
    precision: str,
    pseudo: pd.DataFrame | None,
) -> Task:
    """One network: a member on one fold."""
    member = job.recipe.members[place]
    learn = job.rows((job.table["part"] == "train") & (job.table["fold"] != fold))
    judge = job.rows(job.table["fold"] == fold)
    targets = np.eye(len(job.found.labels), dtype=np.float32)[job.truth(learn)]
    if pseudo is not None:
        more, answers = _targets(job, pseudo[pseudo["fold"] == fold])
        learn, targets = np.concatenate([learn, more]), np.concatenate([targets, answers])
    return Task(
        folder=job.run.fold(number, member.title, fold),
        member=member,
        recipe=job.recipe,
        weights=job.command.weights,
        labels=len(job.found.labels),
        photos=photos,
        learn=learn,
        targets=targets,
        judge=judge,
        truth=job.truth(judge),
        ask=job.asked,
        features=job.run.cache / f"{member.title}.features",
        precision=precision,
        seed=job.recipe.seed + 7919 * member.seed + 104_729 * fold + 1_299_709 * number,
        deadline=job.deadline,
        share=_time_share(job, place, _number(job, number, place, fold)),
    )


def _teller(job: Job, name: str, folder: Path, screen: Show) -> Show:
    """What a training does is told to the screen, the log and, if the recipe says so, TensorBoard."""
    board = None
    if job.recipe.training.tensorboard:
        board = SummaryWriter(job.run.tensorboard / folder.relative_to(job.run.root))

    def show(event: dict[str, Any]) -> None:
        screen(event)
        if event["doing"] != "epoch":
            return
        job.run.log("epoch", network=name, **{k: v for k, v in event.items() if k != "doing"})
        if board is not None:
            for figure in ("loss", "log_loss", "accuracy"):
                board.add_scalar(f"{figure}/stage {event['stage']:.0%}", event[figure], event["epoch"])
            board.flush()

    return show


def _time_share(job: Job, place: int, done: int) -> float:
    """The part of the time left that the next network gets, when `done` networks are trained."""
    a_round = [member.share for member in job.recipe.members for _ in job.folds]
    return job.recipe.members[place].share / sum((a_round * _round_count(job))[done:])


def _targets(job: Job, pseudo: pd.DataFrame) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Pseudo-labels as positions and distributions over labels: soft ones as they are, hard ones one-hot."""
    position = {photo: i for i, photo in enumerate(job.table["id"])}
    where = np.array([position[photo] for photo in pseudo["id"]], np.int64)
    if job.recipe.pseudo.soft:
        columns = [f"p:{label}" for label in job.found.labels]
        return where, pseudo[columns].to_numpy(np.float32)
    number = {label: i for i, label in enumerate(job.found.labels)}
    answers = np.array([number[label] for label in pseudo["label"]], np.int64)
    return where, np.eye(len(job.found.labels), dtype=np.float32)[answers]


def _blend(job: Job, number: int) -> Round:
    """Test-time views if they win, then the blend; writes every member's out_of_fold.csv and test.csv."""
    members = [member.title for member in job.recipe.members]
    views = ("plain", *job.recipe.ensemble.views)
    judged, asked = job.judged, job.asked
    out_of_fold = np.zeros((len(views), len(members), len(job.table), len(job.found.labels)))
    test = np.zeros((len(views), len(members), len(job.folds), len(asked), len(job.found.labels)))
    kept = {}
    for m, member in enumerate(members):
        for fold in job.folds:
            folder = job.run.fold(number, member, fold)
            with np.load(folder / "predictions.npz") as saved:
                out_of_fold[:, m, job.rows(job.table["fold"] == fold)] = saved["judge"]
                test[:, m, fold] = saved["ask"]
        kept[member] = [read_json(job.run.fold(number, member, f) / "result.json") for f in job.folds]
    out_of_fold = out_of_fold[:, :, judged]
    truth = job.truth(judged)
    more, reason = (False, "the recipe names no views")
    if len(views) > 1:
        more, reason = accept(out_of_fold[0].mean(0), out_of_fold.mean((0, 1)), truth)
    used = views if more else views[:1]
    answers, answers_test = out_of_fold[: len(used)].mean(0), test[: len(used)].mean(0)
    labels = job.found.labels
    for m, member in enumerate(members):
        folder = job.run.member(number, member)
        predictions.write(folder / "out_of_fold.csv", predictions.table(job.ids(judged), labels, answers[m]))
        averaged = answers_test[m].mean(0)
        predictions.write(folder / "test.csv", predictions.table(job.ids(asked), labels, averaged))
    groups = job.table["group"].to_numpy(np.int64)[judged]
    choice = choose(answers, truth, members, labels, groups, job.recipe.seed)
    for name, of_blend in [*choice.of_kinds.items(), ("chosen", choice.out_of_fold)]:
        predictions.write(job.run.blend(number, name), predictions.table(job.ids(judged), labels, of_blend))
    write_json(job.run.round(number) / "blend.json", choice.blend.model_dump(mode="json"))
    return Round(number, answers, answers_test, used, reason, choice, kept)
