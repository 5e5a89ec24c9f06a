"""What decides a run: a recipe, typed and checked, read from TOML."""

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fovsfe.errors import WrongUsage

Fraction = Annotated[float, Field(ge=0, le=1)]
PixelSide = Annotated[int, Field(ge=32, le=2048)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # what a run makes of it fits into the 64 bits of torch


class RecipeSection(BaseModel):
    """A table of the recipe: unknown keys are refused, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PhotoSettings(RecipeSection):
    """`[photos]`: how a photo becomes pixels."""

    fit: Literal["pad", "squash", "crop"] = "pad"
    max_pixels: Annotated[int, Field(ge=10_000, le=1_000_000_000)] = 100_000_000
    cache_gb: NonNegative = 8.0
    damaged_shards: Literal["refuse", "skip"] = "refuse"
    loader_workers: Annotated[int, Field(ge=0, le=64)] | Literal["auto"] = "auto"


class SplitSettings(RecipeSection):
    """`[split]`: which photos judge. `folds = 0` holds out one share; otherwise every fold judges once."""

    holdout: Annotated[float, Field(ge=0.05, le=0.5)] = 0.25
    folds: Annotated[int, Field(ge=0, le=20)] = 0

    @model_validator(mode="after")
    def _one_fold_is_none(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 0 (one hold-out) or at least 2")
        return self


class AugmentSettings(RecipeSection):
    """`[augment]`: what changes in a training photo from one epoch to the next."""

    strength: Literal["none", "light", "strong"] = "light"
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    stressed_validation: bool = False


class TrainingSettings(RecipeSection):
    """`[training]`: stages, epochs and the optimiser."""

    stages: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.0, 0.25, 0.5, 0.75, 1.0)
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

    @model_validator(mode="after")
    def _stages_grow(self) -> Self:
        if list(self.stages) != sorted(set(self.stages)):
            raise ValueError("stages must grow, as in [0, 0.25, 0.5, 0.75, 1.0]")
        return self


class EnsembleSettings(RecipeSection):
    """`[ensemble]`: the variants of test-time augmentation (tta); they are kept only if they win."""

    tta: tuple[Literal["flip", "zoom", "zoom-flip", "wide", "wide-flip"], ...] = ("flip",)


class PseudoLabelSettings(RecipeSection):
    """`[pseudo_labels]`: which answers of round 1 round 2 learns from."""

    keep: Literal["all", "confident"] = "confident"
    confidence: Fraction = 0.8
    soft: bool = True


class AboutWords(RecipeSection):
    """What pages and reports call the things on the photos, in one language. Empty: they say it in general."""

    title: Annotated[str, Field(max_length=80)] = ""
    noun: Annotated[str, Field(max_length=40)] = ""
    plural: Annotated[str, Field(max_length=40)] = ""


class AboutSettings(AboutWords):
    """`[about]`: what the photos show, for the pages and the report: the heading `title`, the `noun` and its
    `plural` in English and, in `[about.ru]`, in Russian; an `icon` (one emoji) and an `accent` colour."""

    icon: Annotated[str, Field(max_length=16)] = ""
    accent: Annotated[str, Field(pattern=r"^(#[0-9a-fA-F]{6})?$")] = ""
    ru: AboutWords = AboutWords()


class MemberSettings(RecipeSection):
    """One `[[members]]`: a network of the ensemble. `size` is height and width in
    pixels; `time_share` weighs its part of `--minutes`."""

    # Both end in what no "." or ".." ends in: the title names a folder.
    backbone: Annotated[str, Field(pattern=r"^[\w.:/@+-]*[\w+-]$")]
    size: tuple[PixelSide, PixelSide]
    name: Annotated[str, Field(pattern=r"^([\w.+-]*[\w+-])?$", max_length=80)] = ""
    head: Literal["linear", "hidden"] = "linear"
    seed: Seed = 0
    batch_size: Annotated[int, Field(ge=2, le=4096)] | None = None
    time_share: Annotated[float, Field(gt=0, le=1000)] = 1.0

    @property
    def title(self) -> str:
        """The member's name in files and tables: `name`, or else its backbone."""
        return self.name or self.backbone.rsplit("/", 1)[-1]


class Recipe(RecipeSection):
    """Everything that decides a run. See `fovsfe recipes` for the ready ones."""

    seed: Seed = 0
    rounds: Annotated[int, Field(ge=1, le=2)] = 1
    photos: PhotoSettings = PhotoSettings()
    split: SplitSettings = SplitSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    ensemble: EnsembleSettings = EnsembleSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    about: AboutSettings = AboutSettings()
    members: Annotated[tuple[MemberSettings, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        titles = [member.title for member in self.members]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f'two members are called "{title}": give one of them a name')
        return self


def builtin_recipes() -> dict[str, str]:
    """The ready recipes: name -> TOML text."""
    folder = resources.files("fovsfe") / "recipes"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): f.read_text(encoding="utf-8") for f in files}


def recipe_text(name_or_file: str) -> str:
    """The TOML text of a ready recipe or of a file.

    Raises:
        WrongUsage: there is neither a recipe of that name nor such a file.
    """
    recipes = builtin_recipes()
    if name_or_file in recipes:
        return recipes[name_or_file]
    try:
        return Path(name_or_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(
            f'no recipe "{name_or_file}": neither one of {", ".join(recipes)} nor a readable TOML file'
        ) from error


def load_recipe(name_or_file: str, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by name or file, with `key=value` changes applied (dotted keys, values as in TOML).

    Raises:
        WrongUsage: no such recipe, broken TOML, an unknown key, or a value out of range; the line names the
            key, what is allowed and the nearest right key.
    """
    try:
        raw = tomllib.loads(recipe_text(name_or_file))
    except tomllib.TOMLDecodeError as error:
        raise WrongUsage(f"{name_or_file} is not valid TOML: {error}") from error
    for change in changes:
        _apply(raw, change)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise WrongUsage(f"recipe {name_or_file}: " + "; ".join(_explain(error))) from error


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, every key spelled out; `read` gives the same recipe back."""
    return "\n".join(_toml_lines(recipe.model_dump(exclude_none=True))) + "\n"


def _toml_lines(raw: dict[str, Any]) -> Iterator[str]:
    for key, value in raw.items():
        if not isinstance(value, dict) and key != "members":
            yield f"{key} = {_toml_value(value)}"
    for key, value in raw.items():
        if isinstance(value, dict):
            yield f"\n[{key}]"
            yield from (f"{k} = {_toml_value(v)}" for k, v in value.items())
    for member in raw["members"]:
        yield "\n[[members]]"
        yield from (f"{k} = {_toml_value(v)}" for k, v in member.items())


def _toml_value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple() | list():
            return "[" + ", ".join(map(_toml_value, value)) + "]"
        case _:
            return repr(value)


def _apply(raw: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise WrongUsage(f'--set {change}: write key=value, as in "--set training.epochs=5"')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    place: Any = raw
    for name in parents:
        place = _step_into(place, name, key)
    _step_into(place, last, key)
    place[int(last) if isinstance(place, list) else last] = value


def _step_into(place: Any, name: str, key: str) -> Any:
    if isinstance(place, list):
        if not name.isdecimal() or int(name) >= len(place):
            raise WrongUsage(f'--set {key}: "{name}" is not one of 0 to {len(place) - 1}')
        return place[int(name)]
    if not isinstance(place, dict):
        raise WrongUsage(f"--set {key}: there is no table to set {name} in")
    return place.setdefault(name, {})


def _explain(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        if fault["type"] == "too_short" and fault["input"]:
            continue  # pydantic counts right entries only: a wrong member, named already, is also one too few
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            allowed = _keys_beside(fault["loc"])
            near = _nearest(str(fault["loc"][-1]), allowed)
            hint = f'did you mean "{near}"? ' if near else ""
            yield f'unknown key "{key}": {hint}allowed are {", ".join(allowed)}'
        else:
            message = fault["msg"].removeprefix("Value error, ")
            given = fault["input"]
            shown = "" if isinstance(given, dict | BaseModel) else f" (given: {given!r})"
            yield f"{key}: {message}{shown}" if key else f"{message}"


def _nearest(name: str, beside: list[str]) -> str | None:
    """The key most like `name`: one of its own table, or else one of another, with that table before it."""
    elsewhere: dict[str, str] = {}
    for key in _every_key():
        elsewhere.setdefault(key.rpartition(".")[2], key)
    for keys in ({key: key for key in beside}, elsewhere):
        for match in difflib.get_close_matches(name, keys, n=1):
            return keys[match]
    return None


def _every_key() -> Iterator[str]:
    yield from Recipe.model_fields
    for table, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, RecipeSection):
            yield from (f"{table}.{key}" for key in field.annotation.model_fields)
    yield from (f"members.0.{key}" for key in MemberSettings.model_fields)


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location[:-1]:
        if part == "members":
            model = MemberSettings
        elif isinstance(part, str):
            annotation = model.model_fields[part].annotation
            assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
            model = annotation
    return list(model.model_fields)
