"""report.run_data: what is there of a run at any time, and its predictions as data frames."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.report.run_data import PREDICTION_COLUMNS, learning_curve, mistakes, predictions, read_run_data
from fovsfe.run import Run


@pytest.fixture
def folded(finish, tmp_path):
    return finish(tmp_path, ("a", "b", "c"), each=9, folds=3, rounds=1)


def test_members_are_put_together_from_the_folds_that_are_done(folded):
    complete = read_run_data(folded).rounds[0].member_predictions["second"]
    folded.metrics_file.unlink()
    (folded.member_folder(1, "second") / "out_of_fold.csv").unlink()
    (folded.fold_folder(1, "second", 1) / "result.json").unlink()  # as if it were still training
    run_data = read_run_data(folded)
    part = run_data.rounds[0].member_predictions["second"]
    assert (run_data.manifest["fold"].iloc[part.val_idx] != 1).all() and len(part.val_idx) == 18
    common = np.isin(complete.val_idx, part.val_idx)
    np.testing.assert_allclose(part.probabilities, complete.probabilities[common], atol=1e-6)
    np.testing.assert_array_equal(part.y_true, complete.y_true[common])


def test_a_network_that_is_still_training_is_read_from_the_log(folded):
    history = folded.fold_folder(1, "second", 2) / "history.csv"
    history.unlink()
    name = "second, round 1, fold 2"
    for epoch, loss in ((0, 3.0), (1, 2.0), (1, 1.5)):  # the last one again, after a crash
        folded.log(
            "epoch", network=name, layer_share=0.0, epoch=epoch, loss=loss, log_loss=loss, accuracy=0.5
        )
    with (folded.root / "log.jsonl").open("a") as file:
        file.write('{"event": "epo')  # killed in mid-line
    curve = read_run_data(folded).rounds[0].curves["second"][2]
    assert curve.best_epoch is None and curve.epochs["log_loss"].tolist() == [3.0, 1.5]
    assert read_run_data(folded).rounds[0].curves["second"][1].best_epoch == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FovsfeError, match="is not a run"):
        read_run_data(Run(tmp_path))


def test_predictions_for_other_photos_are_refused(folded):
    lines = folded.manifest_file.read_text("utf-8").splitlines()
    folded.manifest_file.write_text("\n".join(lines[:-1]) + "\n", "utf-8")
    with pytest.raises(FovsfeError, match="photos"):
        read_run_data(folded)


def test_a_damaged_file_is_named(folded):
    folded.metrics_file.write_text(json.dumps({})[:1])
    with pytest.raises(FovsfeError, match=r"metrics\.json"):
        read_run_data(folded)


def test_the_figures_do_not_need_the_photos(folded):
    before = read_run_data(folded).rounds[0].member_predictions
    shutil.rmtree(read_run_data(folded).root)
    assert list(read_run_data(folded).rounds[0].member_predictions) == list(before)


def test_the_photos_are_not_listed(folded, monkeypatch):
    monkeypatch.setattr("fovsfe.photos.layouts.find_photos", lambda root: pytest.fail("it lists the photos"))
    assert read_run_data(folded).class_names == ("a", "b", "c")


def test_predictions_are_those_of_the_selected_blend(folded):
    frame = predictions(read_run_data(folded))
    assert list(frame) == PREDICTION_COLUMNS and frame["id"].is_unique
    blend = pd.read_csv(folded.blend_predictions_file(1, "selected"), index_col="id").loc[frame["id"]]
    assert frame["predicted"].tolist() == blend.idxmax(axis=1).tolist()
    np.testing.assert_allclose(frame["probability"], blend.max(axis=1))
    p_label = [blend.loc[row.id, row.label] for row in frame.itertuples()]
    np.testing.assert_allclose(frame["p_label"], p_label)
    photos = pd.read_csv(folded.manifest_file, dtype={"label": str}).set_index("id").loc[frame["id"]]
    for column in ("path", "label", "fold"):
        assert frame[column].tolist() == photos[column].tolist()
    selected = json.loads(folded.metrics_file.read_text("utf-8"))["selected"]
    assert (frame["label"] == frame["predicted"]).mean() == pytest.approx(selected["accuracy"])


def test_mistakes_are_the_wrong_predictions_the_most_confident_first(folded):
    run_data = read_run_data(folded)
    frame, wrong = predictions(run_data), mistakes(run_data)
    assert set(wrong["id"]) == set(frame["id"][frame["label"] != frame["predicted"]])
    assert len(wrong) and wrong["probability"].is_monotonic_decreasing
    assert wrong.index.tolist() == list(range(len(wrong)))


def test_without_a_trained_network_there_are_no_predictions(folded):
    folded.metrics_file.unlink()
    shutil.rmtree(folded.round_folder(1))
    run_data = read_run_data(folded)
    for frame in (predictions(run_data), mistakes(run_data)):
        assert frame.empty and list(frame) == PREDICTION_COLUMNS


def test_the_learning_curve_is_measured_and_then_predicted(folded):
    frame = learning_curve(read_run_data(folded))
    assert frame["photos"].tolist() == [13, 27, 27, 54]
    assert frame["accuracy"].tolist() == [0.7, 0.8, 0.8, 0.85]
    assert frame["low"].isna().tolist() == [True, True, False, False]
    folded.learning_curve_file.unlink()
    assert learning_curve(read_run_data(folded)).empty
