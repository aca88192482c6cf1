"""The agent's settings and where each came from: flags > `MESHD_*` environment > `meshd.toml` > defaults.

Pure: the caller hands in the flags, the environment and the parsed file.
"""

from __future__ import annotations

import ipaddress
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from transport.address import parse_address

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
BulkMode = Literal["auto", "off"]
Racing = Literal["off", "join", "call"]
Preset = Literal["tiny", "small", "exact"]
Trust = Literal["members", "attested"]
KvType = Literal["f16", "q8_0", "q4_0"]


BEND_PORT = 8320  # spells BEND
CONSOLE_PORT = 3131


class BadConfig(Exception):
    """A setting that cannot be used; the message says which, where it came from and what is allowed."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `meshd` may be told, each with the help a person gets. Flags spell `_` as `-`."""

    join: Annotated[tuple[str, ...], "token of the mesh to join; may be repeated"] = ()
    model: Annotated[
        tuple[str, ...],
        "a GGUF file to serve, hf:OWNER/REPOSITORY[:QUANT], or echo:NAME for the built-in fake; may be repeated",
    ] = ()
    lazy: Annotated[
        tuple[str, ...], "a GGUF file or hf:… to load at its first request and unload when idle; may be repeated"
    ] = ()
    idle_ttl: Annotated[float, "seconds without a request after which a lazy model is unloaded; 0: never"] = 600.0
    upstream: Annotated[
        tuple[str, ...], "an OpenAI-compatible server this host runs already, NAME=URL; may be repeated"
    ] = ()
    client: Annotated[bool, "be a lite client: an API of its own, no engine, hosts nothing"] = False
    split: Annotated[bool, "share the models of this node with others, also where it could serve them alone"] = False
    draft: Annotated[
        str, "who proposes tokens to this node's models: a small GGUF file, hf:…, ngram, auto, or none"
    ] = ""
    drafter: Annotated[str, "a small GGUF file with which this node proposes tokens to models of other nodes"] = ""
    displace: Annotated[bool, "let calls of forms end lazy models that are idle, where they need the memory"] = False
    trust: Annotated[
        Trust, "place work by what members say of their speed, or only by what proofs of compute attested"
    ] = "members"
    poc: Annotated[
        Racing,
        "races of proof of compute: take part in none, in those that others call while this node is idle, or call them "
        "as well",
    ] = "join"
    poc_period: Annotated[float, "hours without a race after which --poc call calls one"] = 12.0
    poc_seconds: Annotated[float, "seconds that each node works in a race that this one calls"] = 10.0
    poc_preset: Annotated[Preset, "the network of races that this node calls: every node has to compute it"] = "tiny"
    quorum: Annotated[
        tuple[str, ...], "a model that is led only with the leave of most members, or `all`; may be repeated"
    ] = ()
    name: Annotated[str, "this node's name (default: the host name)"] = ""
    mesh: Annotated[str, "name of the mesh to ask to come into on this network, else to found"] = ""
    port: Annotated[int, "TCP port of the OpenAI API (0: any free one)"] = 9337
    bind: Annotated[
        str, "UDP address of the mesh (port 0: any free one, so after a restart its old address is dead)"
    ] = "[::]:7842"
    advertise: Annotated[tuple[str, ...], "address to tell peers in place of this host's own; may be repeated"] = ()
    bulk: Annotated[BulkMode, "large transfers over TLS and TCP (same port number as --bind), or all over QUIC"] = (
        "auto"
    )
    no_mdns: Annotated[bool, "neither look for nodes on the local network nor be found there"] = False
    listen: Annotated[str, "address the API and the console listen on; another than loopback needs a key"] = "127.0.0.1"
    bend_port: Annotated[int, "TCP port of bend (0: any free one)"] = BEND_PORT
    http_port: Annotated[int, "TCP port of bend's HTTP door (default: one above --bend-port)"] = 0
    bend_worker: Annotated[
        tuple[str, ...], "HOST:PORT of a worker outside the mesh that speaks bend's wire protocol; may be repeated"
    ] = ()
    bend_worker_key_file: Annotated[str, "file with a line HOST:PORT KEY for each --bend-worker that wants one"] = ""
    bend_listen: Annotated[str, "address bend listens on; another than loopback needs --bend-key-file"] = "127.0.0.1"
    bend_key_file: Annotated[str, "file with one key a line; then bend wants one of them first"] = ""
    allow_origin: Annotated[tuple[str, ...], "a web page's origin that may ask the API and bend; may be repeated"] = ()
    blob_quota: Annotated[float, "GB of blobs that this node keeps for forms, such as circuits"] = 8.0
    no_bend: Annotated[bool, "do not open bend's ports"] = False
    console_port: Annotated[int, "TCP port of the console and of /metrics (0: any free one)"] = CONSOLE_PORT
    no_console: Annotated[bool, "do not open the console's port"] = False
    data_dir: Annotated[str, "where keys, membership and logs are kept (default: the user's data directory)"] = ""
    ctx: Annotated[int, "context in tokens a slot (default: what the model was trained with, at most 8192)"] = 0
    parallel: Annotated[int, "requests a model answers at once"] = 4
    kv_type: Annotated[KvType, "type of the KV cache"] = "f16"
    threads: Annotated[int, "CPU threads of an engine (default: its own choice)"] = 0
    engine: Annotated[str, "the llama-server to run (default: what `just engine` built, else meshd's own)"] = ""
    vram_limit: Annotated[float, "GB of memory this node offers at most (default: all)"] = 0.0
    api_key_file: Annotated[str, "file with one API key a line; then every request needs one"] = ""
    keyless_network: Annotated[
        tuple[str, ...], "a network whose callers need no API key, such as 192.168.1.0/24; may be repeated"
    ] = ()
    unlimited_network: Annotated[
        tuple[str, ...], "a network on whose callers no limit of their key counts; may be repeated"
    ] = ()
    log_format: Annotated[LogFormat, "text for people, json for machines"] = "text"
    log_level: Annotated[LogLevel, "the least that is logged"] = "info"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration and, for each of its fields, the source that set it."""

    config: Config
    sources: Mapping[str, str]

    def place(self, name: str) -> str:
        """Where a person finds that setting: the flag, the variable, or the line of the file."""
        source = self.sources[name]
        return {"meshd.toml": f"meshd.toml: {name}", "default": flag_of(name)}.get(source, source)


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str], document: Mapping[str, Any]) -> Resolved:
    """Merge the sources. Flags that are None were not given.

    Raises BadConfig for an unknown key of the file, a value of the wrong type or out of its range.
    """
    unknown = sorted(set(document) - {entry.name for entry in fields(Config)})
    if unknown:
        raise BadConfig(f"meshd.toml: unknown setting {unknown[0]!r}; `meshd config --show` lists them all")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, kind in typing.get_type_hints(Config).items():
        sources[name], values[name] = _pick(name, kind, flags, environment, document)
    resolved = Resolved(Config(**values), sources)
    _check_ranges(resolved)
    _check_words(resolved)
    _check_together(resolved.config)
    return resolved


def flag_of(name: str) -> str:
    """How a field of `Config` is spelled on the command line."""
    return "--" + name.replace("_", "-")


def _pick(
    name: str, kind: Any, flags: Mapping[str, Any], environment: Mapping[str, str], document: Mapping[str, Any]
) -> tuple[str, Any]:
    flag = flag_of(name)
    variable = "MESHD_" + name.upper()
    if flags.get(name) is not None:
        return flag, _convert(flags[name], kind, flag)
    if environment.get(variable):
        return variable, _convert(environment[variable], kind, variable)
    if name in document:
        return "meshd.toml", _convert(document[name], kind, f"meshd.toml: {name}")
    return "default", _default(name)


def _default(name: str) -> Any:
    return next(entry.default for entry in fields(Config) if entry.name == name)


def _convert(value: Any, kind: Any, source: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise BadConfig(f"{source}: expected a list, got {value!r}")
        return tuple(str(item) for item in items)
    if origin is Literal:
        return _choose(value, typing.get_args(kind), source)
    if kind is bool:
        return _truth(value, source)
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


def _check_ranges(resolved: Resolved) -> None:
    limits: tuple[tuple[str, float, float], ...] = (
        ("port", 0, 65535),
        ("console_port", 0, 65535),
        ("bend_port", 0, 65534),
        ("http_port", 0, 65535),
        ("ctx", 0, 1 << 24),
        ("parallel", 1, 256),
        ("threads", 0, 1024),
        ("vram_limit", 0, 1 << 20),
        ("blob_quota", 0, 1 << 20),
        ("poc_period", 0.1, 24),
        ("poc_seconds", 0.5, 600),
        ("idle_ttl", 0, 1 << 31),
    )
    for name, low, high in limits:
        value = getattr(resolved.config, name)
        if not low <= value <= high:
            raise BadConfig(f"{resolved.place(name)}: expected {low} to {high}, got {value}")


def _check_words(resolved: Resolved) -> None:
    """Refuse what could be read by nobody, before anything is opened or written."""
    readers: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("bind", parse_address),
        ("name", _read_name),
        ("mesh", _read_name),
        ("allow_origin", _read_origin),
        ("keyless_network", ipaddress.ip_network),
        ("unlimited_network", ipaddress.ip_network),
    )
    for name, read in readers:
        value = getattr(resolved.config, name)
        for text in value if isinstance(value, tuple) else (value,):
            try:
                read(text)
            except ValueError as error:
                raise BadConfig(f"{resolved.place(name)}: {error}") from None


def _read_name(text: str) -> None:
    if not text.isprintable() or len(text) > 64:
        raise ValueError(f"expected at most 64 characters in one line, got {text[:80]!r}")


def _read_origin(text: str) -> None:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"expected a page's origin as browsers send it, such as https://play.example, got {text!r}")


def _check_together(config: Config) -> None:
    if config.client and (config.model or config.lazy or config.upstream or config.drafter):
        raise BadConfig("a lite client hosts nothing: leave out --client, or --model, --lazy, --upstream and --drafter")
    if not is_loopback(config.bend_listen) and not config.bend_key_file and not config.no_bend:
        raise BadConfig(f"--bend-listen {config.bend_listen} opens bend to the network: give --bend-key-file as well")
    doors = [(config.listen, config.port)]
    doors += [] if config.no_console else [(config.listen, config.console_port)]
    doors += [] if config.no_bend else [(config.bend_listen, config.bend_port), (config.bend_listen, config.http_port)]
    for host, port in doors:
        if port and doors.count((host, port)) > 1:
            raise BadConfig(
                f"two doors of this node want port {port}: --port, --console-port, --bend-port, --http-port"
            )


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def default_data_dir(environment: Mapping[str, str], home: Path) -> Path:
    """`$XDG_DATA_HOME/meshd`, or `~/.local/share/meshd`."""
    base = environment.get("XDG_DATA_HOME")
    return (Path(base) if base else home / ".local" / "share") / "meshd"
