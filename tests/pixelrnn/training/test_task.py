"""Training: the loss, the learning rates, the batches, and a tiny overfit of every kind of model."""

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.prepared_pixels import PreparedPixels
from pixelrnn.completion import masked_nats
from pixelrnn.mask import NAMES, read_mask
from pixelrnn.model import PixelModel, PixelNetwork
from pixelrnn.pixel_config import ImageShape, ModelConfig, TrainingConfig
from pixelrnn.training.batches import batches
from pixelrnn.training.task import PixelTask
from vision_rnn.errors import UserError

MakeModel = Callable[..., PixelModel]
MakeData = Callable[..., PreparedPixels]


def task_of(model: PixelModel, steps: int, **settings: Any) -> PixelTask:
    """Task that logs nothing, for a training of this many steps."""
    task = PixelTask(model, TrainingConfig(**settings))
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.trainer = SimpleNamespace(  # type: ignore[assignment]
        estimated_stepping_batches=steps, current_epoch=2, global_step=7
    )
    return task


def rates(task: PixelTask, steps: int) -> list[tuple[float, ...]]:
    """Learning rates of both optimisers at every step."""
    configured = task.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append(tuple(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        scheduler.step()
    return found


def test_rates_rise_stay_and_fall(make_model: MakeModel):
    task = task_of(make_model(3, 3), 100, warmup_steps=4, decay=0.5, learning_rate=0.01, matrix_learning_rate=0.1)
    adam, muon = zip(*rates(task, 100), strict=True)
    assert muon == pytest.approx([10 * rate for rate in adam])
    assert adam[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert set(adam[5:50]) == {0.01}
    assert adam[50:] == pytest.approx([0.01 * left / 50 for left in range(50, 0, -1)])


def test_a_short_training_warms_up_for_a_tenth_of_it_and_a_decay_of_zero_keeps_the_rate(make_model: MakeModel):
    task = task_of(make_model(3, 3), 20, warmup_steps=100, decay=0.0, learning_rate=0.03)
    assert [adam for adam, _ in rates(task, 20)] == pytest.approx([0.01, 0.02] + [0.03] * 18)


def test_the_loss_is_the_mean_over_images_of_their_negative_log_likelihood(make_model: MakeModel):
    """Expected value: binary cross-entropy from the logits, summed over the pixels of an image."""
    model = make_model(3, 4)
    pixels = torch.randint(2, (5, 1, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    probabilities = model(pixels).squeeze(2).sigmoid()
    right = torch.where(pixels == 1, probabilities, 1 - probabilities)
    expected = -right.log().sum() / 5
    loss = task_of(model, 1).training_step([pixels, torch.zeros(5, dtype=torch.long)], 0)
    torch.testing.assert_close(loss, expected)


def test_mirrored_images_are_half_of_them_and_the_same_after_resuming(make_model: MakeModel):
    """The images seen are the given ones or their mirror images, drawn again at every step."""
    model = make_model(3, 4, 3, 256, output="logistic_mixture", components=2)
    pixels = torch.randint(256, (64, 3, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    real = model.log_likelihood
    model.log_likelihood = lambda pixels, *rest: (seen.append(pixels), real(pixels, *rest))[1]  # type: ignore[method-assign]
    task = task_of(model, 1, mirror=True)
    batch = [pixels, torch.zeros(64, dtype=torch.long)]
    for step in (7, 7, 8):
        task.trainer.global_step = step  # type: ignore[misc]
        task.training_step(batch, 0)
    task.validation_step(batch, 0)
    first, again, other, validated = seen
    kept, mirrored = ((first == each).flatten(1).all(1) for each in (pixels, pixels.flip(3)))
    assert torch.equal(kept, ~mirrored)
    assert 16 < kept.sum() < 48
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(validated, pixels)


def test_the_loss_of_a_context_is_that_of_a_random_region_and_the_same_after_resuming(make_model: MakeModel):
    """Expected value: the mean over images of the sum over their regions' pixels."""
    model = make_model(3, 4, context_layers=1)
    pixels = torch.randint(2, (16, 1, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    used: list[torch.Tensor] = []
    real = model.log_likelihood
    model.log_likelihood = lambda pixels, labels, mask: (used.append(mask), real(pixels, labels, mask))[1]  # type: ignore[method-assign]
    task = task_of(model, 1)
    losses = []
    for step in (7, 7, 8):
        task.trainer.global_step = step  # type: ignore[misc]
        losses.append(task.training_step([pixels, torch.zeros(16, dtype=torch.long)], 0))
    masks, again, other = used
    assert torch.equal(masks, again)
    assert losses[0] == losses[1]
    assert not torch.equal(masks, other)
    right = torch.where(pixels == 1, model(pixels, None, masks).squeeze(2), -model(pixels, None, masks).squeeze(2))
    torch.testing.assert_close(losses[0], -right.sigmoid().log()[masks].sum() / 16)


def test_validation_of_a_context_is_of_whole_images_and_of_each_named_region(make_model: MakeModel):
    """Images have the regions in turn: of 12 images, the first region is that of the images 0, 5 and 10."""
    model = make_model(4, 5, context_layers=1)
    pixels = torch.randint(2, (12, 1, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    logged: dict[str, float] = {}
    task = task_of(model, 1)
    task.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    for part in pixels.split(7):
        task.validation_step([part, torch.zeros(len(part), dtype=torch.long)], 0)
    task.on_validation_epoch_end()
    whole = -model.log_likelihood(pixels).sum().item() / 12
    expected = {"validation": whole}
    for index, name in enumerate(NAMES):
        nats = masked_nats(model, pixels[index::5], read_mask(name, 4, 5))
        expected[f"validation_{name}"] = nats.mean().item()
    expected["validation_regions"] = sum(expected[f"validation_{name}"] for name in NAMES) / 5
    assert logged == pytest.approx(expected)
    # Of three images there are three regions.
    logged.clear()
    task.validation_step([pixels[:3], torch.zeros(3, dtype=torch.long)], 0)
    task.on_validation_epoch_end()
    assert list(logged) == ["validation", *(f"validation_{name}" for name in NAMES[:3]), "validation_regions"]
    assert all(map(math.isfinite, logged.values()))
    assert task.monitor == "validation_regions"
    assert task_of(make_model(4, 5), 1).monitor == "validation"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training(make_model: MakeModel, value: float):
    model = make_model(3, 4)
    task = task_of(model, 1)
    batch = [torch.zeros(2, 1, 3, 4), torch.zeros(2, dtype=torch.long)]
    model.output[-1].bias.data.fill_(value)
    with pytest.raises(UserError, match=r"not a finite number in epoch 2, step 7; start again with a lower"):
        task.training_step(batch, 0)
    task.validation_step(batch, 0)
    with pytest.raises(UserError, match="not a finite number"):
        task.on_validation_epoch_end()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("seed", -1),
        ("learning_rate", -1.0),
        ("matrix_learning_rate", -1.0),
        ("gradient_clip", -1.0),
        ("decay", 1.1),
        ("average_decay", 1.0),
    ],
)
def test_numbers_that_no_training_can_use_are_named(option: str, value: float):
    with pytest.raises(UserError, match=rf"training\.{option}: {value} is (too|out of range)"):
        TrainingConfig(**{option: value})


def test_an_image_comes_with_its_label(make_data: MakeData):
    """Ten images whose pixels are the bits of their number, and whose label is that number."""
    bits = np.array([[number >> bit & 1 for bit in range(6)] for number in range(10)], np.uint8)
    images = bits.reshape(10, 2, 3)
    data = make_data(x_train=images, y_train=np.arange(10), x_valid=images[:3], y_valid=np.arange(3))
    seen = list(batches(data, "train", ImageShape(height=2, width=3, num_classes=10), 4))
    assert [labels.tolist() for _, labels in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for pixels, labels in seen:
        assert pixels.dtype == torch.uint8
        assert torch.equal((pixels.flatten(1).long() << torch.arange(6)).sum(1), labels)


FOUR = torch.tensor(
    [
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]],
        [[0, 0, 1], [0, 0, 1], [1, 1, 1]],
        [[0, 1, 1], [0, 0, 0], [1, 1, 0]],
    ],
    dtype=torch.uint8,
)[:, None]


def learn(batch: list[torch.Tensor], task: PixelTask, steps: int, gradient_clip: float = math.inf) -> float:
    """Train on one batch, and return its loss."""
    configured = task.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for _ in range(steps):
        optimizer.zero_grad()
        task.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), gradient_clip)
        optimizer.step()
        scheduler.step()
    return task.training_step(batch, 0).item()


@pytest.mark.parametrize(("conditional", "entropy"), [(False, math.log(4)), (True, 0.0)])
def test_four_images_are_learnt_by_heart(variant: dict[str, Any], conditional: bool, entropy: float):
    """An unconditional model cannot do better than ln 4 nats; one that is conditioned on the image can reach 0."""
    torch.manual_seed(0)
    shape = ImageShape(height=3, width=3, num_classes=4 * conditional)
    config = ModelConfig(**{"num_layers": 2, "hidden_channels": 8, "conditional": conditional} | variant)
    steps, labels = 300, torch.arange(4)
    # With a shorter warm-up the loss rises to 5 nats on the way, and rounding errors decide when it has fallen again.
    task = task_of(PixelNetwork(config, shape), steps, warmup_steps=30, learning_rate=0.01)
    loss = learn([FOUR, labels], task, steps)
    # That of regions is lower, since other pixels are known.
    assert loss < entropy + 0.03 if config.context_layers else loss == pytest.approx(entropy, abs=0.03)


def test_an_upper_half_is_learnt_from_the_lower_half_by_a_context_alone():
    """The halves are equal. Without seeing the lower one, the mean over all 64 upper halves is ln 64 nats at best."""
    halves = torch.tensor(list(itertools.product((0, 1), repeat=6)), dtype=torch.uint8).view(64, 1, 2, 3)
    images, upper = torch.cat([halves, halves], dim=2), read_mask("upper-half", 4, 3)
    nats = {}
    for context_layers in (0, 2):
        torch.manual_seed(0)
        config = ModelConfig(num_layers=2, hidden_channels=8, context_layers=context_layers)
        model = PixelNetwork(config, ImageShape(height=4, width=3))
        task = task_of(model, 300, warmup_steps=20, learning_rate=0.01)
        configured = task.configure_optimizers()
        optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        for step in range(300):
            task.trainer.global_step = step  # type: ignore[misc]
            optimizer.zero_grad()
            task.training_step([images, torch.zeros(64, dtype=torch.long)], 0).backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 100.0)
            optimizer.step()
            scheduler.step()
        nats[context_layers] = masked_nats(model, images, upper).mean().item()
    assert nats[0] > math.log(64) - 1e-3
    assert nats[2] < 0.5


def test_four_colour_images_are_learnt_by_heart():
    """Four images of 256 levels with a class each: a mixture concentrates on one level per channel."""
    torch.manual_seed(0)
    images = torch.randint(256, (4, 3, 3, 3), dtype=torch.uint8)
    shape = ImageShape(height=3, width=3, channels=3, levels=256, num_classes=4)
    config = ModelConfig(num_layers=2, hidden_channels=16, output="logistic_mixture", components=4, conditional=True)
    steps, labels = 300, torch.arange(4)
    task = task_of(PixelNetwork(config, shape), steps, warmup_steps=20, learning_rate=0.01)
    bits = learn([images, labels], task, steps, gradient_clip=100.0) / (27 * math.log(2))
    assert bits < 1  # Of 8.


@pytest.mark.parametrize(("precision", "used"), [("bf16", "medium"), ("32", "highest")])
def test_products_of_a_training_step_alone_have_the_precision(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, precision: str, used: str
):
    """Validation, and whatever else follows, computes in 32 bits."""
    seen, model = [], make_model(3, 3)
    forward = PixelNetwork.outputs

    def outputs(*arguments: Any) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        found = forward(*arguments)
        if found.requires_grad:
            found.register_hook(lambda grad: seen.append(torch.get_float32_matmul_precision()))
        return found

    monkeypatch.setattr(PixelNetwork, "outputs", outputs)
    task = task_of(model, 20, precision=precision)
    batch = [torch.randint(2, (4, 1, 3, 3)), torch.zeros(4, dtype=torch.long)]
    task.backward(task.training_step(batch, 0))
    task.validation_step(batch, 0)
    assert seen == [used, used, "highest"]
    assert torch.get_float32_matmul_precision() == "highest"
