"""Where log lines go and how they look: text for people, one JSON object a line for machines, both on stderr.

Packages log through `logging.getLogger("meshd.<package>")` and know nothing of this. Key-value pairs come from
`extra=`; `during_request` adds the request id to those of its block.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]
Event = Mapping[str, Any]

CHATTY_LIBRARIES = ("aioquic", "asyncio", "aiohttp.access", "uvicorn", "urllib3")
"""Loggers that tell of their own workings at INFO; heard from WARNING up, unless we log at DEBUG."""

MAX_GIVEN_ID = 64

HEAD = ("time", "level", "logger", "event", "exception")

SECRETS = re.compile(
    r"""(?P<kept> \bmeshd1:              # an invitation
                | \bsk-                  # an API key as OpenAI spells it
                | \bBearer\s+
                | --api-key["',=\s]+ )
        [\w.~+/=-]{6,}""",
    re.VERBOSE | re.IGNORECASE,
)

OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that are no pairs of `extra=`."""

_request: ContextVar[str] = ContextVar("request_id", default="")

NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(format: LogFormat, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (default: stderr) in that format, in place of what was set before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(render_json if format == "json" else render_text))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET if root.level <= logging.DEBUG else logging.WARNING)
    # aioquic warns of every packet that a stranger got wrong; who knocks how often is not this log's story.
    logging.getLogger("quic").setLevel(logging.NOTSET if root.level <= logging.DEBUG else logging.ERROR)
    # zeroconf warns, with a traceback, of interfaces without multicast, which ::1 is on most hosts.
    logging.getLogger("zeroconf").setLevel(logging.NOTSET if root.level <= logging.DEBUG else logging.ERROR)


@contextmanager
def during_request(request_id: str) -> Iterator[None]:
    """Put `request_id` on every line logged inside the block, by the tasks begun inside it too."""
    before = _request.set(request_id)
    try:
        yield
    finally:
        _request.reset(before)


def current_request() -> str:
    """The id of the request that this task works for; empty where there is none."""
    return _request.get()


def id_for(given: str) -> str:
    """The id that a caller gave, or one of ours where it gave none that can be shown."""
    is_fit = 0 < len(given) <= MAX_GIVEN_ID and given.isprintable() and given.isascii()
    return given if is_fit else f"req-{secrets.token_hex(8)}"


@contextmanager
def following(given: str) -> Iterator[str]:
    """The id of a caller's request, on every line logged inside the block. given: by the caller; may be empty."""
    request_id = id_for(given)
    with during_request(request_id):
        yield request_id


class _Formatter(logging.Formatter):
    def __init__(self, render: Callable[[Event], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        return redact(self._render(_event(record)))


def _event(record: logging.LogRecord) -> Event:
    """The record's own pairs after what every line begins with, which they cannot replace."""
    head: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    if record.exc_info:
        head["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    request = {"request_id": _request.get()} if _request.get() else {}
    extra = {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD}
    return head | {name: value for name, value in (request | extra).items() if name not in head}


def render_json(event: Event) -> str:
    """One object on one line; the time in UTC, the message as `message`, what JSON has no type for as a string."""
    renamed = {"message" if name == "event" else name: value for name, value in event.items()}
    renamed["time"] = event["time"].isoformat(timespec="microseconds").replace("+00:00", "Z")
    return json.dumps(renamed, ensure_ascii=False, default=str)


def render_text(event: Event) -> str:
    """Local time, level, short logger name, message, pairs; a traceback below.

    Messages may quote what a peer sent: characters that move the cursor or forge a line are escaped.
    """
    time = event["time"].astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    name = event["logger"].removeprefix("meshd.")
    pairs = "".join(f" {key}={_shown(value)}" for key, value in event.items() if key not in HEAD)
    line = f"{time} {event['level'].upper():<7} {name:<10} {_escaped(str(event['event']))}{pairs}"
    return f"{line}\n{event['exception']}" if "exception" in event else line


def _shown(value: object) -> str:
    text = str(value)
    return _escaped(text) if text and " " not in text else json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    return NOT_PRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def redact(line: str) -> str:
    """Blank out what looks like a secret, wherever it stands in the line.

    The last resort: whoever logs a secret has a bug.
    """
    return SECRETS.sub(r"\g<kept>…", line)
