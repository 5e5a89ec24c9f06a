"""cli.outcome: what a command shows at the end of a training."""

import json

import pytest

from fovsfe.cli.outcome import check_can_open, print_outcome
from fovsfe.errors import UsageError
from fovsfe.files import write_json
from fovsfe.run import Run

FIGURES = {"accuracy": 0.9, "interval": [0.8, 0.95], "log_loss": 0.3, "most_confused": ["Ока", "Нива", 3]}
METRICS = {
    "measured_on": "200 photos with true labels",
    "selected": {**FIGURES, "round": 2, "blend": "stacking-a+b", "reasons": ["it wins"]},
    "rounds": [
        {
            "round": round_index,
            "members": {"a": FIGURES, "b": FIGURES},
            "blends": {"mean-a+b": FIGURES, "stacking-a+b": FIGURES, "mean-a": FIGURES},
        }
        for round_index in (1, 2)
    ],
}


@pytest.fixture
def complete(tmp_path):
    run = Run(tmp_path / "run")
    write_json(run.metrics_file, METRICS)
    for file in (run.report_file, run.submission_file):
        file.write_text("")
    run.bundle_folder.mkdir()
    return run


def test_figures_choice_and_next_steps(complete, capsys):
    print_outcome(complete, "s3://bucket/run/", as_json=False)
    text = capsys.readouterr().out
    assert "round 1" in text and "round 2" in text
    assert text.count("mean of all") == text.count("stacking of all") == 2
    assert "mean-a " not in text
    lines = text.splitlines()
    assert lines[-7:] == [
        "selected: stacking-a+b of round 2, accuracy 0.900 (0.800 - 0.950) on 200 photos with true labels,"
        " all held out",
        "  it wins",
        "most confused: Ока and Нива, 3 times",
        "run folder: s3://bucket/run",
        "report: s3://bucket/run/report.html",
        "submission: s3://bucket/run/submission.csv",
        "serve it: fovsfe serve s3://bucket/run",
    ]


def test_names_with_a_plus_and_a_members_own_figures(complete, capsys):
    calibrated = {**FIGURES, "log_loss": 0.123}
    metrics = {
        **METRICS,
        "selected": {**METRICS["selected"], "round": 1, "blend": "a+b"},
        "rounds": [
            {
                "round": 1,
                "members": {"a+b": FIGURES, "c": FIGURES},
                "blends": {"mean-a+b+c": FIGURES, "a+b": calibrated, "maximum-b+c": FIGURES},
            }
        ],
    }
    write_json(complete.metrics_file, metrics)
    print_outcome(complete, "run", as_json=False)
    table, _, _ = capsys.readouterr().out.partition("selected:")
    assert table.count("mean of all") == table.count("of all") == 1
    assert table.count("a+b ") == 1
    assert "maximum" not in table
    assert "0.300" in table and "0.123" not in table


def outcome(complete, capsys, **selected):
    write_json(complete.metrics_file, {**METRICS, "selected": {**METRICS["selected"], **selected}})
    print_outcome(complete, "run", as_json=False)
    _, _, text = capsys.readouterr().out.partition("└")
    return text.splitlines()


def test_a_model_no_better_than_guessing_says_so_first(complete, capsys):
    baselines = {"most_frequent": 0.12, "guessing": 0.1}
    lines = [
        line for line in outcome(complete, capsys, baselines=baselines) if line.startswith(("w", "s", "b"))
    ]
    assert lines[0].startswith("selected:")
    assert lines[1] == (
        "beside it: always answering with the most frequent label is right for 12.0%, guessing for 10.0%"
    )
    weak = outcome(complete, capsys, baselines=baselines, interval=[0.09, 0.2])
    first = next(line for line in weak if line.startswith(("warning", "selected")))
    assert first.startswith("warning: this model is no better than guessing: that is right for 10.0%")


def test_labels_without_a_held_out_photo_are_named(complete, capsys):
    lines = outcome(complete, capsys, recall={"Ока": 0.5, "Нива": None, "Волга": None})
    assert any(
        line.startswith("warning: no held-out photo has the labels Нива, Волга: how well") for line in lines
    )


def test_what_the_figures_are_of_and_the_metric(complete, capsys):
    text = "\n".join(
        outcome(complete, capsys, evaluated_networks="of one network", metric="balanced", score=0.81)
    )
    assert "these figures are of one network" in text
    assert "balanced accuracy: 0.810" in text


def test_the_outcome_as_json(complete, capsys):
    print_outcome(complete, "run", as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "run": "run",
        "report": "run/report.html",
        "submission": "run/submission.csv",
        "bundle": "run/bundle",
        "metrics": METRICS,
    }


def test_a_report_at_a_url_cannot_be_opened(tmp_path):
    with pytest.raises(UsageError, match=r"s3://bucket/run/report\.html"):
        check_can_open("s3://bucket/run/")
    check_can_open(str(tmp_path))
