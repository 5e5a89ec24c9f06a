import io
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fovsfe.bundle.format import SPACES_FILE, Bundle, BundleMember, load_bundle, write_bundle, write_examples
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.label_sets import LabelSets
from fovsfe.ensemble.stranger_fitting import LEFT_OUT
from fovsfe.ensemble.strangers import FeatureSpace, StrangerRule, write_spaces
from fovsfe.recipe import AboutSettings, AboutWords
from fovsfe.service.app import create_app
from fovsfe.service.settings import Settings
from fovsfe.synthetic.nonphotos import draw_nonphotos

# One of each kind that could be shown wrongly, and the colour that the bundle knows it by.
COLOURS = {
    "Red car": (255, 0, 0),
    "<img src=x onerror=alert(1)> \"fast\" & 'blue' </script>": (0, 0, 255),
    "ВАЗ-2109 «Спутник»": (0, 255, 0),
    "W" * 200: (255, 255, 255),
    "Black": (0, 0, 0),
    "{{ 7 * 7 }} Yellow": (255, 255, 0),
}


# The same network with other names, and what its photos show.
FLOWERS = {
    "Rose": "Роза",
    "Iris": "Ирис",
    "Fern": "Папоротник",
    "Lily": "Лилия",
    "Tulip": "Тюльпан",
    "Daffodil": "Нарцисс",
}
FLOWER_WORDS = AboutSettings(
    title="Which flower is in bloom?",
    noun="flower",
    plural="flowers",
    icon="🌸",
    accent="#ffd400",  # in which nobody could read a word on white
    ru=AboutWords(title="Что это за цветок?", noun="цветок", plural="цветы"),
)
CAR_WORDS = AboutSettings(
    noun="car",
    plural="cars",
    icon="🚗",
    accent="#0b5cad",
    ru=AboutWords(title="Что за машина?", noun="машина", plural="машины"),
)


# Strong colours are known, whichever they are; grey is not.
_CORNERS = np.sign(np.array(list(COLOURS.values()), np.float32) - 1)
SPACE = FeatureSpace(
    basis=np.eye(3, dtype=np.float32),
    weight=_CORNERS,
    bias=np.zeros(len(COLOURS), np.float32),
    bank=_CORNERS / np.sqrt(np.float32(3)),
    centre=np.array([2.1, 1], np.float32),
    scale=np.array([0.1, 1], np.float32),
)
# At a coverage of 95%, what is more likely than 0.2 is in a set.
SETS = LabelSets(
    photos=19,
    lowest=(0.2, *10 * [0.5]),
    photos_of_label=(3, 3, 3, 3, 3, 4),
    lowest_of_label=((), (), (), (), (), ()),
)


@pytest.fixture
def hangups() -> Iterator[None]:
    """What a test starts is ended by SIGHUP, also if the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells colours, so its answers are known: sure of a pure one, never of a grey photo."""
    folder = tmp_path_factory.mktemp("colours") / "bundle"
    return colour_bundle(folder, tuple(COLOURS), {"Red car": "Красная машина"}, AboutSettings())


@pytest.fixture(scope="session")
def exemplary(colours: Path, photo: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of colours with known photos of two labels: four of one, one of the other."""
    folder = Path(shutil.copytree(colours, tmp_path_factory.mktemp("exemplary") / "bundle"))
    photos = {
        "Red car": [photo((red, 0, 0), (40, 30)) for red in (255, 250, 245, 240)],
        "Black": [photo("Black", (40, 30))],
    }
    write_examples(folder, load_bundle(folder), photos)
    return folder


@pytest.fixture(scope="session")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for flowers, which it says."""
    folder = tmp_path_factory.mktemp("flowers") / "bundle"
    return colour_bundle(folder, tuple(FLOWERS), FLOWERS, FLOWER_WORDS)


@pytest.fixture(scope="session")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for flowers, but it does not say what they are."""
    folder = tmp_path_factory.mktemp("unnamed") / "bundle"
    return colour_bundle(folder, tuple(FLOWERS), FLOWERS, AboutSettings())


@pytest.fixture(scope="session")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for cars, which it says."""
    folder = tmp_path_factory.mktemp("cars") / "bundle"
    names = ("Ford", "Lada", "Opel", "Audi", "Seat", "Ferrari")
    return colour_bundle(folder, names, {}, CAR_WORDS)


def colour_bundle(
    folder: Path, names: tuple[str, ...], russian: dict[str, str], about: AboutSettings
) -> Path:
    (folder / "members").mkdir(parents=True)
    onnx.save(_network(), folder / "members/colours.onnx")
    write_spaces(folder / SPACES_FILE, [[SPACE]])
    figures = {"photos": 400, "accuracy": 0.9125, "interval": [0.88, 0.936], "log_loss": 0.25}
    figures |= {"calibration_error": 0.031, "most_confused": [names[0], names[2], 7]}
    share = {"photos": 48, "count": 1, "share": 1 / 48, "interval": [0.004, 0.109]}
    named = dict.fromkeys((LEFT_OUT, *draw_nonphotos(1, 0), "negatives"), share)
    figures |= {"strangers": {"withheld": share, "named": named}}
    figures |= {"label_sets": {"coverage": 0.95, "covered": share, "of_label": {}, "size": 1.3}}
    record = {"bins": [{"low": 0.5, "photos": 60, "right": 40}, {"low": 0.75, "photos": 42, "right": 31}]}
    record |= {"baselines": {"most_frequent": 0.3, "guessing": 1 / 6}}
    record |= {"reference": {"labels": [17] * len(names), "unknown": 8, "confidence": 0.72}}
    shares = dict(zip(names, (1.0, 0.9, 0.8, 0.7, None, 0.5), strict=True))
    write_bundle(
        folder,
        Bundle(
            class_names=names,
            label_ids={label: str(index) for index, label in enumerate(names)},
            translations={"ru": russian},
            about=about,
            members=(
                BundleMember(
                    name="colours",
                    backbone="none",
                    size=(48, 64),
                    resize_mode="squash",
                    has_cam=True,
                    networks=("members/colours.onnx",),
                ),
            ),
            blend=Blend(kind="mean", members=("colours",)),
            strangers=StrangerRule(threshold=-10, certainty_centre=0, certainty_scale=1),
            label_sets=SETS,
            metrics=figures
            | record
            | {"recall": shares, "precision": shares, "members": {"colours": figures}},
        ),
    )
    return folder


@pytest.fixture
def opened(colours: Path) -> Iterator[Callable[..., TestClient]]:
    """Opens a client of an application with these settings."""
    clients: list[TestClient] = []

    def client(address: str = "127.0.0.1", **settings: Any) -> TestClient:
        app = create_app(colours, Settings(**({"threads": 1} | settings)))
        client = TestClient(app, raise_server_exceptions=False, client=(address, 50000))
        clients.append(client.__enter__())
        return clients[-1]

    yield client
    for one in clients:
        one.__exit__()


@pytest.fixture(scope="session")
def photo() -> Callable[..., bytes]:
    """An encoded photo of one colour."""

    def encoded(
        colour: str | tuple[int, int, int], size: tuple[int, int] = (320, 240), kind: str = "JPEG"
    ) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", size, COLOURS.get(colour, colour)).save(stream, kind)  # type: ignore[call-overload]
        return stream.getvalue()

    return encoded


def _network() -> onnx.ModelProto:
    """Logits: how near the mean colour is to each label's; features: that colour; maps: the logits by place,
    6 by 8 of them."""
    corners = np.array(list(COLOURS.values()), np.float32) / 255 - 0.5
    constants = {"scale": np.float32(255), "half": np.float32(0.5), "corners": 8 * corners.T}
    nodes = [
        helper.make_node("Cast", ["photos"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["shares"]),
        helper.make_node("Sub", ["shares", "half"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["places"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Transpose", ["places"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["last", "corners"], ["maps"]),
        helper.make_node("ReduceMean", ["maps"], ["logits"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["last"], ["features"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["n", 48, 64, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(COLOURS)]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", 6, 8, len(COLOURS)]),
        ],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
