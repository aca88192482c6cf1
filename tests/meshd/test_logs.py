from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from meshd.logs import LogFormat, configure, during_request

logger = logging.getLogger("meshd.gossip")


def log_to(format: LogFormat, level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    configure(format, level, stream)
    return stream


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_for_people() -> None:
    stream = log_to("text")
    logger.info("%s joined", "node-7", extra={"rtt_ms": 1.5, "name_given": "two words"})
    pattern = (
        r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO    gossip     node-7 joined rtt_ms=1.5 name_given="two words"\n'
    )
    assert re.fullmatch(pattern, stream.getvalue())


def test_a_line_for_machines() -> None:
    stream = log_to("json")
    before = datetime.now(UTC)
    logger.warning("%s suspected", "node-7", extra={"incarnation": 3, "peer": b"\x01"})
    (line,) = objects(stream)
    assert before <= datetime.fromisoformat(line.pop("time")) <= datetime.now(UTC)
    assert line == {
        "level": "warning",
        "logger": "meshd.gossip",
        "message": "node-7 suspected",
        "incarnation": 3,
        "peer": "b'\\x01'",
    }


def test_pairs_cannot_pass_for_the_lines_own() -> None:
    stream = log_to("json")
    logger.info("true", extra={"level": "forged", "logger": "forged", "time": "forged", "event": "forged"})
    (line,) = objects(stream)
    assert "forged" not in line.values()


def test_an_exception_stays_inside_its_object() -> None:
    stream = log_to("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    (line,) = objects(stream)
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: two\nlines")


def test_an_exception_follows_its_line_for_people() -> None:
    stream = log_to("text")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("failed") and rest[0].startswith("Traceback") and rest[-1] == "ValueError: why"


def test_what_a_peer_sent_cannot_forge_a_line_or_steer_the_terminal() -> None:
    stream = log_to("text")
    logger.info("peer %s left", "x\n2026-01-01 ERROR \x1b[2J", extra={"peer_name": "a\r\x9bb"})
    assert stream.getvalue().count("\n") == 1
    assert r"x\n2026-01-01 ERROR \x1b[2J left peer_name=a\r\x9bb" in stream.getvalue()


async def test_the_request_id_follows_its_request_and_no_other() -> None:
    stream = log_to("json")

    async def serve(request_id: str) -> None:
        with during_request(request_id):
            async with asyncio.TaskGroup() as group:
                group.create_task(answer())

    async def answer() -> None:
        await asyncio.sleep(0)
        logger.info("answered")

    async with asyncio.TaskGroup() as group:
        for request_id in ("one", "two"):
            group.create_task(serve(request_id))
    logger.info("outside")
    assert [line.get("request_id") for line in objects(stream)] == ["one", "two", None]


SECRETS = ("meshd1:AbC_d-9xyz0123456789", "sk-proj-AbCdEf0123456789", "Bearer AbCdEf0123456789", "--api-key s3cr3tk3y")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("format", ["text", "json"])
def test_secrets_are_blanked_wherever_they_stand(format: LogFormat, secret: str) -> None:
    stream = log_to(format)
    logger.info("given %s.", secret, extra={"pair": secret, "deep": {"list": [secret]}})
    with during_request(secret):
        try:
            raise ValueError(f"bad {secret}")
        except ValueError:
            logger.exception("failed")
    written = stream.getvalue()
    hidden = re.split(r"[:\s]|sk-", secret)[-1]
    assert hidden not in written
    assert written.count("…") >= 5
    assert format == "text" or len(objects(stream)) == 2


def test_an_argument_list_with_a_key_is_blanked() -> None:
    stream = log_to("json")
    logger.info("started %s", ["llama-server", "--api-key", "0123456789abcdef", "--port", "1"])
    assert "--api-key', '…', '--port'" in objects(stream)[0]["message"]


@pytest.mark.parametrize("harmless", ["task-scheduler", "disk-space-low", "meshd1: no such version", "risk-averse"])
def test_words_that_only_look_like_secrets_stay(harmless: str) -> None:
    stream = log_to("text")
    logger.info(harmless)
    assert harmless in stream.getvalue()


def test_configuring_again_replaces() -> None:
    first, second = log_to("text"), log_to("json")
    logger.info("once")
    assert (first.getvalue(), len(objects(second))) == ("", 1)


def test_libraries_are_quiet_unless_we_debug() -> None:
    stream = log_to("text")
    logging.getLogger("urllib3").info("packet")
    logging.getLogger("urllib3").warning("trouble")
    logging.getLogger("quic").warning("a stranger's packet")
    logging.getLogger("zeroconf").warning("no multicast on ::1")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["trouble"]
    stream = log_to("text", "DEBUG")
    logging.getLogger("quic").debug("packet")
    assert "packet" in stream.getvalue()
