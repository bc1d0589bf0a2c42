"""How commands end; what happens to a closed pipe is tested with the commands themselves."""

import pytest
from jsonargparse import ArgumentError

from vision_rnn.cli import exit_status
from vision_rnn.errors import UserError


def ending(error: BaseException):
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize("status", [0, 1])
def test_the_status_of_the_action_is_that_of_the_command(status, capsys):
    assert exit_status("tool", lambda: status) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("a.txt: bad;\n  mend it"), 2, "tool: error: a.txt: bad; mend it\n"),
        (ArgumentError(None, "no --size"), 2, "tool: error: no --size\n"),
        (KeyboardInterrupt(), 130, "tool: interrupted\n"),
        (KeyboardInterrupt("add --more", "to continue"), 130, "tool: interrupted; add --more; to continue\n"),
    ],
)
def test_a_mistake_is_one_line(error, status, message, capsys):
    assert exit_status("tool", ending(error)) == status
    assert capsys.readouterr() == ("", message)


def test_other_exceptions_are_ours_to_mend_and_pass():
    with pytest.raises(KeyError):
        exit_status("tool", ending(KeyError("size")))
