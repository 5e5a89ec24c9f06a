"""report.report: one file with every section, figures as in metrics.json, names as text."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest
from PIL import Image

from fovsfe.ensemble.predictions import read_predictions, write_predictions
from fovsfe.errors import FovsfeError
from fovsfe.files import write_json, write_text
from fovsfe.photos.manifest import read_manifest, write_manifest
from fovsfe.recipe import PhotoSettings, load_recipe, to_toml
from fovsfe.report.label_errors import LabelError
from fovsfe.report.report import render_report, write_report
from fovsfe.report.sections import photos
from fovsfe.report.theme import icon_link
from fovsfe.report.thumbnails import PLACEHOLDER

SECTIONS = {
    "summary", "next", "made", "photos", "augmentation", "training-curves", "comparison", "confusion",
    "mistakes", "calibration", "unknown", "ablation", "members", "networks",
    "cost", "reproduce",
}  # fmt: skip


def percent(share):
    return "–" if share is None else f"{100 * share:.1f}%"


class Page(HTMLParser):
    """Its elements, attributes and text, as a browser takes them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.text = Counter(), [], [], []
        self.handlers = []
        self.feed(text)
        self.seen = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(wild):
    return Page(write_report(wild[0]).read_text("utf-8"))


def test_every_section_is_there_once(page):
    assert set(page.ids) >= SECTIONS
    assert len(page.ids) == len(set(page.ids))


def test_what_to_do_comes_first_and_how_it_was_made_last(page):
    order = ["summary", "next", "mistakes", "confusion", "made", "comparison", "reproduce"]
    assert sorted(order, key=page.ids.index) == order
    assert page.seen.index("would bring 5.0 points (1.0 to 10.0)") < page.seen.index(
        "validation photos are misclassified"
    )
    assert "1.2 0.3 – 2.1 2" in page.seen and "few mistakes" in page.seen


def test_a_run_that_cannot_tell_what_more_photos_bring_says_why(finish, tmp_path):
    run = finish(tmp_path, ("a", "b", "c"), each=9)
    write_json(run.learning_curve_file, {"reason": "3 photos are too few", "label_errors": {}, "judged": 9})
    assert "cannot be told: 3 photos are too few." in Page(render_report(run)).seen


def test_nothing_is_fetched(page):
    assert page.links and all(link.startswith(("data:", "#")) for link in page.links)


def test_names_are_text_everywhere(page, wild):
    assert page.tags["script"] == 1 and page.handlers == []
    assert page.tags["b"] <= 1  # the member that adds most
    for name in wild[1]:
        assert page.seen.count(" ".join(name.split())) >= 2, name
    assert page.tags["img"] and "49" not in page.seen.split("Жигули <b onmouseover=alert(2)>'\"")[1][:12]


def test_figures_are_those_of_metrics_json(page, wild):
    agree(page, wild[0])
    assert "1 min 1 s" in page.seen


def agree(page, run):
    """The figures of a page and of a finished run."""
    metrics = json.loads(run.metrics_file.read_text("utf-8"))
    selected = metrics["selected"]
    assert page.seen.index(percent(selected["accuracy"])) < page.seen.index("Why this one was selected")
    first, second, times = selected["most_confused"]
    assert f"{first} and {second} are confused most, {times} time" in page.seen
    for each in metrics["rounds"]:
        members = list(each["members"].values())
        all_members = "-" + "+".join(each["members"])
        for figures in members + [of for name, of in each["blends"].items() if name.endswith(all_members)]:
            low, high = figures["interval"]
            row = f"{each['round']} {percent(figures['accuracy'])} {100 * low:.1f} – {percent(high)}"
            error = percent(figures["calibration_error"])
            assert f"{row} {figures['log_loss']:.4f} {error} {figures['photos']}" in page.seen
        for name, figures in each["blends"].items():
            row = f"{name} {each['round']} {percent(figures['accuracy'])} {figures['log_loss']:.4f}"
            assert f"{row} {'yes' if figures['calibrated'] else 'no'}" in page.seen
    photos = (
        read_manifest(run.manifest_file).query("split == 'train' and fault == ''")["label"].value_counts()
    )
    for label in metrics["class_names"]:
        row = f"{' '.join(label.split())} {photos[label]} {percent(selected['recall'][label])}"
        assert f"{row} {percent(selected['precision'][label])}" in page.seen
    wrong = round((1 - selected["accuracy"]) * selected["photos"])
    assert f"{wrong} of {selected['photos']} validation photos are misclassified" in page.seen


def test_mistakes_are_mistakes(wild):
    text = render_report(wild[0])
    cards = text.split('id="mistakes"')[1].split("</section>")[0].split("<figure ")[1:]
    assert cards
    for card in cards:
        label, predicted = re.findall(r"<dd[^>]*><bdi>(.*?)</bdi></dd>", card)
        low, high = re.findall(r"<dd>([\d.]+)%</dd>", card)
        assert label != predicted and float(low) <= float(high)


def test_the_same_run_gives_the_same_report(wild):
    assert render_report(wild[0]) == render_report(wild[0])


def test_an_unfinished_run_has_what_there_is(finish, tmp_path):
    run = finish(tmp_path, ("a", "b", "c"), each=9, folds=3)
    everything = Page(render_report(run))
    assert "not finished" not in everything.seen
    # Taken away in the reverse order of a training; after each step the report must still be written.
    run.metrics_file.unlink()
    run.learning_curve_file.unlink()
    assert "Best so far mean of all members , round 2" in Page(render_report(run)).seen
    (run.round_folder(2) / "blend.json").unlink()
    assert "Best so far mean of all members , round 1" in Page(render_report(run)).seen
    shutil.rmtree(run.round_folder(2))
    (run.round_folder(1) / "blend.json").unlink()
    shutil.rmtree(run.round_folder(1) / "blends")
    members = Page(render_report(run))
    assert {"comparison", "confusion", "mistakes", "members"} <= set(members.ids)
    assert "calibration" not in members.ids
    shutil.rmtree(run.member_folder(1, "second"))
    assert "3 of 6 networks are trained" in Page(render_report(run)).seen
    shutil.rmtree(run.round_folder(1))
    audited = Page(render_report(run))
    assert "No figures yet" in audited.seen and {"photos", "augmentation"} <= set(audited.ids)
    run.manifest_file.unlink()
    run.audit_file.unlink()
    run.stopwatch.path.unlink()
    assert set(Page(render_report(run)).ids) & SECTIONS == {"summary", "networks", "reproduce"}


def test_the_networks_have_their_licences(finish, tmp_path):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    seen = Page(render_report(run)).seen
    assert "test_resnet test_resnet 48 × 64 its head and all layers none: trained from scratch" in seen
    assert "How they were found" not in seen
    write_json(run.arguments_file, {"photos": "photos", "weights": "hub", "minutes": None})
    assert "test_resnet 48 × 64 its head and all layers apache-2.0" in Page(render_report(run)).seen


def test_a_search_is_told(finish, tmp_path):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    members = [{"backbone": "test_resnet", "size": [48, 64], "stages": [0]}, {"backbone": "res2net50_14w_8s"}]
    members[1] |= {"size": [64, 64], "name": "second", "stages": [0, 0.5]}
    recipe = load_recipe(str(run.recipe_file), {"members": members, "search": {}})
    write_text(run.recipe_file, to_toml(recipe))
    write_json(run.arguments_file, {"photos": "photos", "weights": "hub", "minutes": 3})
    figures = {"size": [48, 64], "accuracy": 0.875, "log_loss": 0.25, "ms_per_photo": 12.34}
    best = {"name": "test_resnet", "backbone": "test_resnet", **figures}
    probes = [{**best, "name": "worse", "backbone": "convnextv2_atto.fcmae", "log_loss": 0.5}, best]
    write_json(run.search_file, {"probes": probes, "plan": ""})
    seen = Page(render_report(run)).seen
    assert "2 frozen backbones with a head were tried" in seen and "The plan" not in seen
    outlook = {"plan": "heads on <frozen> ones", "accuracy": 0.8, "interval": [0.75, 0.85]}
    write_json(run.search_file, {"probes": probes, **outlook, "more_time": ["this", "that"]})
    seen = Page(render_report(run)).seen
    assert "The plan: heads on <frozen> ones. By the probes, an accuracy of 75.0 – 85.0% was" in seen
    assert "was to be expected. More time would allow this and that." in seen
    assert seen.index("test_resnet 87.5% 0.2500 12.3 apache-2.0 yes") < seen.index(
        "worse 87.5% 0.5000 12.3 cc-by-nc-4.0 no"
    )
    assert "second res2net50_14w_8s 64 × 64 50% of its layers not known" in seen
    write_json(run.search_file, {"probes": probes, **outlook, "more_time": []})
    assert "More time would not change the plan." in Page(render_report(run)).seen


def test_missing_photos_are_mentioned(finish, tmp_path):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    shutil.rmtree(tmp_path / "photos")
    seen = Page(render_report(run)).seen
    assert "no pictures" in seen and "are misclassified" in seen


def test_thumbnails_keep_the_recipes_limit_of_pixels(finish, tmp_path):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    large = tmp_path / "photos" / "train" / "0" / "0.jpg"
    Image.new("RGB", (150, 100)).save(large, "PNG")  # a JPEG would be decoded at an eighth
    manifest = read_manifest(run.manifest_file)
    manifest.loc[manifest["path"] == "train/0/0.jpg", "sha256"] = hashlib.sha256(
        large.read_bytes()
    ).hexdigest()
    write_manifest(run.manifest_file, manifest)
    assert PLACEHOLDER not in render_report(run)
    limited = load_recipe(str(run.recipe_file)).model_copy(
        update={"photos": PhotoSettings(max_pixels=10_000)}
    )
    write_text(run.recipe_file, to_toml(limited))
    sheet = render_report(run).partition("Examples of each label")[2].partition("</section>")[0]
    assert sheet.count(PLACEHOLDER) == 1


@pytest.mark.parametrize("each", [1, 3])
def test_many_labels_stay_a_small_file(finish, tmp_path, each):
    names = tuple(f"label {index} " + "я" * 180 for index in range(300))
    run = finish(tmp_path, names, each=each + 1, rounds=1)
    assert write_report(run).stat().st_size < 10e6


def test_the_command_writes_it(finish, tmp_path, fovsfe):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    ended = fovsfe("report", run.root)
    assert ended.code == 0 and str(run.root / "report.html") in ended.out
    assert (run.root / "report.html").exists()
    nothing = fovsfe("report", tmp_path)
    assert nothing.code == 1 and "is not a run" in nothing.line


def test_a_run_without_dataset_json_yet_has_a_report(finish, tmp_path):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    run.metrics_file.unlink()
    run.dataset_file.unlink()
    page = Page(render_report(run))
    assert "No figures yet" in page.seen and {"summary", "cost", "reproduce"} <= set(page.ids)


def test_a_finished_run_without_dataset_json_is_an_error(finish, tmp_path):
    run = finish(tmp_path, ("a", "b"), rounds=1)
    run.dataset_file.unlink()
    with pytest.raises(FovsfeError, match=r"dataset\.json"):
        render_report(run)


def test_a_report_on_flowers_never_says_car(finish, tmp_path):
    about = {"title": "Which flower is it?", "noun": "flower", "plural": "flowers", "icon": "🌼"}
    run = finish(tmp_path, ("rose", "tulip"), accent="#ffd54a", **about)
    write_json(
        run.audit_file, [{"kind": "tiny", "severity": "warning", "ids": ["0/0.jpg"], "detail": "small"}]
    )
    page = Page(render_report(run))
    assert not re.search(r"\bcars?\b|badge", page.seen, re.IGNORECASE)
    assert "🌼 Which flower is it?" in page.seen and "of flowers, " in page.seen
    assert "the details that tell flowers apart" in page.seen
    assert icon_link("🌼") in page.links


def test_a_report_says_it_in_general_by_default(page, wild):
    assert not re.search(r"\bcars?\b|badge", page.seen, re.IGNORECASE)
    assert f"Of the {len(wild[1])} labels, " in page.seen and "data:," in page.links


@pytest.mark.slow
def test_twenty_thousand_photos_take_flat_memory_and_a_small_file(finish, tmp_path):
    peaks = []
    for each in (200, 2000):
        run = finish(tmp_path / str(each), tuple(f"label {i}" for i in range(10)), each=each)
        script = (
            "import resource, sys; from fovsfe.report.report import write_report; from fovsfe.run import Run;"
            "from pathlib import Path; write_report(Run(Path(sys.argv[1])));"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        done = subprocess.run([sys.executable, "-c", script, run.root], capture_output=True, check=True)
        assert (run.root / "report.html").stat().st_size < 10e6
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 150, peaks


def test_what_stands_beside_the_headline(finish, tmp_path):
    run = finish(tmp_path, names=("a", "b", "c"), rounds=1)
    metrics = json.loads(run.metrics_file.read_text())
    figures = {
        "baselines": {"most_frequent": 0.99, "guessing": 1 / 3},
        "evaluated_networks": "of one network",
    }
    write_json(run.metrics_file, {**metrics, "selected": {**metrics["selected"], **figures}})
    text = Page(render_report(run)).seen
    words = "This model is no better than always answering with the most frequent label"
    assert words in text and text.index(words) < text.index("95% confidence interval")
    assert "guessing for 33.3%" in text
    assert "The figures are of one network." in text
    figures["baselines"]["most_frequent"] = 1 / 3
    write_json(run.metrics_file, {**metrics, "selected": {**metrics["selected"], **figures}})
    assert "no better than" not in Page(render_report(run)).seen


def test_labels_that_no_validation_photo_has_are_named(finish, tmp_path):
    run = finish(tmp_path, names=("a", "b", "rare"), rounds=1)
    text = Page(render_report(run)).seen
    assert "No validation photo has" not in text
    held_out = run.blend_predictions_file(1, "selected")
    manifest = read_manifest(run.manifest_file)
    common = list(manifest["id"][(manifest["fold"] == 0) & (manifest["label"] != "rare")])
    lines = held_out.read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0] in {"id", *common}]
    write_text(run.held_out_file, "\n".join(kept) + "\n")
    assert "No validation photo has this label: rare" in Page(render_report(run)).seen
    assert f"of {len(common)} validation photos are classified correctly" in Page(render_report(run)).seen


def test_what_none_of_these_and_label_sets_are_worth(wild):
    run, names = wild
    text = Page(render_report(run)).seen
    assert "It is said of 2.5% of the 40 predictions for held-out photos that are right" in text
    assert "noise 40 2.5% 0.4% to 12.9%" in text
    assert "a set has 1.7 labels on average" in text
    assert f"{names[0]} 40 2.5% 0.4% to 12.9%" in text


def test_every_mistake_is_listed_once_and_the_surest_label_errors_are_marked(finish, tmp_path):
    run = finish(tmp_path, tuple("abcdefgh"), each=12, rounds=1)
    frame = read_predictions(run.blend_predictions_file(1, "selected"))
    wrong = frame.index[frame.idxmax(axis=1) != labels_of(run).loc[frame.index]]
    assert len(wrong) > 1
    surest = frame.loc[wrong[0]] * 0 + 0.001
    surest[frame.loc[wrong[0]].idxmax()] = 0.998
    frame.loc[wrong[0]] = surest
    write_predictions(run.held_out_file, frame)
    section = render_report(run).split('id="mistakes"')[1].split("</section>")[0]
    captions = re.findall("<figcaption>(.*?)</figcaption>", section)
    paths = read_manifest(run.manifest_file).set_index("id")["path"]
    assert sorted(captions) == sorted(paths[wrong])
    assert captions[0] == paths[wrong[0]]  # the most surprising
    marked = [card for card in section.split("<figure ")[1:] if "data-suspect" in card.split(">")[0]]
    assert len(marked) == 1 and paths[wrong[0]] in marked[0] and "<mark>label?</mark>" in marked[0]
    assert "Of 1, marked" in section


def labels_of(run):
    return read_manifest(run.manifest_file).set_index("id")["label"]


def test_room_goes_to_the_first_mistakes_and_then_to_one_of_each_pair():
    found = [LabelError(i, *divmod(pair, 10), 100.0 - i) for i, pair in enumerate([*[1] * 70, 2, 1, 2, 3])]
    order = [mistake.position for mistake in photos._most_telling(found)]
    assert order == [*range(60), 70, 73, *range(60, 70), 71, 72]


def test_mistakes_take_no_more_of_the_file_than_they_may(finish, tmp_path, monkeypatch):
    run = finish(tmp_path, tuple("abcdefgh"), each=12, rounds=1)

    def shown():
        return len(re.findall("data-pair=", render_report(run)))

    every = shown()
    assert every > 2
    monkeypatch.setattr(photos, "MAX_MISTAKES", 2)
    assert shown() == 2 and "These are 2 of them" in Page(render_report(run)).seen
    monkeypatch.setattr(photos, "MAX_MISTAKES", 150)
    monkeypatch.setattr(photos, "MAX_MISTAKE_BYTES", 6000)
    assert 0 < shown() < every


def test_the_selected_matrix_is_of_the_predictions_that_the_figures_are_of(finish, tmp_path):
    run = finish(tmp_path, ("a", "b", "c"), each=9, rounds=1)
    frame = read_predictions(run.blend_predictions_file(1, "selected"))
    write_predictions(run.held_out_file, frame.iloc[:, [1, 2, 0]].set_axis(frame.columns, axis=1))
    text = render_report(run)
    linked = {tuple(pair) for pair in re.findall(r"#confusion-\d+-pair-(\d)-(\d)", text)}
    listed = {tuple(pair) for pair in re.findall(r'href="#pair-(\d)-(\d)"', text)}
    assert linked == listed != set()
