"""What agents say of each other is read from their logs in the very words that gossip uses."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossip.chronicle import Chronicle
from gossip.member import MemberRecord
from gossip.roster import Member
from gossip.view import Status
from meshd.local_mesh import read_changes
from meshd.logs import configure
from transport.identity import short
from transport.interface import NodeId, Role


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_every_change_that_gossip_tells_is_read(tmp_path: Path) -> None:
    log = tmp_path / "n1.log"
    subject, accuser = NodeId(b"s" * 32), NodeId(b"a" * 32)
    record = MemberRecord(subject, b"", Role.MEMBER, b"", 1, 0, False, "n2", (), 1, b"")
    member = Member(record, Status.ALIVE, 0.0, 0.0, accuser)
    before = time.time()
    with log.open("w") as stream:
        configure("json", "INFO", stream)
        chronicle = Chronicle()
        alive, suspect, dead, left = Status
        for status in (alive, suspect, alive, suspect, dead, alive, left):
            member.status = status
            chronicle.note(member)
        logging.getLogger("meshd.transport").info("n2 (abc) has left")

    changes = read_changes("n1", log)

    said = short(accuser)
    assert [(change.state, change.accuser) for change in changes] == [
        ("alive", ""),
        ("suspect", said),
        ("alive", ""),
        ("suspect", said),
        ("dead", said),
        ("alive", ""),
        ("left", ""),
    ]
    assert {(change.observer, change.subject) for change in changes} == {("n1", "n2")}
    assert all(before - 0.001 <= change.at <= time.time() for change in changes)


def test_an_agent_without_a_log_has_said_nothing(tmp_path: Path) -> None:
    assert read_changes("n1", tmp_path / "none.log") == []
