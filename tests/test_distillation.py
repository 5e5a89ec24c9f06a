"""distillation: a student's run on tiny photos, what it learns from and what it says; and what is refused."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from fovsfe import distillation, pipeline
from fovsfe.arguments import RunArguments, student_arguments
from fovsfe.bundle.predictor import Predictor
from fovsfe.context import RunContext
from fovsfe.distillation import student_recipe
from fovsfe.ensemble.predictions import read_predictions
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.executors import local
from fovsfe.executors.tasks import build_task, network_keys
from fovsfe.files import read_json, write_json, write_text
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run
from fovsfe.training.launch import train_network

LABELS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
QUICKLY = {
    "members.0.size": [48, 64],
    "training.epochs": 1,
    "training.head_epochs": 3,
    "training.precision": "fp32",
}


def draw(file, colour, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC)
    Image.blend(photo, Image.new("RGB", photo.size, colour), 0.5).save(file)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "photos"
    for number, (label, colour) in enumerate(LABELS.items()):
        for index in range(8):
            draw(root / "train" / label / f"{label}{index}.png", colour, 100 * number + index)
        for index in range(2):
            draw(root / "test" / f"{label}{index}.png", colour, 1000 + 100 * number + index)
    return root


@pytest.fixture(scope="module")
def unlabelled(photos, tmp_path_factory):
    """Six photos: four new ones, a copy of a labelled one, and one that cannot be read."""
    root = tmp_path_factory.mktemp("more") / "unlabelled"
    for index, colour in enumerate([*LABELS.values(), (200, 40, 40)]):
        draw(root / f"{index}.png", colour, 2000 + index)
    shutil.copy(photos / "train" / "red" / "red0.png", root / "copy.png")
    (root / "broken.png").write_bytes(b"no photo")
    return root


def trained(photos, folder, split):
    members = [{"backbone": "test_resnet", "size": [48, 64], "stages": [0]}]
    recipe = Recipe.model_validate(
        {"split": split, "members": members, "strangers": {"withheld": 0.0}, "about": {"noun": "tint"}}
    )
    arguments = RunArguments(photos=str(photos), weights="none", minutes=None)
    return pipeline.train(recipe, arguments, str(folder), screen())


def screen():
    return Screen(Console(file=io.StringIO(), width=200))


@pytest.fixture(scope="module")
def teacher(photos, tmp_path_factory):
    return trained(photos, tmp_path_factory.mktemp("teacher") / "run", {"folds": 2})


def begin(teacher, folder, shown, **more):
    recipe, of_teacher = student_recipe(teacher, "test_efficientnet", "student", QUICKLY)
    arguments = student_arguments(of_teacher, str(teacher.root), None, None, **more)
    return pipeline.train(recipe, arguments, str(folder), shown)


@pytest.fixture(scope="module")
def student(teacher, unlabelled, tmp_path_factory):
    """A student of all that there is, compared with its own teacher, and what was said."""
    shown, folder = screen(), tmp_path_factory.mktemp("student") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "Predictor", knowing_all)
        run = begin(teacher, folder, shown, unlabelled=str(unlabelled), alone=str(teacher.root))
    return run, shown.console.file.getvalue()


def knowing_all(folder):
    """The teacher's bundle, which takes no photo of a few for a stranger."""
    predictor = Predictor(folder)
    predictor.bundle = predictor.bundle.model_copy(update={"strangers": None})
    return predictor


def test_a_student_learns_from_answers_of_networks_that_have_not_seen_the_photo(student, teacher):
    context = RunContext.open(student[0])
    task = build_task(context, network_keys(context, 1)[0], "fp32")
    held_out = read_predictions(teacher.held_out_file)
    assert len(context.val_idx) == 6  # a quarter
    for index, target in zip(task.train_idx, task.targets, strict=True):
        photo = context.readable.iloc[index]
        answer = read_predictions(context.run.teacher_file).loc[photo["id"]].to_numpy()
        if photo["split"] == "train":
            np.testing.assert_array_equal(answer, held_out.loc[photo["id"]].to_numpy())
            true = np.eye(3)[context.facts.class_names.index(photo["label"])]
            np.testing.assert_allclose(target, (answer + true) / 2, rtol=1e-6, atol=1e-30)
        else:
            np.testing.assert_allclose(target, answer, rtol=1e-6, atol=1e-30)
    assert context.readable["split"].iloc[task.train_idx].value_counts().to_dict() == {
        "train": 18,
        "test": 6,
        "unlabelled": 4,
    }


def test_a_student_is_measured_on_photos_that_it_has_not_learned_from(student):
    context = RunContext.open(student[0])
    task = build_task(context, network_keys(context, 1)[0], "fp32")
    assert not set(task.train_idx) & set(task.val_idx)
    assert sorted(task.val_idx) == sorted(context.val_idx)
    assert list(read_predictions(student[0].held_out_file).index) == context.ids(context.val_idx)


def test_what_is_not_used_of_unlabelled_photos_is_said(student, unlabelled):
    said = student[1]
    assert f"4 photos of {unlabelled}" in said
    assert "without 1 that cannot be read; without 1 that are copies" in said
    assert "24 labelled photos" in said
    assert "10 photos without a label" in said


def test_a_student_stands_beside_its_teacher_and_its_network_alone(student, teacher):
    metrics = read_json(student[0].metrics_file)
    figures = metrics["distillation"]
    assert figures["student"]["share"] == metrics["selected"]["accuracy"]
    ids = list(read_predictions(student[0].held_out_file).index)
    of_teacher = read_predictions(teacher.held_out_file).loc[ids]
    labels = RunContext.open(teacher).readable.set_index("id")["label"].loc[ids]
    right = (of_teacher.idxmax(axis=1) == labels).sum()
    assert (figures["teacher"]["count"], figures["alone"]["count"]) == (right, right)
    assert any("beside its teacher" in reason for reason in metrics["selected"]["reasons"])


def test_a_student_is_one_network_with_the_words_of_its_teacher(student):
    bundle = Predictor(student[0].bundle_folder).bundle
    assert [len(member.networks) for member in bundle.members] == [1]
    assert bundle.about.noun == "tint"
    card = (student[0].bundle_folder / "card.md").read_text("utf-8")
    assert "from what an ensemble answers" in card
    assert len(pd.read_csv(student[0].root / "submissions" / "round-1-selected.csv")) == 6
    assert "fovsfe distil" in student[0].report_file.read_text("utf-8")


@pytest.mark.parametrize("after", ["take_over", "train_network"])
def test_killed_and_resumed_a_student_ends_the_same(student, teacher, unlabelled, tmp_path, after):
    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "Predictor", knowing_all)
        patch.setattr(
            *{"take_over": (distillation, "write_manifest"), "train_network": (local, after)}[after], killed
        )
        with pytest.raises(KeyboardInterrupt):
            begin(teacher, tmp_path / "run", screen(), unlabelled=str(unlabelled), alone=str(teacher.root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "Predictor", knowing_all)
        run = pipeline.resume(str(tmp_path / "run"), screen())
    for name in ("teacher.csv", "unlabelled.csv", "photos.csv", "held_out.csv"):
        assert (run.root / name).read_bytes() == (student[0].root / name).read_bytes(), name


def test_of_a_teacher_with_a_hold_out_only_photos_without_a_label_have_answers(photos, tmp_path, monkeypatch):
    teacher = trained(photos, tmp_path / "teacher", {"holdout": 0.4})
    tasks = []
    monkeypatch.setattr(
        local, "train_network", lambda task, *more: (tasks.append(task), train_network(task, *more))
    )
    run = begin(teacher, tmp_path / "run", screen())
    manifests = [RunContext.open(each).manifest for each in (teacher, run)]
    pd.testing.assert_frame_equal(*manifests)
    splits = RunContext.open(run).readable["split"].iloc[tasks[0].train_idx].to_numpy()
    assert set(tasks[0].targets[splits == "train"].ravel()) == {0, 1}
    assert (splits == "test").sum() == 6


def test_a_teacher_is_asked_no_longer_than_there_is_time(teacher, unlabelled, tmp_path, monkeypatch):
    recipe, of_teacher = student_recipe(teacher, "test_efficientnet", "student", QUICKLY)
    monkeypatch.setattr(distillation, "Predictor", knowing_all)
    shutil.copytree(unlabelled, tmp_path / "more", ignore=shutil.ignore_patterns("copy*", "broken*"))
    arguments = student_arguments(of_teacher, str(teacher.root), None, 1.0, str(tmp_path / "more"))
    shown, run = screen(), Run(tmp_path / "run")
    distillation.take_over(run, recipe, arguments, shown, started=-1e9)
    assert "1 photo of" in shown.console.file.getvalue()
    assert "without 3 for which there was no time" in shown.console.file.getvalue()
    assert len(pd.read_csv(run.unlabelled_file)) == 1


def test_unlabelled_photos_in_an_archive_are_found_there_in_training(
    teacher, unlabelled, tmp_path, monkeypatch
):
    monkeypatch.setattr(distillation, "Predictor", knowing_all)
    archive = shutil.make_archive(str(tmp_path / "more"), "zip", unlabelled)
    recipe, of_teacher = student_recipe(teacher, "test_efficientnet", "student", QUICKLY)
    arguments = student_arguments(of_teacher, str(teacher.root), None, None, archive)
    run = Run(tmp_path / "run")
    write_text(run.recipe_file, to_toml(recipe))
    write_json(run.arguments_file, arguments.model_dump())
    distillation.take_over(run, recipe, arguments, screen(), started=0.0)
    context = RunContext.open(run)
    photos = context.resized_photos(recipe.members[0])
    assert len(photos) == len(context.readable) == 24 + 6 + 4
    for index in range(30, 34):
        name = context.readable["path"].iloc[index].removeprefix("more.zip/")
        with Image.open(unlabelled / name) as photo:
            np.testing.assert_array_equal(photos[index], np.asarray(photo))


def test_photos_that_have_changed_since_the_teacher_saw_them_are_refused(teacher, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copytree(teacher.root, tmp_path / "teacher")
    moved = Run(tmp_path / "teacher")
    for file in (moved.arguments_file, moved.dataset_file):
        file.write_text(file.read_text("utf-8").replace(str(photos), str(tmp_path / "photos")), "utf-8")
    (tmp_path / "photos" / "train" / "red" / "red3.png").unlink()
    with pytest.raises(FovsfeError, match=r"1 photo gone \(train/red/red3.png\)"):
        begin(moved, tmp_path / "run", screen())


def test_what_a_student_cannot_learn_from_leaves_no_run(teacher, tmp_path):
    other = Run(tmp_path / "other")
    shutil.copytree(teacher.root, other.root)
    text = other.held_out_file.read_text("utf-8")
    other.held_out_file.write_text(
        text.replace("red", "rot", 1) if "red" in text.split("\n")[0] else text, "utf-8"
    )
    for more, words in [
        ({"unlabelled": str(tmp_path / "nowhere")}, "no such folder"),
        ({"alone": str(other.root)}, "other labels"),
    ]:
        with pytest.raises(FovsfeError, match=words):
            begin(teacher, tmp_path / "run", screen(), **more)
        assert not (tmp_path / "run").exists()


def test_a_teacher_must_be_complete_and_a_student_one_network(teacher, tmp_path):
    write_json(tmp_path / "arguments.json", {})
    with pytest.raises(FovsfeError, match="not a complete run"):
        student_recipe(Run(tmp_path), "test_efficientnet", "student", {})
    with pytest.raises(UsageError, match="one network"):
        student_recipe(teacher, "test_efficientnet", "quick", {})


def test_a_student_gets_a_size_in_the_shape_of_the_photos_unless_one_is_given(teacher):
    height, width = student_recipe(teacher, "mobilenetv2_100", "student", {})[0].members[0].size
    assert height < width
    assert student_recipe(teacher, "mobilenetv2_100", "student", QUICKLY)[0].members[0].size == (48, 64)
