"""The agent's settings and where each came from: flags > `MESHD_*` environment > `meshd.toml` > defaults.

Pure: the caller hands in the flags, the environment and the parsed file.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

LogFormat = Literal["text", "json"]
KvType = Literal["f16", "q8_0", "q4_0"]


class BadConfig(Exception):
    """A setting that cannot be used; the message says which, where it came from and what is allowed."""


def _setting(default: Any, help_text: str) -> Any:
    metadata = {"help": help_text}
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `meshd` may be told. Field names are the toml keys; flags spell `_` as `-`."""

    join: tuple[str, ...] = _setting((), "token of the mesh to join; may be repeated")
    model: tuple[str, ...] = _setting((), "a GGUF file to serve, or echo:NAME for the built-in fake; may be repeated")
    client: bool = _setting(False, "be a lite client: an API of its own, no engine, hosts nothing")
    name: str = _setting("", "this node's name (default: the host name)")
    mesh: str = _setting("", "name of the mesh to found (default: made from the node's name)")
    port: int = _setting(9337, "TCP port of the OpenAI API (0: any free one)")
    bind: str = _setting("[::]:7842", "UDP address of the mesh")
    listen: str = _setting("127.0.0.1", "address the API listens on; another than loopback needs --api-key-file")
    data_dir: str = _setting("", "where keys, membership and logs are kept (default: the user's data directory)")
    ctx: int = _setting(0, "context in tokens a slot (default: what the model was trained with, at most 8192)")
    parallel: int = _setting(4, "requests a model answers at once")
    kv_type: KvType = _setting("f16", "type of the KV cache")
    threads: int = _setting(0, "CPU threads of an engine (default: its own choice)")
    vram_limit: float = _setting(0.0, "GB of memory this node offers at most (default: all)")
    api_key_file: str = _setting("", "file with one API key a line; then every request needs one")
    log_format: LogFormat = _setting("text", "text for people, json for machines")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration and, for each of its fields, the source that set it."""

    config: Config
    sources: Mapping[str, str]


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str], document: Mapping[str, Any]) -> Resolved:
    """Merge the sources. Flags that are None, False or empty were not given.

    Raises BadConfig for an unknown key of the file, a value of the wrong type or out of its range.
    """
    unknown = sorted(set(document) - {entry.name for entry in fields(Config)})
    if unknown:
        raise BadConfig(f"meshd.toml: unknown setting {unknown[0]!r}; `meshd config --show` lists them all")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, kind in typing.get_type_hints(Config).items():
        sources[name], values[name] = _pick(name, kind, flags, environment, document)
    config = Config(**values)
    _check_ranges(config)
    return Resolved(config, sources)


def _pick(
    name: str, kind: Any, flags: Mapping[str, Any], environment: Mapping[str, str], document: Mapping[str, Any]
) -> tuple[str, Any]:
    flag = "--" + name.replace("_", "-")
    variable = "MESHD_" + name.upper()
    if flags.get(name) not in (None, False, (), []):
        return flag, _convert(flags[name], kind, flag)
    if environment.get(variable):
        return variable, _convert(environment[variable], kind, variable)
    if name in document:
        return "meshd.toml", _convert(document[name], kind, f"meshd.toml: {name}")
    return "default", _default(name)


def _default(name: str) -> Any:
    entry = next(entry for entry in fields(Config) if entry.name == name)
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


def _convert(value: Any, kind: Any, source: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(str(item) for item in items)
    if origin is Literal:
        return _choose(value, typing.get_args(kind), source)
    if kind is bool:
        return _truth(value, source)
    assert isinstance(kind, type) and not isinstance(kind, types.GenericAlias)
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise BadConfig(f"{source}: expected {kind.__name__}, got {value!r}") from None


def _choose(value: Any, allowed: tuple[Any, ...], source: str) -> Any:
    if value not in allowed:
        raise BadConfig(f"{source}: expected one of {', '.join(allowed)}, got {value!r}")
    return value


def _truth(value: Any, source: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if str(value).lower() not in words:
        raise BadConfig(f"{source}: expected true or false, got {value!r}")
    return words[str(value).lower()]


def _check_ranges(config: Config) -> None:
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("port", config.port, 0, 65535),
        ("ctx", config.ctx, 0, 1 << 24),
        ("parallel", config.parallel, 1, 256),
        ("threads", config.threads, 0, 1024),
        ("vram_limit", config.vram_limit, 0, 1 << 20),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise BadConfig(f"{name}: expected {low} to {high}, got {value}")
    if config.client and config.model:
        raise BadConfig("a lite client hosts nothing: leave out --client or --model")
    if not is_loopback(config.listen) and not config.api_key_file:
        raise BadConfig(f"--listen {config.listen} opens the API to the network: give --api-key-file as well")


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def default_data_dir(environment: Mapping[str, str], home: Path) -> Path:
    """`$XDG_DATA_HOME/meshd`, or `~/.local/share/meshd`."""
    base = environment.get("XDG_DATA_HOME")
    return (Path(base) if base else home / ".local" / "share") / "meshd"
