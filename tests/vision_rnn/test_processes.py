"""Batches divided among processes: who gets which image, and what is refused."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

from vision_rnn.errors import UserError
from vision_rnn.processes import Batches, gathered, in_order, summed, weight_of


def batches_of(processes: int, rank: int, size: int = 4, images: int = 10, seed: int = 0) -> Batches:
    training, validation = TensorDataset(torch.arange(images)), TensorDataset(torch.arange(images - 3))
    batches = Batches(training, validation, size, seed=seed)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    batches.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=processes, global_rank=rank, strategy=strategy
    )
    return batches


def epoch_of(batches: Batches, epoch: int = 0) -> list[list[int]]:
    loader = batches.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [images.tolist() for (images,) in loader]


def test_every_image_comes_once_an_epoch_in_an_order_that_seed_and_epoch_decide() -> None:
    orders = {(seed, epoch): epoch_of(batches_of(1, 0, seed=seed), epoch) for seed, epoch in ((0, 0), (0, 1), (7, 0))}
    for order in orders.values():
        assert list(map(len, order)) == [4, 4, 2]
        assert sorted(itertools.chain(*order)) == list(range(10))
    assert len({str(order) for order in orders.values()}) == 3
    assert epoch_of(batches_of(1, 0), 1) == orders[0, 1]


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_read_together_the_batches_of_one(processes: int) -> None:
    one = epoch_of(batches_of(1, 0, images=8))
    shares = [epoch_of(batches_of(processes, rank, images=8)) for rank in range(processes)]
    for number, batch in enumerate(one):
        assert sorted(batch) == sorted(itertools.chain(*(share[number] for share in shares)))


def test_processes_have_equally_many_batches_though_images_cannot_be_divided() -> None:
    shares = [epoch_of(batches_of(4, rank)) for rank in range(4)]
    assert len({len(share) for share in shares}) == 1
    seen = [image for share in shares for batch in share for image in batch]
    assert set(seen) == set(range(10))
    assert len(seen) == 12


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_validation_images_come_once_and_their_order_is_restored(processes: int) -> None:
    shares = []
    for rank in range(processes):
        loader = batches_of(processes, rank, size=6).val_dataloader()
        shares.append([image for (images,) in loader for image in images.tolist()])
    assert in_order(shares) == list(range(7))


def test_repeated_training_images_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    batches_of(1, 0).setup("fit")
    batches_of(2, 0).setup("fit")
    assert not capsys.readouterr().err
    batches_of(4, 0).setup("fit")
    assert "so that 4 processes have as many: 2\n" in capsys.readouterr().err


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UserError, match="4 images cannot be divided among 3 processes; give a mul"):
        batches_of(3, 0).setup("fit")
    with pytest.raises(UserError, match="a split has 7 images for 8 processes; use fewer"):
        batches_of(8, 0, size=8).setup("fit")


def test_one_process_has_all() -> None:
    assert gathered("a") == ["a"]
    assert summed(torch.tensor(3)) == 3
    assert weight_of(torch.tensor(3)) == 1
