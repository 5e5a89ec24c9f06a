"""fastai's `fine_tune` as its documentation shows it, for as many epochs as fit into the time budget."""

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

from benchmarks.peers_common import BudgetClock, PeerArguments, parse_peer_arguments, write_peer_submission

TRIAL_STEPS = 8
WARM_UP_STEPS = 2
TTA_VARIANTS = 4  # fastai's default for test-time augmentation


class _TrialSteps(Callback):  # type: ignore[misc]
    """Times the first steps of a fit, then stops it."""

    def before_fit(self) -> None:
        self.times = [time.monotonic()]

    def after_batch(self) -> None:
        self.times.append(time.monotonic())
        if len(self.times) > TRIAL_STEPS:
            raise CancelFitException

    @property
    def seconds_per_step(self) -> float:
        times = self.times[WARM_UP_STEPS:] if len(self.times) > WARM_UP_STEPS + 1 else self.times
        return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    """Writes plain.csv and tta.csv, both of one training."""
    clock, arguments = BudgetClock(), parse_peer_arguments()
    set_seed(arguments.seed)
    learner = _build_learner(arguments)
    test_files = sorted(get_image_files(arguments.photos / "test_upload"))
    epochs = _epochs_that_fit(clock, arguments, learner, len(test_files))
    print(f"fine_tune({epochs})", flush=True)
    learner.fine_tune(epochs)

    loader = learner.dls.test_dl(test_files)
    ids, class_names = [file.name for file in test_files], learner.dls.vocab
    plain, _ = learner.get_preds(dl=loader)
    categories = [class_names[i] for i in plain.argmax(1)]
    write_peer_submission(arguments.out, "plain", ids, categories, clock.seconds)
    averaged, _ = learner.tta(dl=loader)
    categories = [class_names[i] for i in averaged.argmax(1)]
    write_peer_submission(arguments.out, "tta", ids, categories, clock.seconds)


def _build_learner(arguments: PeerArguments) -> Any:
    # There are no validation photos: a fixed number of epochs chooses nothing by them.
    loaders = ImageDataLoaders.from_folder(
        arguments.photos,
        valid="none",
        bs=arguments.batch_size,
        item_tfms=Resize(arguments.size, method=ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*arguments.normalization)],
    )
    learner = vision_learner(loaders, arguments.backbone, pretrained=False)
    learner.model[0].model.load_state_dict(load_file(arguments.weights / f"{arguments.backbone}.safetensors"))
    return learner


def _epochs_that_fit(clock: BudgetClock, arguments: PeerArguments, learner: Any, test_photos: int) -> int:
    """Returns how many epochs fit after the frozen one; times a few steps, which are undone again."""
    start = time.monotonic()
    weights, trial = copy.deepcopy(learner.model.state_dict()), _TrialSteps()
    learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, cbs=trial)
    learner.model.load_state_dict(weights)
    learner.opt = None
    clock.exclude_since(start)
    passes = 1 + 1 + TTA_VARIANTS  # plain predictions, then `tta`, which repeats them, with its variants
    prediction_seconds = 0.5 * trial.seconds_per_step * passes * test_photos / arguments.batch_size
    seconds_per_epoch = trial.seconds_per_step * len(learner.dls.train)
    seconds = clock.training_seconds(arguments.minutes, prediction_seconds)
    return max(int(seconds / seconds_per_epoch) - 1, 1)


if __name__ == "__main__":
    main()
