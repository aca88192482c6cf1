"""A child's log is quoted in short and kept from growing."""

from __future__ import annotations

from pathlib import Path

from llm.engines.child_log import MAX_LINE, last_lines, read_from, size_bytes, trim


def test_last_lines_of_this_life_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old life\n")
    start = size_bytes(log)
    with log.open("a") as file:
        file.write("one\n\ntwo\n" + "x" * 999)
    assert last_lines(log, 3, start) == ["one", "two", "x" * MAX_LINE]
    assert last_lines(log, 1, start) == ["x" * MAX_LINE]


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    assert size_bytes(tmp_path / "none") == 0
    assert read_from(tmp_path / "none", 0) == ""
    assert last_lines(tmp_path / "none", 3) == []


def test_long_log_is_moved_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"first\n" * 100)
        assert not trim(log, 600)
        writer.write(b"more\n")
        assert trim(log, 600)
        writer.write(b"afterwards\n")
    assert log.read_bytes() == b"afterwards\n"
    assert (tmp_path / "log.1").read_bytes().endswith(b"first\nmore\n")


def test_log_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("long ago\n" * 100)
    start = size_bytes(log)
    assert last_lines(log, 1, start) == []
    log.write_text("listening\n")
    assert read_from(log, start) == "listening\n"
    assert last_lines(log, 1, start) == ["listening"]
