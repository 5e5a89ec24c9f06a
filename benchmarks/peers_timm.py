"""timm's training recipe: layer decay, EMA, RandAugment, cosine; as many epochs as the minutes hold."""

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

from benchmarks.peers_common import Clock, Order, read_order, write_answers

TRIAL_STEPS = 6
RATE, LAYER_DECAY, WEIGHT_DECAY = 1e-3, 0.9, 0.05
WARMUP = 0.1  # of the epochs

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Writes plain.csv: the answers of the averaged network."""
    clock, order = Clock(), read_order()
    random_seed(order.seed)
    learn, ask = ImageDataset(str(order.photos / "train")), ImageDataset(str(order.photos / "test_upload"))
    categories: dict[str, int] = learn.reader.class_to_idx
    loader, asking = _loader(order, learn, True), _loader(order, ask, False)
    model = _model(order.backbone, len(categories), order.weights)

    began = time.monotonic()
    seconds = {p: _seconds_a_step(copy.deepcopy(model), loader, p) for p in (torch.float32, torch.bfloat16)}
    precision = min(seconds, key=lambda name: seconds[name])
    clock.forgive(began)
    answering = 0.5 * seconds[precision] * len(ask) / order.batch
    fit = clock.left(order.minutes, answering) / (seconds[precision] * len(loader))
    epochs = max(int(fit), 1)
    print(f"{epochs} epochs in {precision}", flush=True)

    average = _train(model, loader, epochs, precision)
    answers = []
    with torch.no_grad(), torch.autocast(DEVICE.type, precision, enabled=precision != torch.float32):
        for photos, _ in asking:
            answers += average(photos.to(DEVICE)).argmax(1).tolist()
    names = {number: name for name, number in categories.items()}
    ids = [Path(name).name for name in ask.filenames()]
    write_answers(order.out, "plain", ids, [names[i] for i in answers], clock.seconds)


def _model(backbone: str, num_classes: int, weights: Path) -> Any:
    model = timm.create_model(backbone, num_classes=num_classes)
    missing, unexpected = model.load_state_dict(load_file(weights / f"{backbone}.safetensors"), strict=False)
    classifier = {f"{model.pretrained_cfg['classifier']}.{name}" for name in ("weight", "bias")}
    if set(missing) != classifier or unexpected:
        raise ValueError(f"weights of {backbone} do not fit: missing {missing}, unexpected {unexpected}")
    return model.to(DEVICE, memory_format=torch.channels_last)


def _loader(order: Order, photos: Any, learning: bool) -> Any:
    mean, std = order.normalisation
    return create_loader(
        photos,
        input_size=(3, *order.size),
        batch_size=order.batch,
        is_training=learning,
        use_prefetcher=False,
        scale=(0.5, 1.0),
        auto_augment="rand-m7-mstd0.5-inc1" if learning else None,
        re_prob=0.25 if learning else 0.0,
        interpolation="bicubic",
        mean=tuple(mean),
        std=tuple(std),
        num_workers=2,
        crop_pct=1.0,
        crop_mode="squash",
        device=DEVICE,
    )


def _steps(model: Any, optimizer: Any, loader: Any, precision: torch.dtype) -> Iterator[float]:
    """Trains for one epoch; yields the loss after each step."""
    loss_of = LabelSmoothingCrossEntropy(0.1)
    model.train()
    for photos, targets in loader:
        with torch.autocast(DEVICE.type, precision, enabled=precision != torch.float32):
            photos = photos.to(DEVICE, memory_format=torch.channels_last)
            loss = loss_of(model(photos), targets.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def _optimizer(model: Any) -> Any:
    return create_optimizer_v2(
        model, opt="adamw", lr=RATE, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY
    )


def _seconds_a_step(model: Any, loader: Any, precision: torch.dtype) -> float:
    """By a few steps; the first warms up and starts the loader."""
    times = []
    for _ in _steps(model, _optimizer(model), loader, precision):
        times.append(time.monotonic())
        if len(times) > TRIAL_STEPS:
            break
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0


def _train(model: Any, loader: Any, epochs: int, precision: torch.dtype) -> Any:
    optimizer = _optimizer(model)
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
        for loss in _steps(model, optimizer, loader, precision):
            losses.append(loss)
            step += 1
            average.update(model, step=step)
            schedule.step_update(num_updates=step)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}", flush=True)
    return average.module.eval()


if __name__ == "__main__":
    main()
