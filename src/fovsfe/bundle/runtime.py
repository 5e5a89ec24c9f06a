"""One network of a bundle in a runtime, ONNX Runtime or OpenVINO: uint8 photos in, arrays out."""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort

from fovsfe.arrays import Float32s, Pixels
from fovsfe.errors import FovsfeError

RUNTIME_VARIABLE = "FOVSFE_RUNTIME"

Outputs = list[Float32s]
GraphSession = Callable[[Pixels], Outputs]
"""uint8 (n, height, width, 3) -> float32 logits (n, classes), the backbone's features (n, width) and, of some
networks, class activation maps (n, rows, columns, classes). It may be called from several threads at once."""


def open_graph(file: Path, outputs: int, num_classes: int, threads: int) -> GraphSession:
    """Loads a graph into the runtime that the environment variable FOVSFE_RUNTIME names.

    That is "onnxruntime" by default. "openvino" takes two to four times the memory and is faster only for
    small networks of 8 bits, which it rounds differently from the runtime that measured their accuracy:
    `python -m benchmarks runtimes`.

    Args:
        outputs: how many arrays the graph must return.
        num_classes: the length that the last axis of its first output must have.
        threads: the cores that each call may use.

    Raises:
        FovsfeError: there is no such runtime, it refuses the graph, or the graph is for another bundle.
    """
    name = os.environ.get(RUNTIME_VARIABLE) or "onnxruntime"
    runtimes = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    if name not in runtimes:
        raise FovsfeError(f"{RUNTIME_VARIABLE}={name}: it must be {' or '.join(runtimes)}")
    try:
        network, last_axes = runtimes[name](file, threads)
    except ImportError as error:
        raise FovsfeError(
            f"{RUNTIME_VARIABLE}={name}: it is not installed: pip install 'fovsfe[{name}]'"
        ) from error
    except Exception as error:  # the runtimes' exceptions have no common class
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"{name} {sys.modules[name].__version__} cannot load {file}: {reason}") from error
    if last_axes[0] != num_classes or len(last_axes) != outputs:
        raise FovsfeError(
            f"{file} is not a network for the {num_classes} labels of its bundle: export it again"
        )
    return network


def _onnxruntime(file: Path, threads: int) -> tuple[GraphSession, list[int]]:
    """Returns the network, and the length of the last axis of each output."""
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
        outputs: Outputs = session.run(None, {"photos": photos})
        return outputs

    return run, [output.shape[-1] for output in session.get_outputs()]


@cache
def _share_memory() -> None:
    """Gives all networks one memory arena: with one each, every network keeps what it once needed.

    The arena doubles as it grows; extended by just what is requested, it would split into chunks that fit
    nothing else.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    doubling = {"max_mem": 0, "arena_extend_strategy": 0}
    defaults = {"initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(doubling | defaults))


def _openvino(file: Path, threads: int) -> tuple[GraphSession, list[int]]:
    """Returns the network, and the length of the last axis of each output."""
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bf16, where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    # One request, and one call at a time: several at once deadlock in OpenVINO one time in ten.
    request, lock = compiled.create_infer_request(), Lock()

    def run(photos: Pixels) -> Outputs:
        with lock:
            outputs = request.infer([photos])
            return [np.array(outputs[i]) for i in range(len(compiled.outputs))]

    return run, [output.partial_shape[-1].get_length() for output in compiled.outputs]
