"""training.checkpoint: the best network is kept, files are whole, damage is named."""

import csv
import math

import pytest
import torch

from fovsfe.errors import FovsfeError
from fovsfe.training import checkpoint
from fovsfe.training.checkpoint import TrainingState


def row(log_loss, layer_share=0.5, epoch=0):
    return {
        "layer_share": layer_share,
        "epoch": epoch,
        "loss": 1.0,
        "log_loss": log_loss,
        "accuracy": 0.5,
        "seconds": 0.1,
    }


def weights(value):
    return {"w": torch.full((2,), float(value))}


def test_without_a_file_the_state_is_fresh(tmp_path):
    assert checkpoint.load_checkpoint(tmp_path / "none.pt") == TrainingState()


def test_a_state_comes_back_whole(tmp_path):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": layer.parameters(), "full_lr": 0.1}], lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = TrainingState(stage_index=2, epoch=3, epochs_without_improvement=1)
    state.record_epoch(row(0.7), layer.state_dict(), 0.0)
    state.state_dicts = {"network": layer.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save_checkpoint(tmp_path / "a" / "checkpoint.pt", state)
    again = checkpoint.load_checkpoint(tmp_path / "a" / "checkpoint.pt")
    assert (again.stage_index, again.epoch, again.epochs_without_improvement, again.history) == (
        2,
        3,
        0,
        state.history,
    )
    assert (again.stage_loss, again.best_loss, again.best_layer_share) == (0.7, 0.7, 0.5)
    assert all(torch.equal(again.best_weights[name], value) for name, value in layer.state_dict().items())
    saved, original = again.state_dicts["optimizer"], optimizer.state_dict()
    assert saved["param_groups"] == original["param_groups"]
    assert torch.equal(saved["state"][0]["exp_avg"], original["state"][0]["exp_avg"])
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["checkpoint.pt"]


def test_the_best_network_is_kept_as_it_was():
    state, current = TrainingState(), weights(1)
    state.record_epoch(row(0.9, 0.25), current, 0.0)
    current["w"] += 1
    state.record_epoch(row(0.5, 0.5), current, 0.0)
    current["w"] += 1
    state.record_epoch(row(0.6, 1.0), current, 0.0)
    assert (state.best_loss, state.best_layer_share) == (0.5, 0.5)
    assert torch.equal(state.best_weights["w"], weights(2)["w"])
    assert [each["log_loss"] for each in state.history] == [0.9, 0.5, 0.6]


def test_idle_counts_epochs_without_enough_gain():
    state = TrainingState()
    epochs_without_improvement = []
    for loss in (1.0, 0.95, 0.80, 0.79, 0.5):
        state.record_epoch(row(loss), weights(0), 0.1)
        epochs_without_improvement.append(state.epochs_without_improvement)
    assert epochs_without_improvement == [0, 1, 0, 1, 0]


def test_a_stage_starts_to_count_anew_but_the_best_stays():
    state = TrainingState(state_dicts={"network": weights(1)})
    state.record_epoch(row(0.4), weights(1), 0.0)
    state.end_stage()
    assert (
        state.stage_index,
        state.epoch,
        state.epochs_without_improvement,
        state.stage_loss,
        state.state_dicts,
    ) == (
        1,
        0,
        0,
        math.inf,
        {},
    )
    state.record_epoch(row(0.5), weights(2), 0.0)
    assert (state.epochs_without_improvement, state.best_loss) == (0, 0.4)
    assert torch.equal(state.best_weights["w"], weights(1)["w"])


def test_an_epoch_that_came_to_nothing_is_replaced_by_any_other():
    state = TrainingState()
    state.record_epoch(row(math.nan), weights(1), 0.0)
    assert state.best_weights
    state.record_epoch(row(2.0), weights(2), 0.0)
    state.record_epoch(row(math.nan), weights(3), 0.0)
    assert state.best_loss == 2.0
    assert torch.equal(state.best_weights["w"], weights(2)["w"])


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_file_is_named(tmp_path, damage):
    file = tmp_path / "checkpoint.pt"
    checkpoint.save_checkpoint(file, TrainingState(best_weights=weights(1)))
    file.write_bytes(file.read_bytes()[:300] if damage is None else damage)
    with pytest.raises(FovsfeError, match=r"checkpoint\.pt is damaged") as caught:
        checkpoint.load_checkpoint(file)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint.pt"
    checkpoint.save_checkpoint(file, TrainingState(stage_index=1))

    def refuse(value, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nframes")

    monkeypatch.setattr(checkpoint.torch, "save", refuse)
    with pytest.raises(FovsfeError, match="cannot write") as caught:
        checkpoint.save_checkpoint(file, TrainingState(stage_index=2))
    assert "\n" not in str(caught.value)
    assert checkpoint.load_checkpoint(file).stage_index == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_history_as_csv(tmp_path):
    checkpoint.write_history(tmp_path / "history.csv", [row(0.5), row(0.25, 1.0, 1)])
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["layer_share", "epoch", "loss", "log_loss", "accuracy", "seconds"]
    assert [float(each["log_loss"]) for each in rows] == [0.5, 0.25]
