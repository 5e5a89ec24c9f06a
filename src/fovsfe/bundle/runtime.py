"""One network of a bundle on a runtime: uint8 photos in, arrays out."""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import Pixels

VARIABLE = "FOVSFE_RUNTIME"

Outputs = list[npt.NDArray[np.float32]]
GraphSession = Callable[[Pixels], Outputs]
"""uint8 (n, height, width, 3) -> float32 logits (n, classes) and, of some networks, maps. May be called from
several threads at once."""


def open_graph(file: Path, outputs: int, num_classes: int, threads: int) -> GraphSession:
    """Loads a graph into the runtime that the environment variable FOVSFE_RUNTIME names.

    That is "onnxruntime" unless it says "openvino", which takes two to four times the memory and is faster
    only for small networks of 8 bits, which it rounds otherwise than the one that judged them:
    `python -m benchmarks runtimes`.

    Raises FovsfeError where there is no such runtime, or it refuses the graph, or the graph is for others.
    """
    name = os.environ.get(VARIABLE) or "onnxruntime"
    runtimes = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    if name not in runtimes:
        raise FovsfeError(f"{VARIABLE}={name}: there are {' and '.join(runtimes)}")
    try:
        network, last_sides = runtimes[name](file, threads)
    except ImportError as error:
        raise FovsfeError(f"{VARIABLE}={name}: it is not installed: pip install 'fovsfe[{name}]'") from error
    except Exception as error:  # the runtimes' exceptions have no common class
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"{name} {sys.modules[name].__version__} cannot load {file}: {reason}") from error
    if last_sides[0] != num_classes or len(last_sides) != outputs:
        raise FovsfeError(
            f"{file} is not a network for the {num_classes} labels of its bundle: export it anew"
        )
    return network


def _onnxruntime(file: Path, threads: int) -> tuple[GraphSession, list[int]]:
    """The network, and the last side of each of its outputs."""
    _share_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")  # not the arena
    options.enable_mem_pattern = False  # takes memory, and makes nothing faster
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(photos: Pixels) -> Outputs:
        answers: Outputs = session.run(None, {"photos": photos})
        return answers

    return run, [output.shape[-1] for output in session.get_outputs()]


@cache
def _share_memory() -> None:
    """One arena for all networks: with one each, every one keeps what it needed for itself.

    It doubles as it grows; extended by just what is asked for, it splits into chunks that fit nothing else.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    doubling = {"max_mem": 0, "arena_extend_strategy": 0}
    defaults = {"initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(doubling | defaults))


def _openvino(file: Path, threads: int) -> tuple[GraphSession, list[int]]:
    """The network, and the last side of each of its outputs."""
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bf16, where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    # One request, and one call at a time: several at once end, one time in ten, in a deadlock of OpenVINO's.
    request, lock = compiled.create_infer_request(), Lock()

    def run(photos: Pixels) -> Outputs:
        with lock:
            answers = request.infer([photos])
            return [np.array(answers[number]) for number in range(len(compiled.outputs))]

    return run, [output.partial_shape[-1].get_length() for output in compiled.outputs]
