"""What a training hands in at its end: submissions, figures, and the bundle."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.bundle.from_run import export_run
from fovsfe.ensemble import submission
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.choose import accept
from fovsfe.ensemble.metrics import measure
from fovsfe.job import Floats, Job, Round
from fovsfe.run import write_json


def finish(job: Job, table: pd.DataFrame, rounds: list[Round]) -> None:
    """Which round counts; then submissions, bundle, and last metrics.json, which says that all is done."""
    chosen, round_reason = rounds[0], "there is one round"
    if len(rounds) == 2:
        before, after = rounds[0].choice.out_of_fold, rounds[1].choice.out_of_fold
        wins, round_reason = accept(before, after, job.truth(job.judged))
        round_reason = f"round 2 {round_reason}"
        chosen = rounds[1] if wins else rounds[0]
    _submissions(job, table, rounds, chosen)
    metrics = _metrics(job, table, rounds, chosen, round_reason)
    if not (job.run.bundle / "bundle.json").exists():
        job.screen.say("exporting the bundle")
        export_run(job.run, job.run.bundle, metrics)
    write_json(job.run.metrics, {**metrics, "steps": job.run.spent.read(), "versions": _versions()})


def _submissions(job: Job, table: pd.DataFrame, rounds: list[Round], chosen: Round) -> None:
    most_frequent = str(table.loc[table["part"] == "train", "label"].mode()[0])
    everyone = list(table.loc[table["part"] == "test", "id"])
    place = {photo: i for i, photo in enumerate(everyone)}
    rows = [place[photo] for photo in job.ids(job.asked)]

    def write(file: Path, answers: Floats) -> list[str]:
        every = np.full((len(everyone), len(job.found.labels)), np.nan)
        every[rows] = answers
        found = job.found
        return submission.write(
            file, found.sample, everyone, every, found.labels, found.label_ids, most_frequent
        )

    if not everyone:
        return
    for each in rounds:
        test = each.test.mean(1)
        blends = [Blend(kind="mean", members=(member.title,)) for member in job.recipe.members]
        named = {blend.name: blend for blend in blends} | {blend.kind: blend for blend in each.choice.fitted}
        for name, blend in (named | {"chosen": each.choice.blend}).items():
            file = job.run.named_submission(f"round-{each.number}-{name}")
            write(file, blend.apply(job.of_blend(blend, test)))
    blend = chosen.choice.blend
    filled = write(job.run.submission, blend.apply(job.of_blend(blend, chosen.test.mean(1))))
    if filled:
        job.screen.say(
            f"warning: {len(filled)} test photos could not be read and got the most frequent class, "
            f'"{most_frequent}": {", ".join(filled[:4])}'
        )
        job.run.log("filled", ids=filled, label=most_frequent)


def _metrics(
    job: Job, table: pd.DataFrame, rounds: list[Round], chosen: Round, round_reason: str
) -> dict[str, Any]:
    truth, labels = job.truth(job.judged), job.found.labels
    members = [member.title for member in job.recipe.members]
    return {
        "measured_on": f"{len(truth)} photos with true labels",
        "photos": {
            "labelled": int((table["part"] == "train").sum()),
            "judged": len(truth),
            "test": int((table["part"] == "test").sum()),
            "unreadable": int((table["fault"] != "").sum()),
        },
        "labels": list(labels),
        "chosen": {
            "round": chosen.number,
            "blend": chosen.choice.blend.name,
            "views": list(chosen.views),
            **chosen.choice.metrics.model_dump(mode="json"),
            "reasons": [round_reason, f"views: {chosen.views_reason}", *chosen.choice.reasons],
        },
        "rounds": [
            {
                "round": each.number,
                "members": {
                    name: {
                        **measure(each.out_of_fold[m], truth, labels).model_dump(mode="json"),
                        "networks": each.kept_stages[name],
                    }
                    for m, name in enumerate(members)
                },
                "blends": {
                    candidate.name: {
                        "calibrated": candidate.calibrated,
                        **candidate.metrics.model_dump(mode="json"),
                    }
                    for candidate in each.choice.candidates
                },
                "chosen": each.choice.blend.name,
                "reasons": [f"views: {each.views_reason}", *each.choice.reasons],
            }
            for each in rounds
        ],
    }


def _versions() -> dict[str, str]:
    """Of what the figures depend on."""
    libraries = (
        "fovsfe",
        "torch",
        "torchvision",
        "timm",
        "lightning-fabric",
        "scikit-learn",
        "pillow",
        "numpy",
    )
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
