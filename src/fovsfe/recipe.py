"""Recipe keys: everything that decides a run, read from TOML and checked.

A new key is a field of one of the classes below; its constraints are also what error messages say.
"""

import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fovsfe.errors import UsageError
from fovsfe.texts import decode_unicode
from fovsfe.validation import explain, nearest

Fraction = Annotated[float, Field(ge=0, le=1)]
MIN_SIDE, MAX_SIDE = 32, 2048  # of photos, in pixels
PixelSide = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Head = Literal["linear", "root", "hidden"]
LicenceChoice = Literal["permissive", "any"]
MetricName = Literal["accuracy", "balanced", "f1", "logloss"]
RESERVED_NAMES = {
    "blends",
    "blend.json",
    "selected",
    "mean",
    "maximum",
    "prior_corrected",
    "precision_weighted",
    "stacking",
}
"""names of files and folders that every run has beside those of its members"""


def _growing(stages: tuple[float, ...]) -> tuple[float, ...]:
    if list(stages) != sorted(set(stages)):
        raise ValueError("stages must grow, as in [0, 0.25, 0.5, 0.75, 1.0]")
    return stages


Stages = Annotated[tuple[Fraction, ...], Field(min_length=1), AfterValidator(_growing)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # the seeds derived from it fit into the 64 bits of torch


class RecipeSection(BaseModel):
    """A table of a recipe: unknown keys are refused, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchSettings(RecipeSection):
    """`[search]`: the members are searched for. It has no keys."""


class PhotoSettings(RecipeSection):
    """`[photos]`: how photos are decoded, resized and loaded."""

    resize_mode: Literal["pad", "squash", "crop"] = "pad"
    max_pixels: Annotated[int, Field(ge=10_000, le=1_000_000_000)] = 100_000_000
    cache_gb: NonNegative = 8.0
    damaged_shards: Literal["refuse", "skip"] = "refuse"
    num_workers: Annotated[int, Field(ge=0, le=64)] | Literal["auto"] = "auto"


class SplitSettings(RecipeSection):
    """`[split]`: the validation photos. `folds = 0` is a hold-out of the share `holdout`; k folds are k-fold
    cross-validation. `given` says whether a validation part, or folds, that come with the photos are kept
    instead of that, or whether all labelled photos are pooled and divided."""

    holdout: Annotated[float, Field(ge=0.05, le=0.5)] = 0.25
    folds: Annotated[int, Field(ge=0, le=20)] = 0
    given: Literal["keep", "pool"] = "keep"

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds must be 0 (one hold-out) or at least 2")
        return self


class AugmentSettings(RecipeSection):
    """`[augment]`: what changes in a training photo from one epoch to the next."""

    strength: Literal["none", "light", "strong"] = "light"
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    measure_robustness: bool = False


class TrainingSettings(RecipeSection):
    """`[training]`: stages, epochs and the optimiser."""

    stages: Stages = (0.0, 0.25, 0.5, 0.75, 1.0)
    head_epochs: Annotated[int, Field(ge=1, le=1000)] = 30
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    head_lr: Annotated[float, Field(gt=0, le=10)] = 1e-3
    lr: Annotated[float, Field(gt=0, le=10)] = 3e-4
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: NonNegative = 0.02
    warmup: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.99
    patience: Annotated[int, Field(ge=1, le=1000)] = 10
    min_delta: NonNegative = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    tensorboard: bool = False


class EnsembleSettings(RecipeSection):
    """`[ensemble]`: what the blend is selected by, and the variants of test-time augmentation (tta);
    they are kept only if they win."""

    metric: MetricName = "accuracy"
    tta: tuple[Literal["flip", "zoom", "zoom-flip", "wide", "wide-flip"], ...] = ("flip",)


class StrangerSettings(RecipeSection):
    """`[strangers]`: the share of right answers that may be lost to "none of these"."""

    withheld: Annotated[float, Field(ge=0, le=0.5)] = 0.02


class PseudoLabelSettings(RecipeSection):
    """`[pseudo_labels]`: which predictions of round 1 for test photos round 2 is trained on."""

    keep: Literal["all", "confident"] = "confident"
    confidence: Fraction = 0.8
    soft: bool = True


class AboutWords(RecipeSection):
    """What pages and reports call the things on the photos, in one language; if empty, general words."""

    title: Annotated[str, Field(max_length=80)] = ""
    noun: Annotated[str, Field(max_length=40)] = ""
    plural: Annotated[str, Field(max_length=40)] = ""


class AboutSettings(AboutWords):
    """`[about]`: what the photos show, for the pages and the report.

    The heading `title`, the `noun` and its `plural` are English here and Russian in `[about.ru]`; `icon` is
    one emoji, `accent` a colour.
    """

    icon: Annotated[str, Field(max_length=16)] = ""
    accent: Annotated[
        str, Field(pattern=r"^(#[0-9a-fA-F]{6})?$", description='a colour such as "#0b5cad", or ""')
    ] = ""
    ru: AboutWords = AboutWords()


class MemberSettings(RecipeSection):
    """One of `[[members]]`: a network of the ensemble.

    `size` is height and width in pixels; `time_weight` weighs the network's share of `--minutes`. `stages`
    takes the place of the recipe's: with (0,), the backbone stays as it is.
    """

    # The name is that of a folder: therefore neither may be "." or "..", nor end in a dot.
    backbone: Annotated[
        str,
        Field(
            pattern=r"^[\w.:/@+-]*[\w+-]$",
            description='the name of a timm backbone, such as "convnext_tiny"',
        ),
    ]
    size: tuple[PixelSide, PixelSide]
    name: Annotated[
        str,
        Field(
            pattern=r"^([\w.+-]*[\w+-])?$",
            max_length=80,
            description='at most 80 letters, digits, "_", ".", "+" and "-", not ending in a dot',
        ),
    ] = ""
    head: Head = "linear"
    seed: Seed = 0
    batch_size: Annotated[int, Field(ge=2, le=4096)] | None = None
    time_weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    stages: Stages | None = None

    @property
    def unique_name(self) -> str:
        """What files, tables and pages call the member: its `name`, or else the end of its backbone."""
        return self.name or self.backbone.rsplit("/", 1)[-1]

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if (
            self.unique_name.lower() in RESERVED_NAMES
        ):  # some file systems do not tell capitals from small letters
            raise ValueError(
                f'a member cannot be called "{self.unique_name}", as files of the run have that name'
            )
        return self


class Recipe(RecipeSection):
    """Everything that decides a run. `fovsfe recipes` lists the built-in ones.

    The licences of all pretrained weights are known to be "permissive", that is to allow commercial use, or
    `licence` is "any".
    """

    seed: Seed = 0
    rounds: Annotated[int, Field(ge=1, le=2)] = 1
    licence: LicenceChoice = "permissive"
    photos: PhotoSettings = PhotoSettings()
    split: SplitSettings = SplitSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    ensemble: EnsembleSettings = EnsembleSettings()
    strangers: StrangerSettings = StrangerSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    about: AboutSettings = AboutSettings()
    search: SearchSettings | None = None
    members: tuple[MemberSettings, ...] = ()

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if not self.members and self.search is None:
            raise ValueError("give at least one of [[members]], or [search] to have them searched for")
        return self

    def member(self, name: str) -> MemberSettings:
        """Returns the member of that unique name."""
        return next(member for member in self.members if member.unique_name == name)

    def stages_of(self, member: MemberSettings) -> tuple[float, ...]:
        """Returns the shares of a member's layers that are trained one after the other."""
        return member.stages or self.training.stages

    def is_frozen(self, member: MemberSettings) -> bool:
        """Returns whether nothing of a member is ever trained but a linear head."""
        return self.stages_of(member) == (0.0,) and member.head != "hidden"

    def is_refitted(self, member: MemberSettings) -> bool:
        """Returns whether a member's head is fitted once more, to all labelled photos, for the submission and
        the bundle: if the backbone is frozen, and no round 2 learns from what the head then knows."""
        return self.is_frozen(member) and self.rounds == 1

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [member.unique_name for member in self.members]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two members are called "{name}": give one of them a name')
        return self


def builtin_recipes() -> dict[str, str]:
    """Returns the built-in recipes: name -> TOML text."""
    folder = resources.files("fovsfe") / "recipes"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): f.read_text(encoding="utf-8") for f in files}


def recipe_text(name_or_file: str) -> str:
    """Returns the TOML text of a built-in recipe or of a file.

    Raises:
        UsageError: there is neither a recipe of that name nor a readable file.
    """
    recipes = builtin_recipes()
    if name_or_file in recipes:
        return recipes[name_or_file]
    try:
        return decode_unicode(Path(name_or_file).read_bytes())
    except UnicodeDecodeError as error:
        raise UsageError(f"{name_or_file} is not in UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        near = nearest(Path(name_or_file).stem, list(recipes))
        hint = f'; did you mean "{near}"?' if near else ";"
        raise UsageError(
            f'no recipe "{name_or_file}"{hint} give a readable TOML file, or one of {", ".join(recipes)}'
        ) from error


def load_recipe(name_or_file: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """Returns a recipe by name or file, with changes applied in their order.

    Args:
        name_or_file: a built-in recipe or a TOML file.
        changes: dotted key -> value, such as {"training.epochs": 5, "members.0.size": [224, 224]}.

    Raises:
        UsageError: no such recipe, broken TOML, an unknown key, or a wrong value; the line names the key,
            what is allowed and the nearest right key.
    """
    try:
        raw = tomllib.loads(recipe_text(name_or_file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name_or_file} is not valid TOML: {error}") from error
    for key, value in changes.items():
        _apply(raw, key, value)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"recipe {name_or_file}: " + "; ".join(explain(error, Recipe))) from error


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Returns the changes that texts such as "training.epochs=5" describe: dotted key -> value.

    The value is TOML; what is not valid TOML is taken as text. Of several changes of a key the last counts.
    Raises UsageError if a text has no "=".
    """
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--set {text}: write key=value, as in "--set training.epochs=5"')
        changes.pop(key.strip(), None)  # the order is that of the last changes
        try:
            changes[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.strip()] = value.strip()
    return changes


def to_toml(recipe: Recipe) -> str:
    """Returns the recipe as TOML with every key spelled out; `load_recipe` gives the same recipe back."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def _apply(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    table: Any = raw
    for name in parents:
        table = _step_into(table, name, key)
    _step_into(table, last, key)
    table[int(last) if isinstance(table, list) else last] = deepcopy(value)  # a later change may change it


def _step_into(table: Any, name: str, key: str) -> Any:
    if isinstance(table, list):
        if not name.isdecimal() or int(name) >= len(table):
            raise UsageError(f'--set {key}: "{name}" is not one of 0 to {len(table) - 1}')
        return table[int(name)]
    if not isinstance(table, dict):
        raise UsageError(f"--set {key}: there is no table to set {name} in")
    return table.setdefault(name, {})
