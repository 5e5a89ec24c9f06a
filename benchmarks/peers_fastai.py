"""fastai's `fine_tune` as its documentation does it, in as many epochs as the minutes hold."""

import copy
import time
from typing import Any

from fastai.vision.all import (  # type: ignore[import-not-found]
    Callback,
    CancelFitException,
    ImageDataLoaders,
    Normalize,
    Resize,
    ResizeMethod,
    aug_transforms,
    get_image_files,
    set_seed,
    vision_learner,
)
from safetensors.torch import load_file

from benchmarks.peers_common import Clock, Order, read_order, write_answers

TRIAL_STEPS = 8
AUGMENTED_VIEWS = 4  # fastai's default for test-time augmentation


class _Trial(Callback):  # type: ignore[misc]
    """Times the steps of a fit, then stops it. The first two warm up."""

    def before_fit(self) -> None:
        self.times = [time.monotonic()]

    def after_batch(self) -> None:
        self.times.append(time.monotonic())
        if len(self.times) > TRIAL_STEPS:
            raise CancelFitException

    @property
    def seconds_a_step(self) -> float:
        warm = self.times[2:] if len(self.times) > 3 else self.times
        return (warm[-1] - warm[0]) / (len(warm) - 1)


def main() -> None:
    """Writes plain.csv and tta.csv, both of one training."""
    clock, order = Clock(), read_order()
    set_seed(order.seed)
    learner = _learner(order)
    files = sorted(get_image_files(order.photos / "test_upload"))
    epochs = _epochs(clock, order, learner, len(files))
    print(f"fine_tune({epochs})", flush=True)
    learner.fine_tune(epochs)

    loader = learner.dls.test_dl(files)
    ids, vocabulary = [file.name for file in files], learner.dls.vocab
    plain, _ = learner.get_preds(dl=loader)
    write_answers(order.out, "plain", ids, [vocabulary[i] for i in plain.argmax(1)], clock.seconds)
    augmented, _ = learner.tta(dl=loader)
    write_answers(order.out, "tta", ids, [vocabulary[i] for i in augmented.argmax(1)], clock.seconds)


def _learner(order: Order) -> Any:
    # A fixed number of epochs chooses nothing, so every labelled photo is learned from.
    loaders = ImageDataLoaders.from_folder(
        order.photos,
        valid="none",
        bs=order.batch,
        item_tfms=Resize(order.size, method=ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*order.normalisation)],
    )
    learner = vision_learner(loaders, order.backbone, pretrained=False)
    learner.model[0].model.load_state_dict(load_file(order.weights / f"{order.backbone}.safetensors"))
    return learner


def _epochs(clock: Clock, order: Order, learner: Any, asked: int) -> int:
    """How many epochs fit after the frozen one, by a few steps that are undone again."""
    began = time.monotonic()
    before, trial = copy.deepcopy(learner.model.state_dict()), _Trial()
    learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, cbs=trial)
    learner.model.load_state_dict(before)
    learner.opt = None
    clock.forgive(began)
    passes = 1 + 1 + AUGMENTED_VIEWS  # plain predictions, then test-time augmentation with its own plain ones
    answering = 0.5 * trial.seconds_a_step * passes * asked / order.batch
    seconds_an_epoch = trial.seconds_a_step * len(learner.dls.train)
    return max(int(clock.left(order.minutes, answering) / seconds_an_epoch) - 1, 1)


if __name__ == "__main__":
    main()
