"""What a training hands in at its end: submissions, figures, and the bundle."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.bundle.run_export import export_run
from fovsfe.context import Floats, RoundResult, RunContext
from fovsfe.ensemble import submission
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.metrics import compute_metrics
from fovsfe.ensemble.selection import accept_change
from fovsfe.files import write_json


def write_outputs(context: RunContext, table: pd.DataFrame, rounds: list[RoundResult]) -> None:
    """Which round counts; then submissions, bundle, and last metrics.json, which says that all is done."""
    chosen, round_reason = rounds[0], "there is one round"
    if len(rounds) == 2:
        before, after = rounds[0].choice.out_of_fold, rounds[1].choice.out_of_fold
        wins, round_reason = accept_change(before, after, context.y_true(context.val_idx))
        round_reason = f"round 2 {round_reason}"
        chosen = rounds[1] if wins else rounds[0]
    _submissions(context, table, rounds, chosen)
    metrics = _metrics(context, table, rounds, chosen, round_reason)
    if not (context.run.bundle / "bundle.json").exists():
        context.screen.say("exporting the bundle")
        export_run(context.run, context.run.bundle, metrics)
    write_json(context.run.metrics, {**metrics, "steps": context.run.spent.read(), "versions": _versions()})


def _submissions(
    context: RunContext, table: pd.DataFrame, rounds: list[RoundResult], chosen: RoundResult
) -> None:
    most_frequent = str(table.loc[table["part"] == "train", "label"].mode()[0])
    everyone = list(table.loc[table["part"] == "test", "id"])
    place = {photo: i for i, photo in enumerate(everyone)}
    rows = [place[photo] for photo in context.ids(context.test_idx)]

    def write(file: Path, answers: Floats) -> list[str]:
        every = np.full((len(everyone), len(context.dataset.class_names)), np.nan)
        every[rows] = answers
        found = context.dataset
        return submission.write_submission(
            file, found.sample, everyone, every, found.class_names, found.label_ids, most_frequent
        )

    if not everyone:
        return
    for each in rounds:
        test = each.test.mean(1)
        blends = [Blend(kind="mean", members=(member.title,)) for member in context.recipe.members]
        named = {blend.name: blend for blend in blends} | {blend.kind: blend for blend in each.choice.fitted}
        for name, blend in (named | {"chosen": each.choice.blend}).items():
            file = context.run.named_submission(f"round-{each.number}-{name}")
            write(file, blend.apply(context.of_blend(blend, test)))
    blend = chosen.choice.blend
    filled = write(context.run.submission, blend.apply(context.of_blend(blend, chosen.test.mean(1))))
    if filled:
        context.screen.say(
            f"warning: {len(filled)} test photos could not be read and got the most frequent class, "
            f'"{most_frequent}": {", ".join(filled[:4])}'
        )
        context.run.log("filled", ids=filled, label=most_frequent)


def _metrics(
    context: RunContext,
    table: pd.DataFrame,
    rounds: list[RoundResult],
    chosen: RoundResult,
    round_reason: str,
) -> dict[str, Any]:
    y_true, class_names = context.y_true(context.val_idx), context.dataset.class_names
    members = [member.title for member in context.recipe.members]
    return {
        "measured_on": f"{len(y_true)} photos with true labels",
        "photos": {
            "labelled": int((table["part"] == "train").sum()),
            "judged": len(y_true),
            "test": int((table["part"] == "test").sum()),
            "unreadable": int((table["fault"] != "").sum()),
        },
        "class_names": list(class_names),
        "chosen": {
            "round": chosen.number,
            "blend": chosen.choice.blend.name,
            "tta": list(chosen.tta),
            **chosen.choice.metrics.model_dump(mode="json"),
            "reasons": [round_reason, f"tta: {chosen.tta_reason}", *chosen.choice.reasons],
        },
        "rounds": [
            {
                "round": each.number,
                "members": {
                    name: {
                        **compute_metrics(each.out_of_fold[m], y_true, class_names).model_dump(mode="json"),
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
                "reasons": [f"tta: {each.tta_reason}", *each.choice.reasons],
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
