"""Moments at which a run of several steps is killed: the calls of chosen functions."""

import pkgutil
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest


class Killed(BaseException):
    """Not an exception that anything handles."""


def count_calls(functions: Sequence[str], patch: pytest.MonkeyPatch, kill_at: int = -1) -> SimpleNamespace:
    """Count the calls of functions, given by their places, and raise Killed instead of one of them."""
    counter = SimpleNamespace(calls=0, names=[])

    def watch(name: str) -> None:
        original = pkgutil.resolve_name(name)

        def called(*arguments: Any, **options: Any) -> Any:
            counter.calls += 1
            counter.names.append(name)
            if counter.calls == kill_at + 1:
                raise Killed
            return original(*arguments, **options)

        patch.setattr(name, called)

    for name in functions:
        watch(name)
    return counter


def calls_of(functions: Sequence[str], run: Callable[[], object]) -> list[str]:
    """Return which of the functions an uninterrupted run calls, in order; it calls all."""
    with pytest.MonkeyPatch.context() as patch:
        counter = count_calls(functions, patch)
        run()
    assert set(counter.names) == set(functions)
    return counter.names


def kill_at(moment: int, functions: Sequence[str], run: Callable[[], object]) -> None:
    """Start a run, and kill it at a call of the functions, counted from 0."""
    with pytest.MonkeyPatch.context() as patch:
        count_calls(functions, patch, moment)
        with pytest.raises(Killed):
            run()


def kill_in(function: str, run: Callable[[], object]) -> None:
    """Start a run, and kill it when it calls a function."""
    kill_at(0, [function], run)
