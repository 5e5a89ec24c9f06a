"""The peers of the serving benchmark, one server each. Runs in an environment without fovsfe.

    PEER=NAME PORT=NUMBER FOLDER=FOLDER python benchmarks/serving_peers.py

FOLDER has model.onnx and model.safetensors, the same network, and model.json, the facts about it. Each peer
takes a photo from the form's field `photo`, decodes it with Pillow, resizes it and answers {"label": NUMBER},
on one core, as its documentation shows.
"""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NAME, PORT, FOLDER = os.environ["PEER"], int(os.environ["PORT"]), Path(os.environ["FOLDER"])
FACTS = json.loads((FOLDER / "model.json").read_text())
HEIGHT, WIDTH = FACTS["size"]


def load_pixels(data: bytes) -> np.ndarray:
    """Returns a photo as the network takes it: uint8 (1, height, width, 3)."""
    photo = Image.open(io.BytesIO(data)).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(photo)[None]


def load_onnx_network():
    """Returns a function from pixels (n, height, width, 3) to logits (n, classes), on onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda photos: session.run(["logits"], {"photos": photos})[0]


def load_torch_network():
    """Returns the network in torch, in evaluation mode."""
    import timm
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    network = timm.create_model(FACTS["backbone"], num_classes=FACTS["num_classes"])
    network.load_state_dict(load_file(FOLDER / "model.safetensors"))
    return network.eval().to(memory_format=torch.channels_last)


def serve_fastapi() -> None:
    """Serves with FastAPI, which runs functions that block in its thread pool."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    app, network = FastAPI(), load_onnx_network()

    @app.post("/predict")
    def predict(photo: UploadFile) -> dict[str, int]:
        return {"label": int(network(load_pixels(photo.file.read())).argmax())}

    uvicorn.run(app, port=PORT, log_level="warning", loop="uvloop", http="httptools")


if NAME.startswith("litserve"):  # not inside a function, whose classes cannot be sent to another process
    import litserve
    import torch

    class TorchApi(litserve.LitAPI):
        """LitServe with torch in a worker."""

        def setup(self, device: str) -> None:
            self.network = load_torch_network()
            self.mean, self.std = (torch.tensor(FACTS[key]).view(1, 3, 1, 1) * 255 for key in ("mean", "std"))

        def decode_request(self, request):
            return load_pixels(request["photo"].file.read())

        def batch(self, inputs):
            return np.concatenate(inputs)

        def unbatch(self, output):
            return output

        @torch.inference_mode()
        def predict(self, photos):
            photos = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
            return self.network((photos - self.mean) / self.std).argmax(1).tolist()

        def encode_response(self, output):
            return {"label": output if isinstance(output, int) else output[0]}


def serve_litserve(batch: int) -> None:
    """Serves with LitServe, which waits 5 ms for others if a batch may hold more than one photo."""
    api = TorchApi(max_batch_size=batch, batch_timeout=0.005 if batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(
        host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning"
    )


if NAME == "bentoml":
    import bentoml

    @bentoml.service(workers=1, threads=1, traffic={"timeout": 120})
    class OnnxService:
        """BentoML with onnxruntime in one worker, which has one thread because there is one core."""

        def __init__(self) -> None:
            self.network = load_onnx_network()

        @bentoml.api
        def predict(self, photo: Path) -> dict[str, int]:
            return {"label": int(self.network(load_pixels(photo.read_bytes())).argmax())}


def serve_bentoml() -> None:
    """Replaces this process by BentoML's command, its documented way to serve."""
    options = ["--port", str(PORT), "--host", "127.0.0.1", "--working-dir", str(Path(__file__).parent)]
    program = str(Path(sys.executable).parent / "bentoml")
    os.execv(program, [program, "serve", "serving_peers:OnnxService", *options])


if __name__ == "__main__":
    {
        "fastapi": serve_fastapi,
        "litserve": lambda: serve_litserve(1),
        "litserve-batches": lambda: serve_litserve(8),
        "bentoml": serve_bentoml,
    }[NAME]()
