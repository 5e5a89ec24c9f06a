"""What each section of the report says: plain values, charts and thumbnails for the template to lay out."""

import base64
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.ensemble.blend import Blend, Floats
from fovsfe.ensemble.choose import accept
from fovsfe.ensemble.metrics import Ints, compare, confusion, measure
from fovsfe.recipe import to_toml
from fovsfe.report import charts, faults
from fovsfe.report.augmented import sheet
from fovsfe.report.comparing import (
    answered_at,
    confusable_order,
    coverage,
    disagreement,
    missed,
    reliability,
)
from fovsfe.report.maps import maps_of
from fovsfe.report.reading import Answers, Round, Story
from fovsfe.report.suspects import suspects
from fovsfe.report.thumbnails import thumbnail

# Pictures are most of the file: a thumbnail of 160 pixels is some 6 kB, one of 320 some 17.
SHEET_PHOTOS = 240  # over all labels
SHEET_A_LABEL = 6
AUGMENTED = 4  # photos
MISTAKES = 20
MISTAKE_SIDE = 320
SUSPECTS = 30
PAIRS = 20

Section = dict[str, Any]


def page(story: Story) -> Section:
    """Every section by its name; None (or an empty list) for what the run has not come to yet."""
    trusted = _trusted(story)
    return {
        "name": story.run.root.resolve().name,
        "finished": story.metrics is not None,
        "answer": _answer(story, trusted),
        "photos": _photos(story, trusted),
        "augmented": _augmented(story),
        "curves": _curves(story),
        "compared": _compared(story),
        "confusions": _confusions(story, trusted),
        "mistakes": _mistakes(story, trusted),
        "calibration": _calibration(story, trusted),
        "unknown": _unknown(story, trusted),
        "brought": _brought(story),
        "members": _members(story, trusted),
        "suspects": _suspects(story, trusted),
        "cost": _cost(story),
        "again": _again(story),
    }


class _Trusted:
    """The answers that the report is about: the chosen blend's, or of an unfinished run the best there is."""

    def __init__(
        self, round: Round, title: str, answers: Answers, blend: Blend | None, labels: Sequence[str]
    ):
        self.round, self.title, self.answers, self.blend = round, title, answers, blend
        self.figures = measure(answers.probabilities, answers.truth, labels)
        self.order = confusable_order(confusion(answers.probabilities, answers.truth))


def _trusted(story: Story) -> _Trusted | None:
    chosen = story.metrics["chosen"]["round"] if story.metrics else None
    blended = [each for each in story.rounds if "chosen" in each.blends and chosen in (None, each.number)]
    if blended:
        last = blended[-1]
        assert last.blend is not None
        title = _blend_title(last.blend, story)
        return _Trusted(last, title, last.blends["chosen"], last.blend, story.labels)
    trained = [each for each in story.rounds if each.members and chosen in (None, each.number)]
    if not trained:
        return None
    titles, answers, each_one = _side_by_side(trained[0].members)
    if not len(answers.rows):
        return None
    mean = Answers(answers.rows, answers.truth, each_one.mean(axis=0))
    title = titles[0] if len(titles) == 1 else f"the mean of {', '.join(titles)}"
    return _Trusted(trained[0], title, mean, None, story.labels)


def _side_by_side(answers: Mapping[str, Answers]) -> tuple[list[str], Answers, Floats]:
    """Members on the photos that all of them have judged: titles, the first one's, (members, n, labels)."""
    common = next(iter(answers.values())).rows
    for each in answers.values():
        common = np.intersect1d(common, each.rows)
    found = [each.probabilities[np.isin(each.rows, common)] for each in answers.values()]
    first = next(iter(answers.values()))
    here = np.isin(first.rows, common)
    return list(answers), Answers(first.rows[here], first.truth[here], found[0]), np.stack(found)


def _blend_title(blend: Blend, story: Story) -> str:
    if len(blend.members) == 1:
        return f"{blend.members[0]} alone"
    if len(blend.members) == len(story.recipe.members):
        return f"{blend.kind} of all members"
    return f"{blend.kind} of {', '.join(blend.members)}"


# ---- the answer


def _answer(story: Story, trusted: _Trusted | None) -> Section:
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
        "views": chosen.get("views", []),
        "reasons": chosen.get("reasons", []),
        "labels": len(story.labels),
        "seconds": story.seconds,
        "networks_done": done,
        "networks": story.networks * (story.recipe.rounds if tested else 1),
        "photos_gone": len(story.table) > 0 and not story.photos.exists(),
        "photos": str(story.photos),
    }


# ---- the photos


def _photos(story: Story, trusted: _Trusted | None) -> Section | None:
    if story.table.empty:
        return None
    table = story.table
    good = table[(table["part"] == "train") & (table["fault"] == "")]
    names = list(story.labels) or list(dict.fromkeys(good["label"]))
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
            {"label": name, "photos": [thumbnail(story.photos, p) for p in _spread(photos[name], a_label)]}
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
        "faults": faults.fragment(story.photos, story.findings, table)
        if any(finding["ids"] for finding in story.findings)
        else None,
    }


def _sizes(table: pd.DataFrame) -> Any:
    if "width" not in table or not (table["fault"] == "").any():
        return None
    good = table[table["fault"] == ""]
    return charts.photo_sizes(Counter(zip(good["width"].tolist(), good["height"].tolist(), strict=True)))


def _spread(paths: "pd.Series[str]", most: int) -> list[str]:
    """Some of them, from the whole range."""
    at = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    return [str(path) for path in paths.iloc[at]]


def _augmented(story: Story) -> Section | None:
    good = story.table[(story.table["part"] == "train") & (story.table["fault"] == "")]
    rows = sheet(story.photos, _spread(good["path"], AUGMENTED), story.recipe) if len(good) else []
    return {"rows": rows, "settings": story.recipe.augment} if rows else None


# ---- how the members learned


def _curves(story: Story) -> list[Section]:
    return [
        {
            "round": each.number,
            "member": title,
            "chart": charts.learning_curves(f"curves-{each.number}-{place}", title, curves),
            "kept": [
                {
                    "fold": curve.fold,
                    "stage": float(curve.epochs["stage"].iloc[curve.kept]),
                    "log_loss": float(curve.epochs["log_loss"].iloc[curve.kept]),
                    "accuracy": float(curve.epochs["accuracy"].iloc[curve.kept]),
                }
                for curve in curves
                if curve.kept is not None
            ],
            "under_way": [curve.fold for curve in curves if curve.kept is None],
        }
        for each in story.rounds
        for place, (title, curves) in enumerate(each.curves.items())
    ]


# ---- members and blends


def _compared(story: Story) -> Section | None:
    rows = [row for each in story.rounds for row in _figures(story, each)]
    if not rows:
        return None
    drawn = [
        charts.Compared(row["title"], row["round"], f.accuracy, f.interval, row["chosen"])
        for row in rows
        for f in (row["figures"],)
    ]
    candidates = [
        {"round": each["round"], "name": name, **figures}
        for each in (story.metrics or {}).get("rounds", [])
        for name, figures in each["blends"].items()
    ]
    return {"chart": charts.comparison(drawn), "rows": rows, "candidates": candidates}


def _figures(story: Story, each: Round) -> Iterator[Section]:
    """The members of a round, then its blends."""
    stressed = _stressed(story, each.number)
    chosen_round = story.metrics["chosen"]["round"] if story.metrics else None
    for title, answers, is_choice in _answers(story, each):
        figures = measure(answers.probabilities, answers.truth, story.labels)
        yield {
            "round": each.number,
            "title": title,
            "figures": figures,
            "stressed": stressed.get(title),
            "chosen": is_choice and each.number == chosen_round,
        }


def _answers(story: Story, each: Round) -> Iterator[tuple[str, Answers, bool]]:
    """Members and blends by title, and whether one is the round's choice, which is there once."""
    for title, answers in each.members.items():
        yield title, answers, False
    everyone = tuple(member.title for member in story.recipe.members)
    for kind, answers in each.blends.items():
        if kind == "chosen":
            continue
        is_choice = each.blend is not None and (each.blend.kind, each.blend.members) == (kind, everyone)
        yield "calibrated" if len(everyone) == 1 else f"{kind} of all members", answers, is_choice
    if each.blend is not None and "chosen" in each.blends and each.blend.members != everyone:
        yield _blend_title(each.blend, story), each.blends["chosen"], True


def _stressed(story: Story, number: int) -> dict[str, float]:
    """Accuracy on strongly augmented copies, by member, where the recipe asks for it."""
    for each in (story.metrics or {}).get("rounds", []):
        if each["round"] == number:
            return {
                title: float(np.mean([network["stressed_accuracy"] for network in figures["networks"]]))
                for title, figures in each["members"].items()
                if all("stressed_accuracy" in network for network in figures["networks"])
            }
    return {}


def _confusions(story: Story, trusted: _Trusted | None) -> Section | None:
    if trusted is None:
        return None
    names = [story.labels[i] for i in trusted.order]
    each_one: list[Section] = []
    for each in story.rounds:
        for title, answers, is_choice in _answers(story, each):
            counts = confusion(answers.probabilities, answers.truth)[np.ix_(trusted.order, trusted.order)]
            name = f"confusion-{len(each_one)}"
            each_one.append(
                {
                    "title": f"{title}, round {each.number}" if len(story.rounds) > 1 else title,
                    "chosen": is_choice and each is trusted.round,
                    "photos": charts.confusion(f"{name}-photos", title, counts, names, shares=False),
                    "shares": charts.confusion(f"{name}-shares", title, counts, names, shares=True),
                }
            )
    counts = confusion(trusted.answers.probabilities, trusted.answers.truth)
    return {
        "each": each_one,
        "pairs": list(_pairs(counts, story.labels)),
        "title": trusted.title,
        "large": len(names) > charts.MOST_FOR_A_PHONE,
    }


def _pairs(counts: Ints, labels: Sequence[str]) -> Iterator[Section]:
    wrong = counts - np.diag(np.diag(counts))
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]:
        true, given = np.unravel_index(cell, wrong.shape)
        if wrong[true, given]:
            times, of = int(wrong[true, given]), int(counts[true].sum())
            yield {"true": labels[true], "given": labels[given], "times": times, "of": of}


# ---- where they are wrong, and how well they know


def _mistakes(story: Story, trusted: _Trusted | None) -> Section | None:
    if trusted is None:
        return None
    said, truth = trusted.answers.probabilities, trusted.answers.truth
    given = said.argmax(axis=1)
    wrong = np.flatnonzero(given != truth)
    worst = wrong[np.argsort(-said[wrong, given[wrong]], kind="stable")][:MISTAKES]
    photos = story.table.iloc[trusted.answers.rows[worst]]
    names = [story.labels[i] for i in given[worst]]
    maps = maps_of(story.run, story.photos, photos, names) if len(worst) else []
    return {
        "wrong": len(wrong),
        "photos": len(truth),
        "has_maps": any(maps),
        "worst": [
            {
                "photo": thumbnail(story.photos, path, MISTAKE_SIDE),
                "map": f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else None,
                "path": path,
                "true": story.labels[truth[i]],
                "given": name,
                "p_given": float(said[i, given[i]]),
                "p_true": float(said[i, truth[i]]),
            }
            for i, path, name, png in zip(worst, photos["path"], names, maps, strict=True)
        ],
    }


def _calibration(story: Story, trusted: _Trusted | None) -> Section | None:
    if trusted is None or trusted.blend is None:
        return None
    members = {title: trusted.round.members[title] for title in trusted.blend.members}
    _, answers, each_one = _side_by_side(members)
    before = each_one.mean(axis=0)
    after, truth = trusted.answers.probabilities, trusted.answers.truth
    return {
        "chart": charts.reliability(reliability(before, answers.truth), reliability(after, truth)),
        "before": measure(before, answers.truth, story.labels),
        "after": trusted.figures,
        "temperature": trusted.blend.temperature,
        "kind": trusted.blend.kind,
        "title": trusted.title,
        "alone": len(members) == 1,
    }


def _unknown(story: Story, trusted: _Trusted | None) -> Section | None:
    if trusted is None or trusted.blend is None:
        return None
    said, truth, threshold = trusted.answers.probabilities, trusted.answers.truth, trusted.blend.threshold
    answered, accuracy = answered_at(said, truth, threshold)
    return {
        "chart": charts.coverage(coverage(said, truth), threshold, (answered, accuracy)),
        "threshold": threshold,
        "answered": answered,
        "accuracy": accuracy,
    }


# ---- what helped


def _brought(story: Story) -> Section:
    rows = []
    for each in story.rounds:
        both = {title: each.plain[title] for title in each.viewed}
        if both:
            _, answers, plain = _side_by_side(both)
            _, _, viewed = _side_by_side(each.viewed)
            what = f"views {', '.join(story.recipe.ensemble.views)}, round {each.number}"
            rows.append(_change(what, plain.mean(axis=0), viewed.mean(axis=0), answers.truth, story.labels))
    if len(story.rounds) == 2:
        rows += list(_round_changes(story))
    return {"rows": rows, "pseudo": _pseudo(story)}


def _round_changes(story: Story) -> Iterator[Section]:
    first, second = story.rounds
    pairs: list[tuple[str, Answers | None, Answers | None]]
    pairs = [(title, first.members.get(title), after) for title, after in second.members.items()]
    pairs.append(("the choice", first.blends.get("chosen"), second.blends.get("chosen")))
    for title, before, after in pairs:
        if before is not None and after is not None:
            same = {"before": before, "after": after}
            _, answers, (was, now) = _side_by_side(same)
            yield _change(f"round 2: {title}", was, now, answers.truth, story.labels)


def _change(what: str, before: Floats, after: Floats, truth: Ints, labels: Sequence[str]) -> Section:
    return {
        "what": what,
        "before": measure(before, truth, labels),
        "after": measure(after, truth, labels),
        "compared": compare(before, after, truth),
        "wins": accept(before, after, truth)[0],
    }


def _pseudo(story: Story) -> Section | None:
    if story.pseudo is None:
        return None
    tested = int((story.table["part"] == "test").sum())
    counts = Counter(story.pseudo["label"])
    return {
        "photos": story.pseudo["id"].nunique(),
        "of": tested,
        "confidence": float(story.pseudo["confidence"].mean()) if len(story.pseudo) else None,
        "labels": [(label, counts[label]) for label in story.labels if counts[label]],
        "folds": max(story.recipe.split.folds, 1),
    }


def _members(story: Story, trusted: _Trusted | None) -> Section | None:
    if trusted is None or len(trusted.round.members) < 2:
        return None
    titles, answers, each_one = _side_by_side(trusted.round.members)
    if not len(answers.rows):
        return None
    losses = missed(each_one, answers.truth)
    most = max(range(len(titles)), key=lambda i: losses[i].log_loss)
    return {
        "round": trusted.round.number,
        "photos": len(answers.rows),
        "chart": charts.disagreement(disagreement(each_one), titles),
        "rows": [{"title": title, "missed": loss} for title, loss in zip(titles, losses, strict=True)],
        "most": titles[most] if losses[most].log_loss > 0 else None,
    }


def _suspects(story: Story, trusted: _Trusted | None) -> Section | None:
    if trusted is None:
        return None
    said, truth = trusted.answers.probabilities, trusted.answers.truth
    found = suspects(said, truth, SUSPECTS)
    paths = story.table["path"].iloc[trusted.answers.rows]
    return {
        "photos": len(truth),
        "worst": [
            {
                "photo": thumbnail(story.photos, paths.iloc[each.position]),
                "path": paths.iloc[each.position],
                "given": story.labels[each.given],
                "suspected": story.labels[each.suspected],
                "p_given": float(said[each.position, each.given]),
                "p_suspected": float(said[each.position, each.suspected]),
            }
            for each in found
        ],
    }


# ---- to know what it took, and to do it again


def _cost(story: Story) -> Section | None:
    if not story.steps:
        return None
    seconds = {name: step["seconds"] for name, step in story.steps.items()}
    return {"chart": charts.seconds_by_step(seconds), "steps": story.steps, "seconds": story.seconds}


def _again(story: Story) -> Section:
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
