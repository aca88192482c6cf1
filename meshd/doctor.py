"""What `meshd doctor` concludes: facts about this host in, checks out, and how these are shown.

`doctor_probes` gathers the facts. A check that fails names one thing to do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is right can be before this; moved on with a release."""

PLAUSIBLE_LIFE = timedelta(days=20 * 365)

MIN_FREE_BYTES = 512 << 20
"""Room for logs and received blobs. Models have their own check of room before a download."""

WANTED_BUFFER_BYTES = 4 << 20
MIN_BUFFER_BYTES = 128 << 10
"""Below what any Linux grants unasked (208 KiB): enough for a mesh that works, not for one that is fast."""

RAISE_BUFFERS = "sudo sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304"

MAX_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Check:
    """One conclusion. name: stable, scripts may look for it.  fix: one thing to do, empty when ok."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port meshd wants. own_pid: our running agent's, when that is the holder.

    problem, advice: why the port cannot be had and what to do, empty when it can.
    """

    name: str
    label: str
    own_pid: int | None
    problem: str
    advice: str


def judge_port(facts: PortFacts) -> Check:
    if facts.own_pid is not None:
        return Check(facts.name, True, f"{facts.label} is held by the running agent (pid {facts.own_pid})")
    if facts.problem:
        return Check(facts.name, False, facts.problem, facts.advice)
    return Check(facts.name, True, f"{facts.label} is free")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What `BINARY --version` did. wanted: whether this node serves models at all (a lite client does not).

    exit_code: None when it could not be run or did not end; output then says why.
    """

    wanted: bool
    binary: str | None
    exit_code: int | None
    output: str


def judge_engine(facts: EngineFacts) -> Check:
    name, rebuild = "engine", "build the engine again: just engine cpu (or cuda, rocm, vulkan, metal)"
    if not facts.wanted:
        return Check(name, True, "not needed: a lite client has no engine")
    if facts.binary is None:
        install = "in the clone: uv sync --extra llm (or, installed: uv tool install --force --from . 'meshd-gpu[llm]')"
        return Check(name, False, "llama-server was not found", install)
    said = " ".join(facts.output.split())[:MAX_QUOTE]
    if facts.exit_code == 0:
        return Check(name, True, f"{facts.binary}: {said or 'runs'}")
    if "shared librar" in facts.output or "Library not loaded" in facts.output:
        return Check(name, False, f"{facts.binary} does not find its libraries: {said}", rebuild)
    how = "cannot be run" if facts.exit_code is None else f"ended with status {facts.exit_code}"
    return Check(name, False, f"{facts.binary} {how}: {said}", rebuild)


@dataclass(frozen=True, slots=True)
class EngineDevices:
    """gpus: NVIDIA's, by name, as NVML tells.  listed: what `BINARY --list-devices` printed."""

    gpus: tuple[str, ...]
    listed: str

    @property
    def seen(self) -> int:
        """How many devices besides the CPU the engine computes on."""
        return len(re.findall(r"^\s+(?:CUDA|ROCm|HIP|Vulkan|SYCL|MTL|Metal)\w*\d*: ", self.listed, re.MULTILINE))


def judge_engine_devices(facts: EngineDevices) -> Check:
    """Whether the engine uses the GPUs that models are placed on."""
    name, count = "engine-gpu", len(facts.gpus)
    if facts.seen >= count:
        return Check(name, True, f"the engine sees {facts.seen} of this host's {count} GPUs")
    if facts.seen:
        detail = f"the engine sees {facts.seen} of this host's {count} GPUs"
        return Check(name, False, detail, "look at CUDA_VISIBLE_DEVICES; else just engine cuda")
    detail = (
        f"this host has {', '.join(facts.gpus)}, and its engine is one for the CPU: models are placed there in vain"
    )
    return Check(name, False, detail, "just engine cuda")


@dataclass(frozen=True, slots=True)
class UdpFacts:
    """A socket bound as the mesh's is. round_trips: family → why a datagram to ourselves was lost, "" when it came.

    receive_buffer_bytes: what the kernel granted of the 4 MiB asked for; None when there was no socket.
    """

    round_trips: Mapping[str, str]
    receive_buffer_bytes: int | None


def judge_udp(facts: UdpFacts) -> list[Check]:
    is_open = facts.receive_buffer_bytes is not None
    trips = [_judge_round_trip(family, lost, is_open) for family, lost in facts.round_trips.items()]
    return [*trips, *_judge_buffer(facts)]


def _judge_round_trip(family: str, lost: str, is_open: bool) -> Check:
    name = f"udp-{family.lower()}"
    if not lost:
        return Check(name, True, f"a datagram to this machine's own {family} address came back")
    if family == "IPv6" or not is_open:
        fix = "use IPv4 alone, on every interface: meshd --bind 0.0.0.0:7842"
    else:
        fix = "let this machine's firewall pass UDP to itself"
    return Check(name, False, f"no UDP over {family}: {lost}", fix)


def _judge_buffer(facts: UdpFacts) -> list[Check]:
    granted = facts.receive_buffer_bytes
    if granted is None:
        return []
    detail = f"{granted >> 10} KiB of receive buffer granted of {WANTED_BUFFER_BYTES >> 10} wanted"
    if granted < MIN_BUFFER_BYTES:
        return [Check("udp-buffer", False, f"{detail}: bursts will be lost", RAISE_BUFFERS)]
    hint = "" if granted >= WANTED_BUFFER_BYTES else f"; faster with: {RAISE_BUFFERS}"
    return [Check("udp-buffer", True, detail + hint)]


def judge_clock(now: datetime) -> Check:
    """now: this host's clock, with its zone."""
    shown = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if RELEASED <= now <= RELEASED + PLAUSIBLE_LIFE:
        return Check("clock", True, shown)
    wrong = "before this version was made" if now < RELEASED else "decades after this version was made"
    detail = f"the clock says {shown}, {wrong}; tokens and memberships will look expired or not yet valid"
    return Check("clock", False, detail, "set the clock: sudo timedatectl set-ntp true")


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The data directory. folder: it, or while it is missing the nearest one above.

    write_error: why a file could not be written in `folder`, "" when it could.
    """

    data_dir: str
    folder: str
    free_bytes: int
    write_error: str


def judge_disk(facts: DiskFacts) -> Check:
    elsewhere = "or choose another place: meshd --data-dir DIR"
    if facts.write_error:
        fix = f"let this user write to {facts.folder}, {elsewhere}"
        return Check("disk", False, f"cannot write to {facts.folder}: {facts.write_error}", fix)
    room = f"{facts.free_bytes / (1 << 30):.1f} GiB free in {facts.folder}"
    if facts.free_bytes < MIN_FREE_BYTES:
        fix = f"free some space there, {elsewhere}"
        return Check("disk", False, f"{room}, wanted at least {MIN_FREE_BYTES >> 20} MiB", fix)
    return Check("disk", True, room if facts.folder == facts.data_dir else f"{room}, {facts.data_dir} can be made")


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file or folder that only we should read. mode: its permission bits.  is_ours: whether we own it."""

    path: str
    mode: int
    is_ours: bool


def judge_private_files(files: Sequence[PrivateFile], data_dir: str) -> Check:
    """Whether keys, tokens and the folder they lie in are closed to others, and are ours."""
    foreign = [file for file in files if not file.is_ours]
    if foreign:
        fix = f'sudo chown -R "$USER" {shlex.quote(data_dir)}'
        return Check("key-files", False, f"of another user, as after a run with sudo: {_names(foreign)}", fix)
    open_ones = [file for file in files if file.mode & 0o077]
    if open_ones:
        shown = ", ".join(f"{file.path} (mode {file.mode:04o})" for file in open_ones)
        fix = f"chmod go= {_names(open_ones)}"
        return Check("key-files", False, f"other users may read {shown}", fix)
    return Check("key-files", True, f"{len(files)} closed to others" if files else "none yet")


def _names(files: Sequence[PrivateFile]) -> str:
    return " ".join(shlex.quote(file.path) for file in files)


def all_ok(checks: Sequence[Check]) -> bool:
    return all(check.ok for check in checks)


def as_object(checks: Sequence[Check]) -> dict[str, Any]:
    """What `--json` prints: `{ok, checks: [{name, ok, detail, fix}]}`."""
    shown = [{"name": check.name, "ok": check.ok, "detail": check.detail, "fix": check.fix} for check in checks]
    return {"ok": all_ok(checks), "checks": shown}


def render(checks: Sequence[Check], console: Console | None = None) -> None:
    """Print a table for people and, below it, one thing to do for each check that failed.

    What to do is often a command to copy, so it is never broken into lines.
    """
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    console = console or RichConsole()
    table = Table.grid(padding=(0, 2))
    for check in checks:
        sign = Text("ok", "green") if check.ok else Text("FAIL", "bold red")
        table.add_row(sign, Text(check.name), Text(check.detail, overflow="fold"))
    console.print(table)
    if not all_ok(checks):
        console.print("\nto do:")
    for check in checks:
        if not check.ok:
            console.print(Text.assemble("  ", (check.name, "bold"), ": ", check.fix), soft_wrap=True)
