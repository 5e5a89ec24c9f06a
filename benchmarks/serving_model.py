"""What benchmarks/serving.py serves: one network as a bundle and for the peers, and photos of phone size."""

import io
import shutil
from pathlib import Path
from random import Random

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.places import SCRATCH
from fovsfe import recipe as recipes
from fovsfe.bundle import format
from fovsfe.bundle.export import ExportInputs, export_bundle
from fovsfe.bundle.quantize import quantize_int8
from fovsfe.ensemble.blend import Blend
from fovsfe.files import write_json
from fovsfe.networks.network import build_network
from fovsfe.photos.decode import load_photo
from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

BACKBONE, SIZE = "mobilenetv1_100", (224, 224)
LABELS = [str(number) for number in range(10)]
PHONE = (4032, 3024)


def made(weights: Path) -> Path:
    """The bundle; beside it bundle-int8, with its network in 8 bits, and the same network for the peers:
    model.onnx, model.safetensors and model.json."""
    folder = SCRATCH / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = build_network(BACKBONE, SIZE, "linear", len(LABELS), str(weights)).eval()
    _save(network, folder / "ours")
    members = [{"backbone": BACKBONE, "size": list(SIZE)}]
    recipe = recipes.load_recipe("quick").model_copy(
        update={"members": (recipes.MemberSettings(**members[0]),)}
    )
    title = recipe.members[0].title
    photos = np.stack([load_photo(draw_photo(model, Random(model.name)), SIZE, "squash") for model in MODELS])
    bundle = folder / "bundle"
    blend = Blend(kind="mean", members=(title,))
    inputs = ExportInputs(
        networks={title: [folder / "ours"]},
        recipe=recipe,
        blend=blend,
        class_names=LABELS,
        label_ids={label: label for label in LABELS},
        tta=("plain",),
        metrics={},
        proof_photos=lambda _: photos,
    )
    export_bundle(bundle, inputs)
    (graph,) = (bundle / "members").iterdir()
    (folder / "model.onnx").write_bytes(graph.read_bytes())
    reduced = shutil.copytree(bundle, folder / "bundle-int8", dirs_exist_ok=True)
    quantize_int8(reduced / "members" / graph.name, photos)
    format.write_bundle(reduced, format.load_bundle(bundle))
    peer = timm.create_model(BACKBONE, num_classes=len(LABELS))
    of_head = {"classifier.weight": network.head.weight, "classifier.bias": network.head.bias}
    peer.load_state_dict(network.backbone.state_dict() | of_head)
    _save(peer, folder / "model.safetensors")
    facts = {key: (getattr(network, key) / 255).flatten().tolist() for key in ("mean", "std")}
    facts |= {"backbone": BACKBONE, "size": list(SIZE), "labels": len(LABELS)}
    write_json(folder / "model.json", facts)
    return bundle


def _save(network: torch.nn.Module, file: Path) -> None:
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)


def phone_photos() -> list[Path]:
    """Four drawn photos of 12 megapixels with a sensor's noise, as JPEGs; made once."""
    folder = SCRATCH / "serving" / "phone"
    files = [folder / f"{number}.jpg" for number in range(4)]
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(-9, 10, (*PHONE[::-1], 1), dtype=np.int16)
        for file, model in zip(files, MODELS, strict=False):
            drawn = Image.open(io.BytesIO(draw_photo(model, Random(model.name))))
            large = np.asarray(drawn.convert("RGB").resize(PHONE, Image.Resampling.BICUBIC), np.int16)
            Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(file, quality=80)
    return files
