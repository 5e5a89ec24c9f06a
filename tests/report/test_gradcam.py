"""report.gradcam: Grad-CAM of networks of all kinds is a map, and lies where the evidence is."""

import numpy as np
import pytest
import torch

from fovsfe.networks.network import build_network
from fovsfe.report.gradcam import grad_cam

NUM_CLASSES = 3
SIZE = (64, 96)


@pytest.mark.parametrize(
    "backbone", ["test_vit", "test_convnext", "test_mambaout", "swin_tiny_patch4_window7_224"]
)
@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_grad_cam_of_other_backbones_is_a_map(backbone, head):
    size = (224, 224) if "224" in backbone else (160, 160)
    torch.manual_seed(0)
    network = build_network(backbone, size, head, NUM_CLASSES, "none").eval()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    cam = grad_cam(network, size, NUM_CLASSES)(pixels, 1)
    rows, columns, num_classes = cam.shape
    assert num_classes == NUM_CLASSES and rows == columns > 1
    assert np.isfinite(cam).all() and cam[:, :, 1].std() > 0


def test_grad_cam_lies_where_the_evidence_is(make_network):
    """If the head gets the features of one cell only, the map lies there."""
    network = make_network("test_resnet", SIZE, "hidden", NUM_CLASSES, seed=0)
    forward_features = network.backbone.forward_features
    one_cell = torch.zeros(1, 1, 2, 3)
    one_cell[..., 1, 2] = 1
    network.backbone.forward_features = lambda photos: forward_features(photos) * one_cell
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    cam = np.abs(grad_cam(network, SIZE, NUM_CLASSES)(pixels, 0)[:, :, 0])
    assert cam[1, 2] > 0 and cam.sum() == pytest.approx(cam[1, 2])
