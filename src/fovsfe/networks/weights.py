"""Pretrained weights: whether they are at hand, and how they are packed for a machine without network.

A folder of weights has, for each backbone, the state dict of `timm.create_model(NAME, num_classes=0)` in
NAME.safetensors and the mean and std that it expects in NAME.json.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.torch import save

from fovsfe.callbacks import Notify, no_notification
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path, write_text
from fovsfe.networks.at_hand import is_reachable, missing_files, require_files, unreachable
from fovsfe.networks.network import require_backbone

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm names them


def require_weights(backbones: Sequence[str], weights: str, notify: Notify = no_notification) -> None:
    """Finds out in seconds whether all weights can be had, and says so before they are downloaded.

    Args:
        backbones: the names of timm models.
        weights: "hub", "none", or a folder.
        notify: is told what will be downloaded.

    Raises:
        FovsfeError: timm has no such backbone; weights are missing in the folder; or the hub has none, or
            cannot be reached and they have not been downloaded before.
    """
    backbones = list(dict.fromkeys(backbones))
    for backbone in backbones:
        require_backbone(backbone)
    if weights == "none":
        return
    if weights != "hub":
        require_files(backbones, Path(weights))
        return
    wanted = {backbone: _source(backbone) for backbone in backbones if not _is_downloaded(backbone)}
    if silent := sorted({host for host in wanted.values() if not is_reachable(host)}):
        raise unreachable(silent[0], [name for name, host in wanted.items() if host in silent], backbones)
    if wanted:
        notify(f"downloading the weights of {', '.join(wanted)}")


def is_packed(backbone: str, folder: Path) -> bool:
    """Returns whether a folder of weights has a backbone."""
    return not missing_files([backbone], folder)


def pack_weights(backbone: str, folder: Path) -> Path:
    """Writes a backbone's pretrained weights, as timm has them, into a folder of weights.

    Returns:
        NAME.safetensors.

    Raises:
        FovsfeError: timm has no such backbone or no weights of it, they cannot be downloaded, or the folder
            cannot be written.
    """
    require_backbone(backbone)
    try:
        model: Any = timm.create_model(backbone, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's errors have no common class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FovsfeError(f"cannot download the weights of {backbone}: {reason}") from error
    file = folder / f"{backbone}.safetensors"
    config = {name: list(model.pretrained_cfg[name]) for name in ("mean", "std")}
    write_text(file.with_suffix(".json"), json.dumps(config) + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(file) as temporary:
        temporary.write_bytes(save(tensors))
    return file


def download_size(backbone: str) -> int:
    """Returns about how many bytes a backbone's weights have."""
    with torch.device("meta"):
        model = timm.create_model(backbone)
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def _source(backbone: str) -> str:
    """Returns the address of the server that has a backbone's weights. Raises FovsfeError if none has."""
    config = timm.get_pretrained_cfg(backbone)
    if config is not None and not config.has_weights:
        raise FovsfeError(f"there are no weights of {backbone}; use --weights none, or another backbone")
    if config is None or config.hf_hub_id:  # None: an old name, which timm translates
        return str(constants.ENDPOINT)
    address = urlsplit(config.url)
    return f"{address.scheme}://{address.netloc}"


def _is_downloaded(backbone: str) -> bool:
    """Returns whether timm will find a backbone's weights in a cache of this machine."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        return False
    if config.hf_hub_id:
        names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
        repository = config.hf_hub_id.partition("@")[0]
        return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)
    name = Path(urlsplit(config.url or "").path).name
    return config.file is not None or (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()
