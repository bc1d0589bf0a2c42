"""Which device a name stands for."""

import pytest
import torch

from vision_rnn.devices import resolve_device
from vision_rnn.errors import UserError


def test_auto_is_a_cuda_device_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    for available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert resolve_device("auto") == torch.device("cuda" if available else "cpu")
        assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_missing_is_named_with_those_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^--device cuda: torch finds no such device .*; choose one of: auto, cpu$"):
        resolve_device("cuda")
