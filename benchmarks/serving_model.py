"""What the serving benchmark serves: one network, as bundles and for the peers, and photos of phone size."""

import io
import shutil
from pathlib import Path
from random import Random

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.paths import SCRATCH
from fovsfe.bundle.export import ExportInputs, export_bundle
from fovsfe.bundle.format import load_bundle, write_bundle
from fovsfe.bundle.quantize import quantize_int8
from fovsfe.ensemble.blend import Blend
from fovsfe.files import write_json
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.decode import decode_to_size
from fovsfe.recipe import MemberSettings, load_recipe
from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

BACKBONE, SIZE = "mobilenetv1_100", (224, 224)
CLASS_NAMES = [str(index) for index in range(10)]
PHONE_SIZE = (4032, 3024)  # width and height


def build_served_models(weights: Path) -> Path:
    """Writes one network in every form that is served, and returns the folder of its bundle.

    Beside it are bundle-int8, the same network in 8 bits, and what the peers serve: model.onnx,
    model.safetensors and model.json.
    """
    folder = SCRATCH / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = build_network(BACKBONE, SIZE, "linear", len(CLASS_NAMES), str(weights)).eval()
    photos = np.stack(
        [decode_to_size(draw_photo(model, Random(model.name)), SIZE, "squash") for model in MODELS]
    )
    _save_weights(network, folder / "network.safetensors")
    member = MemberSettings(backbone=BACKBONE, size=SIZE)
    inputs = ExportInputs(
        networks={member.unique_name: [folder / "network.safetensors"]},
        recipe=load_recipe("quick").model_copy(update={"members": (member,)}),
        blend=Blend(kind="mean", members=(member.unique_name,)),
        class_names=CLASS_NAMES,
        label_ids={label: label for label in CLASS_NAMES},
        tta=("plain",),
        metrics={},
        parity_photos=lambda name: photos,
    )
    bundle = folder / "bundle"
    export_bundle(bundle, inputs)
    (graph,) = (bundle / "members").iterdir()
    quantized = shutil.copytree(bundle, folder / "bundle-int8", dirs_exist_ok=True)
    quantize_int8(quantized / "members" / graph.name, photos)
    write_bundle(quantized, load_bundle(bundle))
    (folder / "model.onnx").write_bytes(graph.read_bytes())
    _write_peer_model(network, folder)
    return bundle


def _write_peer_model(network: Network, folder: Path) -> None:
    """Writes the network as a plain model of timm, and the facts that are needed to run it."""
    model = timm.create_model(BACKBONE, num_classes=len(CLASS_NAMES))
    classifier = {"classifier.weight": network.head.weight, "classifier.bias": network.head.bias}
    model.load_state_dict(network.backbone.state_dict() | classifier)
    _save_weights(model, folder / "model.safetensors")
    facts = {key: (getattr(network, key) / 255).flatten().tolist() for key in ("mean", "std")}
    facts |= {"backbone": BACKBONE, "size": list(SIZE), "num_classes": len(CLASS_NAMES)}
    write_json(folder / "model.json", facts)


def _save_weights(module: torch.nn.Module, file: Path) -> None:
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, file)


def phone_photos() -> list[Path]:
    """Returns four drawn JPEGs of 12 megapixels with a sensor's noise, which are made only once."""
    folder = SCRATCH / "serving" / "phone"
    files = [folder / f"{index}.jpg" for index in range(4)]
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(-9, 10, (*PHONE_SIZE[::-1], 1), dtype=np.int16)
        for file, model in zip(files, MODELS, strict=False):
            photo = Image.open(io.BytesIO(draw_photo(model, Random(model.name)))).convert("RGB")
            large = np.asarray(photo.resize(PHONE_SIZE, Image.Resampling.BICUBIC), np.int16)
            Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(file, quality=80)
    return files
