"""What a bundle is: a folder with bundle.json, members/*.onnx and card.md. Writing, reading, checking it."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from fovsfe.ensemble.blend import Blend
from fovsfe.errors import FovsfeError
from fovsfe.files import write_text
from fovsfe.photos.tta import TTA_NAMES

FORMAT = 1
FILE = "bundle.json"
CARD = "card.md"

PixelSide = Annotated[int, Field(ge=1, le=4096)]
GraphPath = Annotated[str, Field(pattern=r"^members/[\w+-][\w.+-]*\.onnx$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]


class BundleModel(BaseModel):
    """A piece of bundle.json: unknown keys are refused, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleMember(BundleModel):
    """A member of the ensemble, in one network or, after training on folds, several."""

    title: str
    backbone: str
    size: tuple[PixelSide, PixelSide]
    """height and width of the photos that its networks take"""
    fit: Literal["pad", "squash", "crop"]
    has_cam: bool
    """whether the networks give a class activation map beside the logits"""
    networks: Annotated[tuple[GraphPath, ...], Field(min_length=1)]
    """paths under the bundle's folder; the member's probabilities are the mean of theirs"""


class Proof(BundleModel):
    """How the bundle's probabilities compare with the trained networks' on the same held-out photos."""

    photos: Annotated[int, Field(ge=1)]
    greatest_difference: FiniteFloat
    """between two probabilities of a member or of the blend"""
    agreement: Fraction
    """the share of photos for which both blends have the same likeliest label"""


class PrecisionCheck(BundleModel):
    """What a reduced precision costs, on photos that the networks asked about them had not learned from."""

    photos: Annotated[int, Field(ge=1)]
    before: Fraction
    """the blend's accuracy with the networks as trained"""
    after: Fraction
    """and at the reduced precision"""
    margin: Fraction
    """by how much `after` was allowed to be lower"""


PrecisionName = Literal["fp32", "fp16", "bf16", "int8"]


class Precision(BundleModel):
    """Of the networks: "fp32" as trained; "fp16" and "bf16" with weights of 16 bits, computed in 32; "int8"
    with weights and activations of 8 bits."""

    kind: PrecisionName = "fp32"
    check: PrecisionCheck | None = None
    """None for "fp32", there is nothing to judge"""


class Bundle(BundleModel):
    """bundle.json."""

    format: Literal[1] = 1
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    label_ids: dict[str, str]
    """label -> what a submission writes for it"""
    translations: dict[str, dict[str, str]] = {}
    """language ("ru") -> label -> its name there; a label that is missing goes by its own name"""
    members: Annotated[tuple[BundleMember, ...], Field(min_length=1)]
    tta: Annotated[tuple[str, ...], Field(min_length=1)] = ("plain",)
    """of photos.tta; a network's probabilities are the mean over them"""
    blend: Blend
    precision: Precision = Precision()
    proof: Proof | None = None
    metrics: dict[str, Any] = {}
    """`ensemble.metrics.Metrics` of the blend; "members": title -> the same; "measured_on": words; "data" and
    "training": what it learned from, and how, as `from_run` tells it"""
    files: dict[str, Sha256] = {}
    """path under the bundle's folder -> SHA-256; `write` fills it in"""

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("a label is there twice")
        if set(self.label_ids) != set(self.class_names):
            raise ValueError("label_ids is not for the labels")
        for language, names in self.translations.items():
            if strange := set(names) - set(self.class_names):
                raise ValueError(
                    f"translations.{language} is for unknown labels: {', '.join(sorted(strange))}"
                )
        if tuple(member.title for member in self.members) != self.blend.members:
            raise ValueError("blend is not for the members")
        if any(len(row) != len(self.class_names) for row in (*self.blend.precisions, self.blend.bias) if row):
            raise ValueError("blend is not for the labels")
        if self.tta[0] != "plain" or not set(self.tta) <= set(TTA_NAMES):
            raise ValueError(f'tta begins with "plain"; there are {", ".join(TTA_NAMES)}')
        return self


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Writes bundle.json, with the checksums of what lies in `folder` beside it; gives what it wrote.

    Raises FovsfeError where it cannot be written.
    """
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {path: sha256_of(folder / path) for path in paths if path != FILE}
    bundle = bundle.model_copy(update={"files": files})
    write_text(folder / FILE, bundle.model_dump_json(indent=1) + "\n")
    return bundle


def load_bundle(folder: Path) -> Bundle:
    """Reads bundle.json and checks every file that it names.

    Raises:
        FovsfeError: no bundle, one of another format version, or damaged: a file is missing or changed.
    """
    bundle = _read(folder)
    for member in bundle.members:
        if unsealed := set(member.networks) - set(bundle.files):
            raise FovsfeError(f"bundle {folder}: {FILE} has no checksum of {min(unsealed)}; export it anew")
    for path, expected in bundle.files.items():
        _check(folder, path, expected)
    return bundle


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal. OSError where it cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(folder: Path) -> Bundle:
    file = folder / FILE
    if not file.is_file():
        raise FovsfeError(
            f"no bundle at {folder}: there is no {FILE}; `fovsfe export RUN --out {folder}` makes it"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FovsfeError(f"bundle {folder}: {FILE} cannot be read: {error}; export it anew") from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if type(version) is not int:
        raise FovsfeError(f"{file} is not a bundle of fovsfe: it has no format version")
    if version != FORMAT:
        raise FovsfeError(
            f"bundle {folder} has format {version}, this fovsfe reads format {FORMAT}: "
            + ("update fovsfe" if version > FORMAT else "export it anew")
        )
    try:
        return Bundle.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        reason = fault["msg"].removeprefix("Value error, ")
        raise FovsfeError(
            f"bundle {folder}: {FILE} is damaged: {f'{key}: ' if key else ''}{reason}; export it anew"
        ) from error


def _check(folder: Path, path: str, expected: str) -> None:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise FovsfeError(f"bundle {folder}: {path} is outside of it; do not trust this bundle")
    try:
        found = sha256_of(folder / path)
    except OSError as error:
        raise FovsfeError(f"bundle {folder}: cannot read {path}: {error.strerror}; export it anew") from error
    if found != expected:
        cure = f'write "{found}" for it in {FILE} if you edited it' if path == CARD else "export it anew"
        raise FovsfeError(f"bundle {folder}: {path} is not what was exported (another SHA-256); {cure}")
