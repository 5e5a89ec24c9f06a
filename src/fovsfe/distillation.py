"""A student learns from a teacher: one network from the answers of a complete run's ensemble.

A student's run is a run like any other, with a recipe of one member. It does not look for photos and audit
them, but takes them over from its teacher, with what the teacher answers for them:

- for a labelled photo, what its networks answer that were not trained on the photo;
- for a test photo, and for further unlabelled ones, what the whole ensemble answers.

The answers are for whole photos, in the teacher's variants, and are asked for once; those for every augmented
photo would take the ensemble's time for each epoch of the student.
"""

import shutil
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.arguments import RunArguments
from fovsfe.arrays import Floats
from fovsfe.bundle.batch import predict_files
from fovsfe.bundle.predictor import Predictor
from fovsfe.bundle.run_export import RunSource
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.predictions import (
    predictions_frame,
    read_predictions,
    stack_predictions,
    write_predictions,
)
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.files import read_json
from fovsfe.networks.licences import pretrained_config
from fovsfe.photos.audit import find_new_photos
from fovsfe.photos.manifest import COLUMNS, write_facts, write_manifest
from fovsfe.photos.passed_over import PassedOver
from fovsfe.photos.reader import root_of
from fovsfe.photos.splits import assign_folds
from fovsfe.photos.walk import photos_of_archive, walk_photos
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe, builtin_recipes, load_recipe
from fovsfe.run import Run
from fovsfe.search.candidates import find_candidate
from fovsfe.storage.folders import downloaded
from fovsfe.storage.locations import AnyPath, as_path, exists
from fovsfe.tables import write_csv
from fovsfe.wording import counted

UNLABELLED = "unlabelled"  # the split of photos that only the teacher has answers for
UNLABELLED_SHARE = 0.25  # of the minutes, at most, that the teacher has to answer for them
INHERITED = ("photos", "about", "strangers", "licence")  # of the teacher's recipe


def student_recipe(
    teacher: Run, student: str, name_or_file: str, changes: Mapping[str, Any]
) -> tuple[Recipe, RunArguments]:
    """Returns the recipe of a student and, for further changes, the arguments that its teacher had.

    A built-in recipe gets from the teacher how photos are read, what they show, its metric, and a size for
    the student in the shape of the photos.

    Args:
        teacher: a complete run.
        student: the student's backbone.
        name_or_file: as `load_recipe` takes it.
        changes: the same.

    Raises:
        FovsfeError: the teacher is not a complete run, or one of its files is damaged.
        UsageError: as `load_recipe` does, timm does not know the backbone, or the recipe has several members.
    """
    source, given = RunSource.read(teacher), dict[str, Any]()
    if name_or_file in builtin_recipes():
        of_teacher = source.recipe.model_dump()
        height, width = source.readable[["height", "width"]].median()
        given = {key: of_teacher[key] for key in INHERITED}
        given |= {"ensemble.metric": source.recipe.ensemble.metric}
        if pretrained_config(student) is not None:
            given["members.0.size"] = list(find_candidate(student).sizes((height, width))[0])
    recipe = load_recipe(name_or_file, {**given, **changes, "members.0.backbone": student})
    if len(recipe.members) != 1 or recipe.rounds != 1:
        raise UsageError(f"a student is one network, of one round: recipe {name_or_file} has more")
    if len(source.folds) > 1:
        split = recipe.split.model_copy(update={"given": "pool"})
    else:  # there are answers for the photos of its hold-out alone, by which the student is measured
        split = source.recipe.split
    return recipe.model_copy(update={"split": split}), source.arguments


def require_inputs(arguments: RunArguments) -> None:
    """Raises FovsfeError if the run to compare a student with, or its unlabelled photos, cannot be used."""
    if arguments.unlabelled is not None and not exists(as_path(arguments.unlabelled)):
        raise FovsfeError(f"--unlabelled {arguments.unlabelled}: there is no such folder or archive")
    if arguments.alone is not None and arguments.teacher is not None:
        with downloaded(arguments.teacher) as folder:
            _held_out(arguments.alone, RunSource.read(Run(folder)).facts.class_names)


def take_over(run: Run, recipe: Recipe, arguments: RunArguments, screen: Screen, started: float) -> None:
    """Writes what a student's run needs to know of its photos, and the teacher's answers for them.

    Args:
        run: the student's, which has a recipe and arguments.
        recipe: that of the run.
        arguments: those of the run.
        screen: shows what happens.
        started: when the run began, in seconds of time.monotonic.

    Raises:
        FovsfeError: the teacher is not there or is not complete, the run to compare with has other labels, or
            there are no unlabelled photos.
    """
    assert arguments.teacher is not None
    with downloaded(arguments.teacher) as folder:
        teacher = RunSource.read(Run(folder))
        class_names, manifest = teacher.facts.class_names, teacher.manifest
        answers = [read_predictions(teacher.run.held_out_file), *_answers_for_test_photos(teacher)]
        if arguments.unlabelled is not None:
            limit = arguments.minutes and started + 60 * UNLABELLED_SHARE * arguments.minutes
            photos, of_photos = _ask(teacher, arguments.unlabelled, recipe, screen, limit)
            write_csv(run.unlabelled_file, photos, for_people=True)
            answers.append(of_photos)
        write_predictions(run.teacher_file, pd.concat(answers))
        if arguments.alone is not None:
            write_predictions(run.alone_file, _held_out(arguments.alone, class_names))
        if len(teacher.folds) > 1:  # each labelled photo has an answer: the student's hold-out is its own
            split = recipe.split
            folds = assign_folds(manifest, split.holdout, split.folds, recipe.seed, is_given_kept=False)
            manifest = manifest.assign(fold=folds)
        shutil.copyfile(teacher.run.audit_file, run.audit_file)
        if teacher.run.fixes_file.exists():
            shutil.copyfile(teacher.run.fixes_file, run.fixes_file)
        write_facts(run.dataset_file, teacher.facts)
        write_manifest(run.manifest_file, manifest)
        # What has been written to a photo since the teacher's audit is compared.
        shutil.copystat(teacher.run.manifest_file, run.manifest_file)
    labelled, others = len(answers[0]), sum(map(len, answers[1:]))
    screen.notify(
        f"teacher: {arguments.teacher} answers for {counted(labelled, 'labelled photo')}, each by networks"
        f" that have not seen it, and for {counted(others, 'photo')} without a label"
    )


def _answers_for_test_photos(teacher: RunSource) -> list[pd.DataFrame]:
    """Returns the answers of the selected blend for the readable test photos, if there are any."""
    if not (teacher.readable["split"] == "test").any():
        return []
    blend = Blend.model_validate(read_json(teacher.run.blend_file(teacher.round)))
    folders = [teacher.run.member_folder(teacher.round, name) for name in blend.members]
    frames = [read_predictions(folder / "test.csv") for folder in folders]
    blended = blend.apply(stack_predictions(frames))
    return [predictions_frame(list(frames[0].index), teacher.facts.class_names, blended)]


def _held_out(location: str, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Returns the held-out predictions of a run for the labels of another one."""
    with downloaded(location) as folder:
        frame = read_predictions(RunSource.read(Run(folder)).run.held_out_file)
    if set(frame.columns) != set(class_names):
        raise FovsfeError(f"{location} has other labels than the teacher; compare with a run on its photos")
    return frame[list(class_names)]


def _ask(
    teacher: RunSource, location: str, recipe: Recipe, screen: Screen, limit: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns unlabelled photos as a manifest, and the predictions of the teacher's bundle for them.

    They are asked for in random order until `limit`, in seconds of time.monotonic. Photos that the teacher
    takes for none of its labels are left out, and so are near-duplicates of its own: a labelled one has a
    better answer. Raises FovsfeError if no photo is left.
    """
    root, paths = _find_unlabelled(location)
    order = np.random.default_rng(recipe.seed).permutation(len(paths)).tolist()
    files = {f"{root}/{paths[position]}": paths[position] for position in order}
    predictor, answers = Predictor(teacher.run.bundle_folder), dict[str, Floats]()
    unreadable = unknown = done = 0
    for file, prediction in predict_files(predictor, files, recipe.photos.max_pixels):
        done += 1
        screen.show_progress("asking the teacher", done, len(files))
        if isinstance(prediction, str):
            unreadable += 1
        elif prediction.known:
            answers[files[file]] = prediction.probabilities
        else:
            unknown += 1
        if limit is not None and time.monotonic() > limit:
            break
    photos = find_new_photos(
        root, list(answers), teacher.facts.location, teacher.readable, recipe.photos.max_pixels
    )
    left_out = {
        "that cannot be read": unreadable,
        "that the teacher takes for none of its labels": unknown,
        "that are copies": len(answers) - len(photos),
        "for which there was no time": len(files) - done,
    }
    found = f"unlabelled: {counted(len(photos), 'photo')} of {location}"
    words = "; ".join([found, *(f"without {count} {which}" for which, count in left_out.items() if count)])
    if photos.empty:
        raise FovsfeError(f"{words}: nothing is left to learn from; leave --unlabelled out")
    screen.notify(words)
    first_group = int(teacher.manifest["group"].max()) + 1
    photos = photos.assign(
        id=[f"{root}/{path}" for path in photos["path"]],
        split=UNLABELLED,
        label="",
        group=first_group + np.arange(len(photos)),
        fold=-1,
        fault="",
    )
    probabilities = np.stack([answers[path] for path in photos["path"]])
    return photos[COLUMNS], predictions_frame(list(photos["id"]), teacher.facts.class_names, probabilities)


def _find_unlabelled(location: str) -> tuple[AnyPath, list[str]]:
    """Returns where unlabelled photos are, and their paths there. Raises FovsfeError if there are none."""
    given, passed_over = as_path(location), PassedOver()
    root = root_of(given)
    if root != given:
        paths = [f"{given.name}/{name}" for name in photos_of_archive(given, passed_over)]
    else:
        paths = sorted(walk_photos(root, passed_over))
    if not paths:
        raise FovsfeError(f"--unlabelled {location}: there is no photo in it")
    return root, paths
