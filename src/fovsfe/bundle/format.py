"""What a bundle is: a folder with bundle.json, members/*.onnx, card.md and perhaps examples/*.jpg. Writing,
reading, checking it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from fovsfe.arrays import Floats
from fovsfe.bundle.onnx_files import external_files
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.label_sets import LabelSets
from fovsfe.ensemble.strangers import FeatureSpace, StrangerRule, read_spaces
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path, write_text
from fovsfe.photos.tta import TTA_NAMES
from fovsfe.recipe import AboutSettings

FORMAT = 1
BUNDLE_FILE = "bundle.json"
CARD_FILE = "card.md"
EXAMPLES_FOLDER = "examples"  # of a few held-out photos of each label
MAX_EXAMPLES = 10  # photos of a label
MAX_EXAMPLE_BYTES = 200_000
SPACES_FILE = "strangers.npz"  # what held-out photos look like to each network, see ensemble.strangers
MEASURED_AT_EXPORT = ("bins", "reference", "strangers", "label_sets")
"""of a bundle's metrics, what its networks have to be there for"""

PixelSide = Annotated[int, Field(ge=1, le=4096)]
GraphPath = Annotated[str, Field(pattern=r"^members/[\w+-][\w.+-]*\.onnx$")]
ExamplePath = Annotated[str, Field(pattern=rf"^{EXAMPLES_FOLDER}/[0-9]+-[0-9]+\.jpg$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]


class BundleModel(BaseModel):
    """A part of bundle.json: unknown keys are refused, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleMember(BundleModel):
    """A member of the ensemble: one network or, after training on folds, several."""

    name: str
    backbone: str
    size: tuple[PixelSide, PixelSide]
    """height and width of the photos that its networks take"""
    resize_mode: Literal["pad", "squash", "crop"]
    has_cam: bool
    """whether the networks return class activation maps beside the logits"""
    networks: Annotated[tuple[GraphPath, ...], Field(min_length=1)]
    """paths under the bundle's folder; the member's probabilities are the mean of theirs"""


class ParityCheck(BundleModel):
    """How far the bundle's probabilities are from the trained networks', on the same held-out photos."""

    photos: Annotated[int, Field(ge=1)]
    greatest_difference: FiniteFloat
    """the largest between two probabilities, of a member or of the blend"""
    agreement: Fraction
    """the fraction of photos for which both predict the same label"""


class QuantizationCheck(BundleModel):
    """What quantization costs, on photos that the networks were not trained on."""

    photos: Annotated[int, Field(ge=1)]
    before: Fraction
    """the blend's accuracy with the networks as trained"""
    after: Fraction
    """the blend's accuracy with the quantized networks"""
    margin: Fraction
    """by how much `after` may be lower"""


QuantizationKind = Literal["fp32", "fp16", "bf16", "int8"]


class Quantization(BundleModel):
    """The number format of the networks.

    "fp32" is as trained; "fp16" and "bf16" have weights of 16 bits and compute in 32; "int8" has weights and
    activations of 8 bits.
    """

    kind: QuantizationKind = "fp32"
    check: QuantizationCheck | None = None
    """None for "fp32", which costs nothing"""


class Bundle(BundleModel):
    """What bundle.json holds."""

    format: Literal[1] = 1
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    label_ids: dict[str, str]
    """label -> what a submission writes for it"""
    translations: dict[str, dict[str, str]] = {}
    """language ("ru") -> label -> its name there; a label that is missing goes by its own name"""
    about: AboutSettings = AboutSettings()
    """what pages and card call the things on the photos"""
    members: Annotated[tuple[BundleMember, ...], Field(min_length=1)]
    tta: Annotated[tuple[str, ...], Field(min_length=1)] = ("plain",)
    """of photos.tta; a network's probabilities are the mean over them"""
    blend: Blend
    strangers: StrangerRule | None = None
    """what says that a photo is none of these; None: nothing does, as there were too few photos to tell"""
    label_sets: LabelSets | None = None
    """what label sets follow from; None if no photo was held out"""
    quantization: Quantization = Quantization()
    parity: ParityCheck | None = None
    metrics: dict[str, Any] = {}
    """`ensemble.metrics.HeadlineMetrics` of the blend, on held-out photos; "members": name -> those of a
    member; "measured_on": in words; "data" and "training": what it was trained on, and how, as
    `run_export.export_run` writes them"""
    examples: dict[str, Annotated[tuple[ExamplePath, ...], Field(max_length=MAX_EXAMPLES)]] = {}
    """label -> paths under the bundle's folder of a few held-out photos of it, which pages show"""
    files: dict[str, Sha256] = {}
    """path under the bundle's folder -> SHA-256; `write_bundle` fills it in"""

    @property
    def fingerprint(self) -> str:
        """What tells a bundle from one that may predict otherwise: 64 hexadecimal digits.

        It depends on everything that probabilities follow from, not on the card, translations and examples.
        """
        decisive = self.model_dump(
            mode="json", include={"class_names", "members", "tta", "blend", "strangers", "label_sets"}
        )
        shown = {CARD_FILE, *self.example_paths}
        decisive["files"] = {path: digest for path, digest in self.files.items() if path not in shown}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def example_paths(self) -> list[str]:
        """The paths of all examples."""
        return [path for paths in self.examples.values() for path in paths]

    def label_set_at(self, coverage: float) -> Callable[[Floats], list[str]]:
        """Returns the function from a photo's probabilities (classes,) to its label set at a coverage.

        Raises FovsfeError if the bundle has no label sets.
        """
        sets, class_names = self.label_sets, self.class_names
        if sets is None:
            raise FovsfeError("this bundle has no label sets: no photo of its run was held out")
        return lambda probabilities: [class_names[i] for i in sets.labels(probabilities, coverage)]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("a label is there twice")
        if set(self.label_ids) != set(self.class_names):
            raise ValueError("label_ids is not for the labels")
        for language, names in self.translations.items():
            if unknown := set(names) - set(self.class_names):
                raise ValueError(
                    f"translations.{language} is for unknown labels: {', '.join(sorted(unknown))}"
                )
        if unknown := set(self.examples) - set(self.class_names):
            raise ValueError(f"examples are of unknown labels: {', '.join(sorted(unknown))}")
        if tuple(member.name for member in self.members) != self.blend.members:
            raise ValueError("blend is not for the members")
        if any(len(row) != len(self.class_names) for row in (*self.blend.precisions, self.blend.bias) if row):
            raise ValueError("blend is not for the labels")
        if self.label_sets is not None and len(self.label_sets.lowest_of_label) != len(self.class_names):
            raise ValueError("label_sets is not for the labels")
        if self.tta[0] != "plain" or not set(self.tta) <= set(TTA_NAMES):
            raise ValueError(f'tta begins with "plain"; there are {", ".join(TTA_NAMES)}')
        return self


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Writes bundle.json, with the checksums of all other files in `folder`, and returns what it wrote.

    Raises FovsfeError if it cannot be written.
    """
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {path: sha256_of(folder / path) for path in paths if path != BUNDLE_FILE}
    bundle = bundle.model_copy(update={"files": files})
    left_out = None if bundle.examples else {"examples"}  # most bundles have none
    write_text(folder / BUNDLE_FILE, bundle.model_dump_json(indent=1, exclude=left_out) + "\n")
    return bundle


def write_examples(folder: Path, bundle: Bundle, photos: Mapping[str, Sequence[bytes]]) -> Bundle:
    """Writes photos, JPEGs by label, into the bundle in `folder`, and returns the bundle with them.

    Raises FovsfeError if they cannot be written.
    """
    examples = {
        label: tuple(
            f"{EXAMPLES_FOLDER}/{bundle.class_names.index(label)}-{i}.jpg" for i in range(len(of_label))
        )
        for label, of_label in photos.items()
        if of_label
    }
    for label, paths in examples.items():
        for path, photo in zip(paths, photos[label], strict=True):
            with atomic_path(folder / path) as temporary:
                temporary.write_bytes(photo)
    return write_bundle(folder, bundle.model_copy(update={"examples": examples}))


def read_metrics(folder: Path) -> dict[str, Any]:
    """Returns the metrics of the bundle in `folder`, whose other files are not looked at.

    Raises FovsfeError if there is no bundle, or bundle.json is damaged or of another format version.
    """
    return _read_json(folder).metrics


def load_bundle(folder: Path) -> Bundle:
    """Reads bundle.json and checks every file that it names.

    Raises:
        FovsfeError: there is no bundle, it has another format version, or it is damaged: a file is missing or
            has changed, an example is too large, or a network reads another file.
    """
    bundle = _read_json(folder)
    needed = {path for member in bundle.members for path in member.networks} | set(bundle.example_paths)
    if bundle.strangers is not None:
        needed.add(SPACES_FILE)
    if unlisted := needed - set(bundle.files):
        raise FovsfeError(
            f"bundle {folder}: {BUNDLE_FILE} has no checksum of {min(unlisted)}; export it again"
        )
    for path, expected in bundle.files.items():
        _check_file(folder, path, expected)
    for path in bundle.example_paths:
        if (size := (folder / path).stat().st_size) > MAX_EXAMPLE_BYTES:
            raise FovsfeError(
                f"bundle {folder}: {path} has {size} bytes, and an example {MAX_EXAMPLE_BYTES} at most;"
                " export it again"
            )
    for member in bundle.members:
        for path in member.networks:
            _check_external_files(folder, path, bundle.files)
    return bundle


def load_spaces(folder: Path, bundle: Bundle) -> list[list[FeatureSpace]]:
    """Returns the feature spaces of each member's networks; none if the bundle has no rule for strangers.

    Raises FovsfeError if their file is damaged or of another bundle.
    """
    if bundle.strangers is None:
        return []
    try:
        networks = [len(member.networks) for member in bundle.members]
        return read_spaces(folder / SPACES_FILE, networks, len(bundle.class_names))
    except ValueError as error:
        raise FovsfeError(f"bundle {folder}: {error}; export it again") from error


def sha256_of(file: Path) -> str:
    """Returns a file's SHA-256, in hexadecimal. Raises OSError if it cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(folder: Path) -> Bundle:
    file = folder / BUNDLE_FILE
    if not file.is_file():
        raise FovsfeError(
            f"no bundle at {folder}: there is no {BUNDLE_FILE};"
            f" make it with: fovsfe export RUN --out {folder}"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FovsfeError(
            f"bundle {folder}: {BUNDLE_FILE} cannot be read: {error}; export it again"
        ) from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if type(version) is not int:
        raise FovsfeError(f"{file} is not a bundle of fovsfe: it has no format version")
    if version != FORMAT:
        raise FovsfeError(
            f"bundle {folder} has format {version}, this fovsfe reads format {FORMAT}: "
            + ("update fovsfe" if version > FORMAT else "export it again")
        )
    try:
        return Bundle.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"]))
        reason = detail["msg"].removeprefix("Value error, ")
        raise FovsfeError(
            f"bundle {folder}: {BUNDLE_FILE} is damaged: {f'{key}: ' if key else ''}{reason}; export it again"
        ) from error


def _check_external_files(folder: Path, path: str, files: Mapping[str, str]) -> None:
    """Refuses a network that reads files whose checksums bundle.json does not have: any of this machine."""
    try:
        unlisted = external_files(folder, path) - set(files)
    except (OSError, ValueError) as error:
        raise FovsfeError(f"bundle {folder}: {path} is not ONNX: {error}; export it again") from error
    if unlisted:
        raise FovsfeError(
            f"bundle {folder}: {path} reads {min(unlisted)!r}, of which {BUNDLE_FILE} has no checksum;"
            " do not trust this bundle"
        )


def _check_file(folder: Path, path: str, expected: str) -> None:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise FovsfeError(f"bundle {folder}: {path} is outside of its folder; do not trust this bundle")
    try:
        checksum = sha256_of(folder / path)
    except OSError as error:
        raise FovsfeError(
            f"bundle {folder}: cannot read {path}: {error.strerror}; export it again"
        ) from error
    if checksum != expected:
        remedy = (
            f'if you edited it, write "{checksum}" for it in {BUNDLE_FILE}'
            if path == CARD_FILE
            else "export it again"
        )
        raise FovsfeError(f"bundle {folder}: {path} is not what was exported (another SHA-256); {remedy}")
