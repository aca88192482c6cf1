"""What is said about the documents' commands stays true: which are typed by a test, and why the others are not."""

from __future__ import annotations

import re

import pytest

from tests.docs.commands import Command, commands
from tests.docs.not_typed import NOT_TYPED


@pytest.mark.parametrize(("pattern", "reason"), NOT_TYPED)
def test_a_reason_not_to_type_a_command_is_about_one(pattern: str, reason: str) -> None:
    assert any(re.fullmatch(pattern, command.text) for command in commands()), reason


def test_most_commands_are_typed() -> None:
    typed = [command for command in commands() if command.reason_not_to is None]

    assert len(typed) > 2 / 3 * len(commands())


def test_a_command_that_runs_on_is_told_from_one_that_ends() -> None:
    starting = ("meshd", "meshd --client --join meshd1:…", "meshd --model ~/a.gguf --ctx 8")
    ending = ("meshd status", "meshd --client install-service --user", "meshd token create --role client")

    assert all(Command("", text).starts_an_agent for text in starting)
    assert not any(Command("", text).starts_an_agent for text in ending)
