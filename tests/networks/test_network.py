"""networks.network: uint8 photos in, logits out; weights from a folder, and one line where they fail."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from fovsfe.errors import FovsfeError
from fovsfe.networks import network
from fovsfe.networks.network import RootHead, build_network, linear_inputs

SIZE = (48, 64)
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


def photos(count=3, size=SIZE):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)


def save(folder, tensors, config=None):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "test_resnet.safetensors")
    config = {"mean": MEAN, "std": STD} if config is None else config
    (folder / "test_resnet.json").write_text(json.dumps(config))


@pytest.fixture
def trained():
    torch.manual_seed(7)
    return timm.create_model("test_resnet", num_classes=0).eval()


@pytest.fixture
def weights(tmp_path, trained):
    save(tmp_path / "weights", {name: tensor.half() for name, tensor in trained.state_dict().items()})
    return tmp_path / "weights"


def error_line(*arguments):
    with pytest.raises(FovsfeError) as caught:
        build_network(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what it computes


@torch.no_grad()
def test_uint8_and_float_photos_give_the_same():
    made = build_network("test_resnet", SIZE, "linear", 4, "none").eval()
    logits = made(photos())
    assert logits.shape == (3, 4)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, made(photos().float()))


@torch.no_grad()
def test_normalisation_is_inside(trained, weights):
    made = build_network("test_resnet", SIZE, "linear", 4, str(weights)).eval()
    pixels = photos().permute(0, 3, 1, 2) / 255
    normal = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(made.normalize(photos()), normal, atol=1e-5)
    assert torch.allclose(made.features(photos()), made.backbone(normal), atol=1e-4)
    assert torch.allclose(made(photos()), made.head(made.backbone(normal)), atol=1e-4)


def test_without_weights_the_backbone_s_own_mean_and_std_are_used():
    made = build_network("test_resnet", SIZE, "linear", 4, "none")
    config = made.backbone.pretrained_cfg
    assert torch.allclose(made.mean.flatten(), 255 * torch.tensor(config["mean"]))
    assert torch.allclose(made.std.flatten(), 255 * torch.tensor(config["std"]))


@torch.no_grad()
def test_photos_do_not_depend_on_each_other_in_a_batch():
    made = build_network("test_efficientnet", SIZE, "hidden", 4, "none").eval()
    together = made(photos(5))
    alone = torch.cat([made(photo[None]) for photo in photos(5)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_heads():
    linear = build_network("test_resnet", SIZE, "linear", 4, "none")
    assert isinstance(linear.head, torch.nn.Linear)
    width = linear.backbone.num_features
    assert (linear.head.in_features, linear.head.out_features) == (width, 4)
    root = build_network("test_resnet", SIZE, "root", 4, "none").head
    assert isinstance(root, RootHead) and (root.in_features, root.out_features) == (width, 4)
    hidden = build_network("test_resnet", SIZE, "hidden", 4, "none").head
    assert [type(layer).__name__ for layer in hidden] == [
        "Linear",
        "ReLU",
        "BatchNorm1d",
        "Dropout",
        "Linear",
    ]
    assert (hidden[0].out_features, hidden[4].out_features) == (256, 4)


def test_a_root_head_is_linear_in_the_signed_square_roots():
    head = RootHead(6, 2)
    features = torch.tensor([[4.0, -9.0, 0.25, 0.0, 1e-12, -1e-3]], requires_grad=True)
    roots = torch.tensor([[2.0, -3.0, 0.5, 0.0, 1e-9, -(1e-3**0.5)]])
    torch.testing.assert_close(linear_inputs(head, features), roots)
    torch.testing.assert_close(head(features), torch.nn.functional.linear(roots, head.weight, head.bias))
    head(features).sum().backward()
    assert torch.isfinite(features.grad).all()
    linear = torch.nn.Linear(6, 2)
    assert linear_inputs(linear, features) is features


@torch.no_grad()
def test_a_backbone_of_fixed_input_takes_the_size_it_is_asked_for():
    made = build_network("test_vit", (64, 96), "linear", 4, "none").eval()
    assert made(photos(2, (64, 96))).shape == (2, 4)


# ---- weights


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["mobileone_s0", "repvgg_a0"])
def test_a_convolution_that_onednn_fails_at_gets_its_channels_first(backbone):
    network = build_network(backbone, (64, 64), "linear", 2, "none").train()
    first = next(
        module
        for module in network.backbone.stem.modules()
        if isinstance(module, torch.nn.Conv2d) and (module.kernel_size, module.stride) == ((1, 1), (2, 2))
    )
    strides = []
    first.register_forward_pre_hook(lambda _, inputs: strides.append(inputs[0].stride()))
    with torch.no_grad():
        network(photos(2, (64, 64)))
    assert strides == [(3 * 64 * 64, 64 * 64, 64, 1)]


def test_half_precision_weights_of_a_folder_are_widened(trained, weights):
    made = build_network("test_resnet", SIZE, "linear", 4, str(weights))
    loaded, original = made.backbone.state_dict(), trained.state_dict()
    assert loaded.keys() == original.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == original[name].dtype
        assert torch.equal(tensor, original[name].half().to(original[name].dtype))


def test_missing_weights_are_named_with_what_there_is(weights):
    line = error_line("test_efficientnet", SIZE, "linear", 4, str(weights))
    assert str(weights / "test_efficientnet.safetensors") in line
    assert "test_resnet" in line


def test_a_missing_folder(tmp_path):
    line = error_line("test_resnet", SIZE, "linear", 4, str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in line
    assert "no weights at all" in line


def test_damaged_weights(weights):
    file = weights / "test_resnet.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert str(file) in error_line("test_resnet", SIZE, "linear", 4, str(weights))


def test_weights_of_another_shape(weights, trained):
    tensors = trained.state_dict()
    first = next(iter(tensors))
    save(weights, tensors | {first: tensors[first][:-1].contiguous()})
    line = error_line("test_resnet", SIZE, "linear", 4, str(weights))
    assert str(weights / "test_resnet.safetensors") in line
    assert first in line


def test_weights_of_another_network(weights):
    other = timm.create_model("test_efficientnet", num_classes=0).state_dict()
    save(weights, other)
    assert str(weights / "test_resnet.safetensors") in error_line(
        "test_resnet", SIZE, "linear", 4, str(weights)
    )


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"mean": 0.5, "std": 0.5}', '{"mean": [0.5], "std": [1]}', "[]"]
)
def test_a_json_that_does_not_fit(weights, text):
    (weights / "test_resnet.json").write_text(text)
    assert "test_resnet" in error_line("test_resnet", SIZE, "linear", 4, str(weights))


def test_a_missing_json(weights):
    (weights / "test_resnet.json").unlink()
    assert "json" in error_line("test_resnet", SIZE, "linear", 4, str(weights))


# ---- backbones and the hub


def test_an_unknown_backbone_and_those_near_it():
    line = error_line("mobilenetv1_1000", SIZE, "linear", 4, "none")
    assert "mobilenetv1_1000" in line
    assert "mobilenetv1_100" in line.removeprefix('timm has no backbone "mobilenetv1_1000"')


def test_an_unknown_tag_of_a_known_backbone():
    line = error_line("test_resnet.nonsense", SIZE, "linear", 4, "none")
    assert 'no weights "nonsense" of test_resnet' in line


def test_a_size_that_a_backbone_cannot_take(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("Input height (50) should be divisible by patch size (16)")

    monkeypatch.setattr(network.timm, "create_model", refuse)
    line = error_line("test_vit", (50, 70), "linear", 4, "none")
    assert line.startswith("cannot create backbone test_vit at 50x70: Input height (50)")


@pytest.mark.parametrize(
    "error",
    [OSError("cannot reach huggingface.co\nand more\nlines"), RuntimeError(), ConnectionError("no route")],
)
def test_the_hub_without_a_network(monkeypatch, error):
    def unreachable(*arguments, pretrained, **options):
        assert pretrained
        raise error

    monkeypatch.setattr(network.timm, "create_model", unreachable)
    line = error_line("test_resnet", SIZE, "linear", 4, "hub")
    assert "test_resnet" in line
    assert "--weights" in line
    assert (str(error).split("\n")[0] or type(error).__name__) in line
