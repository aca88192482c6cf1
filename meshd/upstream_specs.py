"""Reads `--upstream SPEC`: an OpenAI-compatible server that this host runs already."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from llm.engines.upstream import DEFAULT_SLOTS, UpstreamOptions
from meshd.hardware import GIB
from meshd.model_specs import BadModelSpec

SPEC = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,32})(?P<prefix>/?)=(?P<url>https?://\S+)")
MOST_MEMORY_GB = 1 << 20
OPTIONS = ("key-file", "slots", "models", "start", "stop", "memory")
EXPECTED = "NAME=URL, then perhaps key-file=PATH slots=N models=A,B start='COMMAND' stop='COMMAND' memory=GB"


def parse_upstream(text: str) -> UpstreamOptions:
    """Read one spec and its key file; `NAME/=URL` puts NAME/ before the server's model names. Raises BadModelSpec."""
    words = _split(text)
    head = SPEC.fullmatch(words[0]) if words else None
    if head is None:
        raise BadModelSpec(f"--upstream {text!r}: expected {EXPECTED}")
    options = dict(_option(word, text) for word in words[1:])
    return UpstreamOptions(
        name=head["name"],
        base=_base(head["url"], text),
        prefix=f"{head['name']}/" if head["prefix"] else "",
        api_key=_key(options["key-file"], text) if "key-file" in options else "",
        slots=_slots(options.get("slots", str(DEFAULT_SLOTS)), text),
        models=tuple(name for name in options.get("models", "").split(",") if name),
        start=tuple(shlex.split(options.get("start", ""))),
        stop=tuple(shlex.split(options.get("stop", ""))),
        memory_bytes=_memory(options.get("memory", "0"), text),
    )


def parse_upstreams(texts: tuple[str, ...]) -> tuple[UpstreamOptions, ...]:
    """Read all specs. Raises BadModelSpec, also for two of one name."""
    found = tuple(parse_upstream(text) for text in texts)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise BadModelSpec(f"two upstreams are called {name!r}; give one of them another name")
    return found


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadModelSpec(f"--upstream {text!r}: {error}") from error


def _option(word: str, text: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (equals and name in OPTIONS):
        raise BadModelSpec(f"--upstream {text!r}: {word!r} is none of {', '.join(OPTIONS)}; expected {EXPECTED}")
    return name, value


def _base(url: str, text: str) -> str:
    """The URL without a trailing `/v1`, which every request's path brings itself."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise BadModelSpec(f"--upstream {text!r}: {error}") from error
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise BadModelSpec(
            f"--upstream {text!r}: expected a URL of a host and a path only; a key goes into key-file=PATH"
        )
    return url.rstrip("/").removesuffix("/v1")


def _key(path: str, text: str) -> str:
    try:
        return Path(path).expanduser().read_text().strip()
    except OSError as error:
        raise BadModelSpec(f"--upstream {text!r}: the key file {path!r} cannot be read: {error.strerror}") from error


def _memory(value: str, text: str) -> int:
    try:
        memory_gb = float(value)
    except ValueError:
        memory_gb = -1.0
    if not 0 <= memory_gb < MOST_MEMORY_GB:
        raise BadModelSpec(f"--upstream {text!r}: expected memory=GB, as in memory=16.8, got {value!r}")
    return int(memory_gb * GIB)


def _slots(value: str, text: str) -> int:
    if not (value.isdecimal() and 1 <= int(value) <= 4096):
        raise BadModelSpec(f"--upstream {text!r}: expected slots=1 to slots=4096, got {value!r}")
    return int(value)
