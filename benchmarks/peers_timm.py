"""timm's training recipe: layer decay, EMA, RandAugment, cosine; as many epochs as fit the time budget."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data import ImageDataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, random_seed

from benchmarks.peers_common import BudgetClock, PeerArguments, parse_peer_arguments, write_peer_submission

TRIAL_STEPS = 6
LR, LAYER_DECAY, WEIGHT_DECAY = 1e-3, 0.9, 0.05
WARMUP = 0.1  # of the epochs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Writes plain.csv: the predictions of the averaged network."""
    clock, arguments = BudgetClock(), parse_peer_arguments()
    random_seed(arguments.seed)
    train_photos = ImageDataset(str(arguments.photos / "train"))
    test_photos = ImageDataset(str(arguments.photos / "test_upload"))
    category_index: dict[str, int] = train_photos.reader.class_to_idx
    train_loader = _build_loader(arguments, train_photos, is_training=True)
    test_loader = _build_loader(arguments, test_photos, is_training=False)
    model = _build_model(arguments.backbone, len(category_index), arguments.weights)

    start = time.monotonic()
    seconds_per_step = {
        precision: _seconds_per_step(copy.deepcopy(model), train_loader, precision)
        for precision in (torch.float32, torch.bfloat16)
    }
    precision = min(seconds_per_step, key=lambda name: seconds_per_step[name])
    clock.exclude_since(start)
    prediction_seconds = 0.5 * seconds_per_step[precision] * len(test_photos) / arguments.batch_size
    seconds = clock.training_seconds(arguments.minutes, prediction_seconds)
    epochs = max(int(seconds / (seconds_per_step[precision] * len(train_loader))), 1)
    print(f"{epochs} epochs in {precision}", flush=True)

    average = _train(model, train_loader, epochs, precision)
    predicted = []
    with torch.no_grad(), torch.autocast(DEVICE.type, precision, enabled=precision != torch.float32):
        for photos, _ in test_loader:
            predicted += average(photos.to(DEVICE)).argmax(1).tolist()
    categories = {index: category for category, index in category_index.items()}
    ids = [Path(name).name for name in test_photos.filenames()]
    write_peer_submission(arguments.out, "plain", ids, [categories[i] for i in predicted], clock.seconds)


def _build_model(backbone: str, num_classes: int, weights: Path) -> Any:
    model = timm.create_model(backbone, num_classes=num_classes)
    missing, unexpected = model.load_state_dict(load_file(weights / f"{backbone}.safetensors"), strict=False)
    classifier = {f"{model.pretrained_cfg['classifier']}.{name}" for name in ("weight", "bias")}
    if set(missing) != classifier or unexpected:
        raise ValueError(f"weights of {backbone} do not fit: missing {missing}, unexpected {unexpected}")
    return model.to(DEVICE, memory_format=torch.channels_last)


def _build_loader(arguments: PeerArguments, photos: Any, is_training: bool) -> Any:
    mean, std = arguments.normalization
    return create_loader(
        photos,
        input_size=(3, *arguments.size),
        batch_size=arguments.batch_size,
        is_training=is_training,
        use_prefetcher=False,
        scale=(0.5, 1.0),
        auto_augment="rand-m7-mstd0.5-inc1" if is_training else None,
        re_prob=0.25 if is_training else 0.0,
        interpolation="bicubic",
        mean=tuple(mean),
        std=tuple(std),
        num_workers=2,
        crop_pct=1.0,
        crop_mode="squash",
        device=DEVICE,
    )


def _train_epoch(model: Any, optimizer: Any, loader: Any, precision: torch.dtype) -> Iterator[float]:
    """Trains for one epoch; yields the loss after each step."""
    loss_function = LabelSmoothingCrossEntropy(0.1)
    model.train()
    for photos, targets in loader:
        with torch.autocast(DEVICE.type, precision, enabled=precision != torch.float32):
            photos = photos.to(DEVICE, memory_format=torch.channels_last)
            loss = loss_function(model(photos), targets.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def _build_optimizer(model: Any) -> Any:
    return create_optimizer_v2(model, opt="adamw", lr=LR, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY)


def _seconds_per_step(model: Any, loader: Any, precision: torch.dtype) -> float:
    """Times a few steps after the first, which warms up and starts the loader."""
    times = []
    for _ in _train_epoch(model, _build_optimizer(model), loader, precision):
        times.append(time.monotonic())
        if len(times) > TRIAL_STEPS:
            break
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0


def _train(model: Any, loader: Any, epochs: int, precision: torch.dtype) -> Any:
    """Trains the model; returns its averaged copy in evaluation mode."""
    optimizer = _build_optimizer(model)
    average = ModelEmaV3(model, decay=0.998, use_warmup=True)
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=epochs,
        warmup_epochs=round(WARMUP * epochs),
        warmup_lr=1e-6,
        min_lr=1e-6,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )
    step = 0
    for epoch in range(epochs):
        losses = []
        for loss in _train_epoch(model, optimizer, loader, precision):
            losses.append(loss)
            step += 1
            average.update(model, step=step)
            schedule.step_update(num_updates=step)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}", flush=True)
    return average.module.eval()


if __name__ == "__main__":
    main()
