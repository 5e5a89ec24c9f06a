"""A network that reads other files is found out, wherever in it a tensor is; they must be listed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fovsfe.bundle.format import load_bundle, sha256_of
from fovsfe.bundle.onnx_files import external_files
from fovsfe.errors import FovsfeError


def tensor(location: str | None) -> TensorProto:
    made = helper.make_tensor("w", TensorProto.FLOAT, [3], np.ones(3, np.float32).tobytes(), raw=True)
    if location is not None:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="offset", value="0")
        made.external_data.add(key="location", value=location)
    return made


def graph_with(where: str, location: str | None) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])]
    constant = helper.make_node("Constant", [], ["y"], value=tensor(location))
    graph = helper.make_graph([constant], "g", [], values)
    if where == "initializer":
        node = helper.make_node("Identity", ["w"], ["y"])
        graph = helper.make_graph([node], "g", [], values, [tensor(location)])
    if where == "sparse":
        sparse = onnx.SparseTensorProto(values=tensor(location), dims=[9])
        graph = helper.make_graph([], "g", [], values, sparse_initializer=[sparse])
    if where == "branch":
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "outer", [], values)
    model = helper.make_model(graph)
    if where == "function":
        model = helper.make_model(helper.make_graph([], "g", [], values))
        model.functions.append(
            helper.make_function("d", "f", [], ["y"], [constant], [helper.make_opsetid("", 17)])
        )
    if where == "training":
        model = helper.make_model(helper.make_graph([], "g", [], values))
        model.training_info.add().algorithm.CopyFrom(graph)
    return model


@pytest.mark.parametrize("where", ["initializer", "constant", "sparse", "branch", "function", "training"])
def test_external_data_is_found_wherever_it_is(tmp_path: Path, where: str) -> None:
    (tmp_path / "members").mkdir()
    file = tmp_path / "members" / "a.onnx"
    file.write_bytes(graph_with(where, None).SerializeToString())
    assert external_files(tmp_path, "members/a.onnx") == set()
    file.write_bytes(graph_with(where, "../../secret.bin").SerializeToString())
    assert external_files(tmp_path, "members/a.onnx") == {"../secret.bin"}


@given(st.binary(min_size=1, max_size=200))
def test_what_is_no_onnx_is_an_error_of_value(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "wild.onnx"
    file.write_bytes(data)
    try:
        external_files(file.parent, file.name)
    except ValueError:
        return


def test_a_bundle_whose_network_reads_an_unlisted_file_is_refused(bundle: Path) -> None:
    path = "members/small-0.onnx"
    model = onnx.load(bundle / path)
    onnx.save_model(model, bundle / path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (bundle / "members" / "w.bin").stat().st_size > 1000
    raw: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    raw["files"][path] = sha256_of(bundle / path)
    (bundle / "bundle.json").write_text(json.dumps(raw))
    with pytest.raises(FovsfeError, match=r"small-0\.onnx reads 'members/w\.bin'.*do not trust this bundle"):
        load_bundle(bundle)
    raw["files"]["members/w.bin"] = sha256_of(bundle / "members" / "w.bin")
    (bundle / "bundle.json").write_text(json.dumps(raw))
    assert load_bundle(bundle).files["members/w.bin"] == raw["files"]["members/w.bin"]
