"""Mixtures: their probabilities against a direct product of experts, and weights that no others are better than."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.coding.coded_file import compress, decompress, model_hash
from pixelrnn.exact_likelihood import evaluate
from pixelrnn.mixing import mix, short_names
from pixelrnn.model import Mixture, PixelModel, load_pixel_model
from pixelrnn.model_card import model_card
from pixelrnn.pixel_config import MixtureConfig, Order
from pixelrnn.sampling import draw, draw_naively
from pixelrnn.studies.causality import certify, half_known
from pixelrnn.training.run import export
from vision_rnn.errors import UserError
from vision_rnn.files import write_json
from vision_rnn.saved_model import load_model, save_model

MakeModel = Callable[..., PixelModel]
WEIGHTS = (0.5, 0.3, 0.2)
# Of several architectures and sizes.
MEMBERS: list[dict[str, Any]] = [
    {"architecture": "row_lstm", "dilations": (2, 1), "extra_column": True, "skip": True},
    {"architecture": "diagonal_bilstm", "hidden_channels": 4, "num_layers": 1},
    {"architecture": "pixel_cnn", "output_channels": 5},
]


def mixture_of(members: list[PixelModel], weights: tuple[float, ...] = WEIGHTS) -> Mixture:
    """Return a mixture with the weights of the members, whose parameters differ from each other."""
    config = MixtureConfig(members=tuple(member.config for member in members), weights=weights)
    mixture = Mixture(config, members[0].shape)
    mixture.to(next(members[0].parameters()).dtype)
    for own, member in zip(mixture.networks, members, strict=True):
        own.load_state_dict(member.state_dict())
    return mixture.eval()


def images_of(model: PixelModel, number: int = 3) -> torch.Tensor:
    shape, generator = model.shape, torch.Generator().manual_seed(1)
    size = (number, shape.channels, shape.height, shape.width)
    return torch.randint(shape.levels, size, generator=generator, dtype=torch.uint8)


def noise_of(pixels: torch.Tensor) -> torch.Tensor:
    return torch.rand(pixels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (3, 5)])
def test_it_is_the_normalised_product_of_the_experts(
    make_model: MakeModel, order: Order, channels: int, levels: int
) -> None:
    members = [make_model(3, 4, channels, levels, order=order, **each) for each in MEMBERS]
    mixture, pixels = mixture_of(members), images_of(members[0])
    of_levels = []
    for level in range(levels):
        # A probability of a channel does not depend on its own level or on later ones, only on which is asked for.
        experts = [
            member.distribution.log_probabilities(member(pixels).transpose(1, 2))[:, level].exp() for member in members
        ]
        of_levels.append(torch.stack([each**weight for each, weight in zip(experts, WEIGHTS, strict=True)]).prod(0))
    expected = torch.stack(of_levels) / torch.stack(of_levels).sum(0)
    found = mixture.log_likelihood(pixels).exp()
    torch.testing.assert_close(found, expected.gather(0, pixels.long()[None])[0], rtol=1e-10, atol=1e-12)


def test_probabilities_of_all_images_sum_to_one(make_model: MakeModel, order: Order) -> None:
    mixture = mixture_of([make_model(2, 4, order=order, **each) for each in MEMBERS])
    images = torch.tensor(list(itertools.product((0, 1), repeat=8)), dtype=torch.uint8).view(-1, 1, 2, 4)
    assert mixture.log_likelihood(images).sum((1, 2, 3)).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("channels", "levels", "dtype"), [(1, 2, torch.float32), (3, 4, torch.float64)])
def test_the_cached_sampler_draws_the_naive_samplers_images(
    make_model: MakeModel, order: Order, channels: int, levels: int, dtype: torch.dtype
) -> None:
    mixture = mixture_of([make_model(4, 5, channels, levels, order=order, dtype=dtype, **each) for each in MEMBERS])
    pixels = images_of(mixture)
    row, column = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
    for mask in (row >= 0, (row + column) % 2 == 0):
        drawn = draw(mixture, pixels, mask, noise_of(pixels))
        assert torch.equal(drawn, draw_naively(mixture, pixels, mask, noise_of(pixels)))
        assert not torch.equal(drawn, draw(mixture.networks[0], pixels, mask, noise_of(pixels)))


def test_given_a_class_and_a_context(make_model: MakeModel) -> None:
    members = [make_model(4, 5, num_classes=3, context_layers=layers, num_layers=layers) for layers in (1, 2)]
    mixture, pixels, mask = mixture_of(members, (0.4, 0.6)), images_of(members[0]), half_known(4, 5)
    labels = torch.tensor([2, 0, 1])
    drawn = draw(mixture, pixels, mask, noise_of(pixels), labels)
    assert torch.equal(drawn, draw_naively(mixture, pixels, mask, noise_of(pixels), labels))
    assert mixture.config.context_layers == 3


def test_it_is_certified(make_model: MakeModel) -> None:
    """It sees what one of its members sees, and leaks if one leaks."""
    members = [make_model(4, 5, **each) for each in MEMBERS]
    certificate, of_members = certify(mixture_of(members)), [certify(member) for member in members]
    assert certificate.num_leaks == 0
    assert torch.equal(certificate.sees, torch.stack([each.sees for each in of_members]).any(0))
    leaking = mixture_of(members)
    leaking.networks[2].first.mask.fill_(1)
    assert certify(leaking).num_leaks > 0
    context = mixture_of([make_model(3, 4, context_layers=1, num_layers=layers) for layers in (1, 2)], (0.4, 0.6))
    certificate = certify(context, mask=half_known(3, 4))
    assert certificate.num_leaks == 0
    assert certificate.seen_later_known_pairs > 0


def test_images_are_coded_and_decoded(make_model: MakeModel) -> None:
    mixture = mixture_of([make_model(4, 5, dtype=torch.float32, **each) for each in MEMBERS])
    pixels = images_of(mixture)
    assert torch.equal(decompress(mixture, compress(mixture, pixels, ["a", "b", "c"])), pixels)
    other = mixture_of(list(mixture.networks), (0.2, 0.3, 0.5))
    assert model_hash(mixture) != model_hash(other)


def test_a_folder_comes_back(make_model: MakeModel, tmp_path: Path) -> None:
    mixture = mixture_of([make_model(3, 4, dtype=torch.float32, **each).half().float() for each in MEMBERS])
    save_model(mixture, tmp_path / "mixture", "# A card\n")
    loaded = load_model(PixelModel, tmp_path / "mixture")
    assert json.loads((tmp_path / "mixture" / "config.json").read_text())["config"]["architecture"] == "mixture"
    assert (loaded.config, loaded.shape) == (mixture.config, mixture.shape)
    assert torch.equal(loaded(images_of(mixture)), mixture(images_of(mixture)))


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.5, 0.6, 0.2], [1.0, 0.5, -0.5]])
def test_weights_that_are_none_are_refused(make_model: MakeModel, weights: list[float], tmp_path: Path) -> None:
    mixture = mixture_of([make_model(3, 4, dtype=torch.float32, **each) for each in MEMBERS])
    description = mixture.describe()
    description["config"]["weights"] = weights
    with pytest.raises(ValueError, match="weights"):
        PixelModel.from_description(description)


# The choice of the weights


@pytest.fixture(scope="module")
def drawn(make_data: Callable[..., PreparedPixels], make_model: MakeModel) -> tuple[list[PixelModel], PreparedPixels]:
    """Three models, the last of which is of no use, and images drawn from a mixture of the first two."""
    members = [make_model(3, 4, dtype=torch.float32, **each) for each in MEMBERS[:2]]
    members.append(make_model(3, 4, dtype=torch.float32, **MEMBERS[2]))
    for parameter in members[2].parameters():
        parameter.data.mul_(2)
    mixture = mixture_of(members[:2], (0.7, 0.3))
    blank, everywhere = torch.zeros(2000, 1, 3, 4, dtype=torch.uint8), torch.ones(3, 4, dtype=torch.bool)
    images = draw(mixture, blank, everywhere, noise_of(blank))[:, 0].numpy()
    return members, make_data(train=images[:10], valid=images[10:], test=images[:10])


def nats(members: list[PixelModel], weights: np.ndarray, pixels: torch.Tensor) -> float:
    """Mean of -ln p by the definition, in NumPy."""
    logits = np.stack([member(pixels).detach().double().numpy()[:, :, 0] for member in members])
    of_one = 1 / (1 + np.exp(-np.tensordot(weights, logits, 1)))
    return float(-np.log(np.where(pixels.numpy() == 1, of_one, 1 - of_one)).sum((1, 2, 3)).mean())


def test_no_other_weights_are_better(drawn: tuple[list[PixelModel], PreparedPixels]) -> None:
    members, data = drawn
    mixture = mix(dict(zip("abc", members, strict=True)), data, "validation")
    pixels = torch.tensor(data.split("validation").pixels).permute(0, 3, 1, 2)
    (record,) = mixture.history
    assert [each["name"] for each in record["members"]] == ["a", "b"]
    assert sum(mixture.config.weights) == 1
    for place, each in enumerate(record["members"]):
        assert each["nats"] == pytest.approx(nats(members, np.eye(3)[place], pixels), rel=1e-5)
    chosen = np.array([*mixture.config.weights, 0])
    best = nats(members, chosen, pixels)
    assert record["nats"] == pytest.approx(best, rel=1e-5)
    grid = [np.array([a, b, 20 - a - b]) / 20 for a in range(21) for b in range(21 - a)]
    assert min(nats(members, weights, pixels) for weights in grid) >= best - 1e-6
    # Close by too, in every direction.
    for corner in np.eye(3):
        assert nats(members, chosen + 0.01 * (corner - chosen), pixels) > best
    # Drawn with the weights .7 and .3.
    assert chosen[0] == pytest.approx(0.7, abs=0.15)
    measured = -mixture.log_likelihood(pixels).sum((1, 2, 3)).mean().item()
    assert record["nats"] == pytest.approx(measured, rel=1e-5)


def test_a_model_of_no_use_is_named(
    drawn: tuple[list[PixelModel], PreparedPixels], capsys: pytest.CaptureFixture[str]
) -> None:
    members, data = drawn
    mix(dict(zip("abc", members, strict=True)), data, "validation")
    assert "weight 0, which are left out: c\n" in capsys.readouterr().err
    with pytest.raises(UserError, match="no mixture of these models is better than a alone"):
        mix({"a": members[0], "c": members[2]}, data, "validation")


def test_images_that_memory_does_not_hold_are_counted(
    drawn: tuple[list[PixelModel], PreparedPixels], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members, data = drawn
    monkeypatch.setattr("pixelrnn.mixing._VALUES", 2 * 12 * 500)
    record = mix({"a": members[0], "b": members[1]}, data, "validation").history[0]
    assert record["images"] == 500
    assert "first 500 of 1990 images" in capsys.readouterr().err


def test_models_that_cannot_be_mixed(make_model: MakeModel, drawn: tuple[list[PixelModel], PreparedPixels]) -> None:
    first, data = drawn[0][0], drawn[1]
    others = {
        "is for grey images of 4x4 pixels and 2 levels, but first for grey images of 3x4": make_model(4, 4),
        "has the output logistic_mixture; only": make_model(3, 4, 1, 256, output="logistic_mixture"),
        "predicts in rotated order, but first in raster order": make_model(3, 4, order="rotated"),
        "other: has a context, but first has none": make_model(3, 4, context_layers=1),
        "other: a mixture already": mixture_of([make_model(3, 4), make_model(3, 4)], (0.5, 0.5)),
    }
    for message, other in others.items():
        with pytest.raises(UserError, match=message):
            mix({"first": first, "other": other}, data, "validation")
    with pytest.raises(UserError, match="first: one model alone"):
        mix({"first": first}, data, "validation")


def test_short_names() -> None:
    assert short_names(["runs/wide/model", "bundled:row-lstm", "exported/deep"]) == ["wide", "bundled:row-lstm", "deep"]
    assert short_names(["a/one/model", "b/one", "two/"]) == ["a/one/model", "b/one", "two"]


def test_the_model_card_names_members_and_weights(drawn: tuple[list[PixelModel], PreparedPixels]) -> None:
    members, data = drawn
    for member in members:
        member.history.append({"data": data.manifest, "training": {"epochs": 7}})
    mixture = mix({"wide": members[0], "deep": members[1]}, data, "validation")
    card = model_card(mixture)
    first, second = mixture.history[0]["members"]
    assert f"| wide | Row LSTM | 2 | 7 | {first['weight']:.4f} | {first['nats']:.3f} |" in card
    assert f"| deep | Diagonal BiLSTM | 1 | 4 | {second['weight']:.4f} | {second['nats']:.3f} |" in card
    assert f"| the mixture |  |  |  |  | {mixture.history[0]['nats']:.3f} |" in card
    assert "1990 images of the split validation" in card
    assert card.index("## wide") < card.index("## deep") < card.index("## Results")


def test_a_mixture_is_written_again_with_its_evaluation(
    drawn: tuple[list[PixelModel], PreparedPixels], tmp_path: Path
) -> None:
    models, data = drawn
    mixture = mix({"one": models[0], "other": models[1]}, data, "validation")
    save_model(mixture, tmp_path / "mixture", model_card(mixture))
    document = evaluate(mixture, data, "validation")
    write_json(tmp_path / "scores.json", document)
    export(tmp_path / "mixture", output=tmp_path / "plain")
    export(tmp_path / "mixture", output=tmp_path / "measured", evaluation=tmp_path / "scores.json")
    for name, told in (("plain", "Not yet measured"), ("measured", f"{document['nats_per_image']:.2f} ±")):
        written = load_pixel_model(tmp_path / name)
        assert told in written.card
        assert written.describe() == mixture.describe()
        for key, tensor in load_pixel_model(tmp_path / "mixture").state_dict().items():
            torch.testing.assert_close(written.state_dict()[key], tensor, rtol=0, atol=0)
