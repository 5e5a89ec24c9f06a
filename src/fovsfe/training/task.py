"""One network to train: what it is trained on, what it predicts, and where its files go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovsfe.arrays import Float32s, Ints
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import MemberSettings, Recipe

# In the folder of a network:
CHECKPOINT = "checkpoint.pt"  # only while it is trained
WEIGHTS = "network.safetensors"  # of a frozen member only the head; see results.load_trained
REFITTED = "refitted.safetensors"  # of a frozen member's first fold: a head fitted to all labelled photos
BACKBONE = "backbone.safetensors"  # of a frozen member's first fold: all but the head, for all folds
PREDICTIONS = "predictions.npz"
RESULT = "result.json"  # written last

Event = dict[str, Any]

OnEvent = Callable[[Event], None]
"""is told what a training does: {"type": "features", "done", "total"}, {"type": "step", "layer_share",
"epoch", "progress", "network_progress"} (0 to 1, of the stage and of the network),
{"type": "epoch", **HistoryRow}, {"type": "message", "text"}"""

OnNetworkEvent = Callable[[str, Event], None]
"""is told a network's name and its events: those above, {"type": "begin"} (from a cluster with "machine"),
{"type": "caching", "done", "total"} and {"type": "end"}"""


@dataclass(frozen=True)
class NetworkKey:
    """Which network of which run: the round (from 1), the member's position in the recipe, the fold."""

    run: Path
    round_index: int
    member_index: int
    fold: int


@dataclass(frozen=True)
class TrainingTask:
    """One network to train: a member of the ensemble on one fold, in one round."""

    key: NetworkKey
    name: str
    """what people read, such as "densenet169, round 1, fold 2"; unique in a run"""
    folder: Path
    """where the checkpoint and the results go"""
    member: MemberSettings
    recipe: Recipe
    weights: str
    """"hub", "none", or a folder of pretrained weights"""
    num_classes: int
    photos: ResizedPhotos
    train_idx: Ints
    """positions in `photos` to train on"""
    targets: Float32s
    """(train, classes), one-hot or soft: rows sum to 1"""
    val_idx: Ints
    """positions to validate on, which the network is never trained on"""
    y_true: Ints
    """(val,) their labels, as positions in the class names"""
    test_idx: Ints
    """positions of the test photos, to predict"""
    groups: Ints
    """(photos,) of all in `photos`: near-duplicates have the same"""
    photo_cache: Path
    """the file for the photos, resized to the member's size"""
    feature_cache: Path
    """the file for the frozen backbone's features, which all folds and rounds of the member share"""
    precision: str
    """"fp32" or "bf16\""""
    seed: int
    deadline: float | None = None
    """when all networks must be trained, in seconds of time.monotonic"""
    time_share: float = 1.0
    """the network's share, 0 to 1, of the time that is left until then once its features are there"""

    @property
    def tta(self) -> tuple[str, ...]:
        """The test-time variants of a photo that are predicted, the plain one first."""
        return ("plain", *self.recipe.ensemble.tta)

    @property
    def stages(self) -> tuple[float, ...]:
        """The shares of the layers that are trained one after the other."""
        return self.recipe.stages_of(self.member)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is trained but a linear head."""
        return self.recipe.is_frozen(self.member)

    @property
    def batch_size(self) -> int:
        """The member's own batch size, or else the recipe's."""
        return self.member.batch_size or self.recipe.training.batch_size

    @property
    def checkpoint(self) -> Path:
        """What a resumed training goes on from; removed when the network is trained."""
        return self.folder / CHECKPOINT

    @property
    def result(self) -> Path:
        """Written last: the network is trained if and only if it is there."""
        return self.folder / RESULT
