"""What `meshd doctor` looks at. Each probe gathers facts, may block, and hands them to `doctor` to judge.

To add one: write a function `(DoctorOptions) -> Iterable[Check]` and name it in PROBES. It runs in a thread of
its own under a deadline; an OSError that it lets out becomes a failed check.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from meshd.config import Config
from meshd.datadir import DataDir
from meshd.doctor import (
    WANTED_BUFFER_BYTES,
    Check,
    DiskFacts,
    EngineDevices,
    EngineFacts,
    PortFacts,
    PrivateFile,
    UdpFacts,
    judge_clock,
    judge_disk,
    judge_engine,
    judge_engine_devices,
    judge_port,
    judge_private_files,
    judge_udp,
)
from meshd.hardware import Limits, read_devices
from meshd.launcher import LIBRARY_PATH, child_environment
from meshd.ports import Door, bind_error, port_taken
from transport.address import parse_address

DEADLINE_S = 15.0
ENGINE_TIMEOUT_S = 10.0
ROUND_TRIP_TIMEOUT_S = 2.0

LOOPBACK_OF = {"::": {"IPv4": "::ffff:127.0.0.1", "IPv6": "::1"}, "0.0.0.0": {"IPv4": "127.0.0.1"}}
"""Where a socket bound to every address reaches itself, by family."""

SO_RCVBUFFORCE = 33  # Linux; CPython does not name it


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """An engine as installed. library_path: the folder its shared libraries lie in, None when it needs none."""

    binary: Path
    library_path: Path | None


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the agent would use, and so what is looked at.

    doors: name → port, as "api".  wire_host: the address of the mesh's UDP socket.  engine: None when none was
    found.  listen: the address of the API.  private_files: files outside the data directory that only their owner
    should read.
    """

    data_dir: Path
    doors: Mapping[str, Door]
    wire_host: str
    engine: EngineFiles | None
    engine_wanted: bool = True
    listen: str = "127.0.0.1"
    private_files: tuple[Path, ...] = ()


Probe = Callable[[DoctorOptions], Iterable[Check]]


def options_for(config: Config, data_dir: Path, engine: EngineFiles | None) -> DoctorOptions:
    """What an agent with this configuration would use. Raises ValueError for a `bind` that is no address."""
    wire = parse_address(config.bind)
    host = f"[{wire.host}]" if ":" in wire.host else wire.host
    doors = {
        "api": Door("tcp", config.listen, config.port, "--port {port}"),
        "console": Door("tcp", config.listen, 0 if config.no_console else config.console_port, "--console-port {port}"),
        "bend": Door("tcp", config.bend_listen, 0 if config.no_bend else config.bend_port, "--bend-port {port}"),
        "wire": Door("udp", wire.host, wire.port, f"--bind '{host}:{{port}}'"),
    }
    return DoctorOptions(
        data_dir=data_dir,
        doors={name: door for name, door in doors.items() if door.port != 0},  # 0 takes any free one
        wire_host=wire.host,
        engine=engine,
        engine_wanted=not config.client,
        listen=config.listen,
        private_files=(Path(config.api_key_file),) if config.api_key_file else (),
    )


def probe_ports(options: DoctorOptions) -> Iterable[Check]:
    agent = _agent_pid(options.data_dir)
    for name, door in options.doors.items():
        yield judge_port(_port_facts(name, door, agent))


def _port_facts(name: str, door: Door, agent: int | None) -> PortFacts:
    name, label = f"port-{name}", f"{door.kind.upper()} port {door.port}"
    error = bind_error(door)
    if error is None:
        return PortFacts(name, label, None, "", "")
    if error.errno != errno.EADDRINUSE:
        address = f"{label} on {door.host}"
        return PortFacts(name, label, None, f"cannot open {address}: {error.strerror}", _other_address(door))
    taken = port_taken(door)
    if agent is not None and taken.holder is not None and taken.holder.pid == agent:
        return PortFacts(name, label, agent, "", "")
    return PortFacts(name, label, None, taken.problem, taken.advice)


def _other_address(door: Door) -> str:
    option = "--listen 127.0.0.1" if door.kind == "tcp" else f"--bind 0.0.0.0:{door.port}"
    return f"choose an address of this host: meshd {option}"


def _agent_pid(data_dir: Path) -> int | None:
    """The pid that the agent of this data directory wrote down; it may have ended since."""
    content = DataDir(data_dir).read("meshd.lock") or b""
    return int(content) if content.strip().isdigit() else None


def probe_engine(options: DoctorOptions) -> Iterable[Check]:
    if not options.engine_wanted or options.engine is None:
        return [judge_engine(EngineFacts(options.engine_wanted, None, None, ""))]
    exit_code, output = _run(options.engine, "--version")
    check = judge_engine(EngineFacts(True, str(options.engine.binary), exit_code, output))
    gpus = nvidia_gpus()
    if exit_code != 0 or not gpus:
        return [check]
    return [check, judge_engine_devices(EngineDevices(gpus, _run(options.engine, "--list-devices")[1]))]


def nvidia_gpus() -> tuple[str, ...]:
    """Names of this host's NVIDIA GPUs."""
    return tuple(device.name for device in read_devices(Limits(0)).devices if device.kind == "cuda")


def _run(engine: EngineFiles, question: str) -> tuple[int | None, str]:
    """Exit code and output of `BINARY QUESTION`; no exit code when it cannot be run or does not end."""
    libraries = {LIBRARY_PATH: str(engine.library_path)} if engine.library_path else {}
    try:
        ended = subprocess.run(
            (str(engine.binary), question),
            env=child_environment(os.environ, libraries),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ENGINE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"did not answer {question} within {ENGINE_TIMEOUT_S:.0f} s"
    except OSError as error:
        return None, error.strerror or str(error)
    return ended.returncode, ended.stdout.decode(errors="replace")


def probe_udp(options: DoctorOptions) -> Iterable[Check]:
    host = options.wire_host
    own_family = "IPv6" if ":" in host else "IPv4"
    targets = LOOPBACK_OF.get(host, {own_family: host})
    try:
        wire = _open_udp(host)
    except OSError as error:
        return judge_udp(UdpFacts({own_family: error.strerror or str(error)}, None))
    with wire:
        granted = _grow_buffer(wire)
        return judge_udp(UdpFacts({family: _round_trip(wire, to) for family, to in targets.items()}, granted))


def _open_udp(host: str) -> socket.socket:
    """A socket as the mesh's own: bound to `host`, for both families when that is `::`; any free port."""
    wire = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if host == "::":
            wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        wire.bind((host, 0))
    except OSError:
        wire.close()
        raise
    return wire


def _grow_buffer(wire: socket.socket) -> int:
    """Ask for the receive buffer that the mesh asks for; what was granted, as the kernel counts it."""
    try:
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WANTED_BUFFER_BYTES)  # root may exceed the limit
    except OSError:
        with contextlib.suppress(OSError):  # macOS refuses more than its limit instead of granting that
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_BUFFER_BYTES)
    return wire.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _round_trip(wire: socket.socket, host: str) -> str:
    """Send a datagram from `wire` to itself by way of `host`; "" when it came, else why not."""
    sent = os.urandom(16)
    wire.settimeout(ROUND_TRIP_TIMEOUT_S)
    try:
        wire.sendto(sent, (host, wire.getsockname()[1]))
        received = wire.recv(64)
    except TimeoutError:
        return f"a datagram to {host} did not come back"
    except OSError as error:
        return f"sending to {host}: {error.strerror}"
    return "" if received == sent else f"another datagram than the one sent to {host} came"


def probe_clock(_options: DoctorOptions) -> Iterable[Check]:
    return [judge_clock(datetime.now(UTC))]


def probe_disk(options: DoctorOptions) -> Iterable[Check]:
    folder = next(place for place in (options.data_dir, *options.data_dir.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(4096))
            trial.flush()
            os.fsync(trial.fileno())
        write_error = ""
    except OSError as error:
        write_error = error.strerror or str(error)
    free = shutil.disk_usage(folder).free
    return [judge_disk(DiskFacts(str(options.data_dir), str(folder), free, write_error))]


def probe_private_files(options: DoctorOptions) -> Iterable[Check]:
    """The data directory, the files right in it, and those named in the options. The lock file holds but a pid."""
    root = options.data_dir
    inside = sorted(root.iterdir()) if root.is_dir() else []
    paths = [path for path in inside if path.is_file() and path.name != "meshd.lock"]
    paths += [path for path in options.private_files if path.is_file()]
    files = [_private(path) for path in ([root] if root.is_dir() else []) + paths]
    return [judge_private_files(files, str(root))]


def _private(path: Path) -> PrivateFile:
    status = path.stat()
    return PrivateFile(str(path), stat.S_IMODE(status.st_mode), status.st_uid == os.geteuid())


PROBES: Mapping[str, Probe] = {
    "ports": probe_ports,
    "engine": probe_engine,
    "udp": probe_udp,
    "clock": probe_clock,
    "disk": probe_disk,
    "key-files": probe_private_files,
}
"""Every probe under the name that its check gets when it fails as a whole."""


async def run_checks(
    options: DoctorOptions, probes: Mapping[str, Probe] = PROBES, deadline_s: float = DEADLINE_S
) -> list[Check]:
    """Run every probe at once; their checks in the order of `probes`."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_within_deadline(name, probe, options, deadline_s), name=f"doctor {name}")
            for name, probe in probes.items()
        ]
    return [check for task in tasks for check in task.result()]


async def _within_deadline(name: str, probe: Probe, options: DoctorOptions, deadline_s: float) -> list[Check]:
    try:
        async with asyncio.timeout(deadline_s):
            return await _in_daemon_thread(lambda: list(probe(options)))
    except TimeoutError:
        return [Check(name, False, f"no result within {deadline_s:g} s", "see what hangs: dmesg, or a dead mount")]
    except (OSError, psutil.Error) as error:
        return [Check(name, False, f"could not be checked: {error}", "run `meshd doctor` as the user who runs meshd")]


async def _in_daemon_thread(work: Callable[[], list[Check]]) -> list[Check]:
    """Wait for `work` in a thread that may be left behind.

    `asyncio.to_thread` would make the program wait at its end for a probe that hangs in the kernel.
    """
    result: concurrent.futures.Future[list[Check]] = concurrent.futures.Future()
    result.set_running_or_notify_cancel()  # from here on a waiter that gives up leaves the thread its future

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
