from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from meshd import doctor_probes
from meshd.config import Config
from meshd.datadir import DataDir
from meshd.doctor import Check
from meshd.doctor_probes import PROBES, DoctorOptions, EngineFiles, options_for, run_checks
from meshd.launcher import LIBRARY_PATH
from meshd.ports import Door

pytestmark = pytest.mark.live


@contextmanager
def taken(kind: int) -> Iterator[int]:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        yield other.getsockname()[1]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def options(tmp_path: Path) -> DoctorOptions:
    directory = DataDir(tmp_path / "data")
    directory.create()
    directory.write("node.key", b"key")
    engine = EngineFiles(script(tmp_path / "llama-server", "echo version: 1"), tmp_path)
    return DoctorOptions(directory.root, {}, "127.0.0.1", engine)


async def run_one(name: str, options: DoctorOptions) -> list[Check]:
    return await run_checks(options, {name: PROBES[name]})


async def test_a_healthy_host_passes_every_check(options: DoctorOptions) -> None:
    checks = await run_checks(replace(options, doors={"api": Door("tcp", "127.0.0.1", 0, "--port {port}")}))
    assert [check for check in checks if not check.ok] == []
    assert [check.name for check in checks] == [
        *("port-api", "engine", "udp-ipv4", "udp-buffer", "clock", "disk", "key-files")
    ]


@pytest.mark.parametrize(("kind", "number"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
async def test_a_port_held_by_another_is_reported(options: DoctorOptions, kind: str, number: int) -> None:
    with taken(number) as port:
        door = Door("tcp" if kind == "tcp" else "udp", "127.0.0.1", port, "--port {port}")
        (check,) = await run_one("ports", replace(options, doors={"api": door}))
    assert not check.ok
    assert f"port {port} is held by" in check.detail and f"(pid {os.getpid()})" in check.detail
    assert "meshd --port" in check.fix


async def test_a_port_held_by_our_own_agent_is_well(options: DoctorOptions) -> None:
    with DataDir(options.data_dir).locked(), taken(socket.SOCK_STREAM) as port:
        door = Door("tcp", "127.0.0.1", port, "--port {port}")
        (check,) = await run_one("ports", replace(options, doors={"api": door}))
    assert check == Check("port-api", True, f"TCP port {port} is held by the running agent (pid {os.getpid()})")


async def test_an_address_of_another_host_is_reported(options: DoctorOptions) -> None:
    door = Door("tcp", "192.0.2.1", 9337, "--port {port}")
    (check,) = await run_one("ports", replace(options, doors={"api": door}))
    assert not check.ok and "192.0.2.1" in check.detail and "--listen" in check.fix


async def test_a_missing_engine_is_reported_unless_nobody_wants_one(options: DoctorOptions) -> None:
    (host,) = await run_one("engine", replace(options, engine=None))
    (client,) = await run_one("engine", replace(options, engine=None, engine_wanted=False))
    assert (host.ok, client.ok) == (False, True)


async def test_an_engine_that_is_no_program_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"\x7fNOT")
    (gone,) = await run_one("engine", replace(options, engine=EngineFiles(tmp_path / "gone", None)))
    (data,) = await run_one("engine", replace(options, engine=EngineFiles(tmp_path / "data.bin", None)))
    assert not gone.ok and "No such file" in gone.detail
    assert not data.ok and "cannot be run" in data.detail


async def test_an_engine_without_its_libraries_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    needs = script(tmp_path / "needs", f'[ "${LIBRARY_PATH}" = /right ] || {{ echo libx missing; exit 127; }}')
    (without,) = await run_one("engine", replace(options, engine=EngineFiles(needs, None)))
    (along,) = await run_one("engine", replace(options, engine=EngineFiles(needs, Path("/right"))))
    assert not without.ok and "libx missing" in without.detail
    assert along.ok


async def test_an_engine_for_the_cpu_on_a_host_with_gpus_is_reported(
    options: DoctorOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_probes, "nvidia_gpus", lambda: ("Tesla P40", "RTX 3090"))
    said = ("  (none)", "  CUDA0: Tesla P40 (24438 MiB, 24000 MiB free)")
    checks = []
    for number, devices in enumerate((said[0], said[1], f"{said[1]}\n  CUDA1: RTX 3090 (24124 MiB, 23000 MiB free)")):
        program = f'[ "$1" = --version ] && echo version: 1 || printf "Available devices:\n{devices}\n"'
        engine = EngineFiles(script(tmp_path / f"engine-{number}", program), None)
        version, gpus = await run_one("engine", replace(options, engine=engine))
        assert version.ok
        checks.append(gpus)
    assert [check.ok for check in checks] == [False, False, True]
    assert "Tesla P40, RTX 3090" in checks[0].detail and checks[0].fix == "just engine cuda"
    assert "sees 1 of this host's 2 GPUs" in checks[1].detail


async def test_an_engine_that_hangs_is_reported(
    options: DoctorOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_probes, "ENGINE_TIMEOUT_S", 0.2)
    (check,) = await run_one(
        "engine", replace(options, engine=EngineFiles(script(tmp_path / "e", "exec sleep 60"), None))
    )
    assert not check.ok and "did not answer" in check.detail


async def test_udp_is_tried_over_both_families(options: DoctorOptions) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    checks = await run_one("udp", replace(options, wire_host="::"))
    assert [(check.name, check.ok) for check in checks] == [
        ("udp-ipv4", True),
        ("udp-ipv6", True),
        ("udp-buffer", True),
    ]


async def test_udp_on_an_address_of_another_host_is_reported(options: DoctorOptions) -> None:
    (check,) = await run_one("udp", replace(options, wire_host="192.0.2.1"))
    assert not check.ok and check.name == "udp-ipv4"


async def test_a_data_directory_that_is_a_file_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (check,) = await run_one("disk", replace(options, data_dir=tmp_path / "file"))
    assert not check.ok and "Not a directory" in check.detail


async def test_a_data_directory_not_made_yet_is_well(options: DoctorOptions, tmp_path: Path) -> None:
    missing = replace(options, data_dir=tmp_path / "not" / "yet")
    (disk,) = await run_one("disk", missing)
    (keys,) = await run_one("key-files", missing)
    assert disk.ok and "can be made" in disk.detail and keys.ok
    assert not (tmp_path / "not").exists()


@contextmanager
def mounted(place: Path, mount_options: str) -> Iterator[Path]:
    place.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", mount_options, "tmpfs", str(place))
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        pytest.skip(f"cannot mount here: {ended.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(("umount", str(place)), check=True)


async def test_a_full_disk_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as place:
        with pytest.raises(OSError, match="No space"):
            (place / "filler").write_bytes(bytes(1 << 20))
        (check,) = await run_one("disk", replace(options, data_dir=place))
    assert not check.ok and "No space left" in check.detail


async def test_a_small_disk_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as place:
        (check,) = await run_one("disk", replace(options, data_dir=place))
    assert not check.ok and "wanted at least" in check.detail


async def test_a_read_only_disk_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as place:
        (check,) = await run_one("disk", replace(options, data_dir=place))
    assert not check.ok and "Read-only" in check.detail


async def test_an_open_key_is_reported(options: DoctorOptions) -> None:
    (options.data_dir / "node.key").chmod(0o644)
    (check,) = await run_one("key-files", options)
    assert not check.ok and "node.key (mode 0644)" in check.detail


async def test_an_open_data_directory_is_reported(options: DoctorOptions) -> None:
    options.data_dir.chmod(0o755)
    (check,) = await run_one("key-files", options)
    assert not check.ok and f"{options.data_dir} (mode 0755)" in check.detail


async def test_an_open_api_key_file_is_reported(options: DoctorOptions, tmp_path: Path) -> None:
    keys = tmp_path / "api-keys"
    keys.touch(mode=0o644)
    (check,) = await run_one("key-files", replace(options, private_files=(keys,)))
    assert not check.ok and str(keys) in check.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
async def test_a_key_of_another_user_is_reported(options: DoctorOptions) -> None:
    os.chown(options.data_dir / "node.key", 65534, 65534)
    (check,) = await run_one("key-files", options)
    assert not check.ok and "chown" in check.fix


async def test_a_probe_that_hangs_fails_alone(options: DoctorOptions) -> None:
    hangs = threading.Event()

    def hang(_options: DoctorOptions) -> Iterable[Check]:
        hangs.wait()
        return []

    checks = await run_checks(options, {"hangs": hang, "clock": PROBES["clock"]}, deadline_s=0.1)
    hangs.set()
    assert [(check.name, check.ok) for check in checks] == [("hangs", False), ("clock", True)]
    assert "no result within 0.1 s" in checks[0].detail and checks[0].fix


async def test_a_probe_that_the_system_refuses_fails_alone(options: DoctorOptions) -> None:
    def refuse(_options: DoctorOptions) -> Iterable[Check]:
        raise PermissionError(13, "Permission denied", "/somewhere")

    first, second = await run_checks(options, {"refused": refuse, "clock": PROBES["clock"]})
    assert (first.name, first.ok, second.ok) == ("refused", False, True)
    assert "/somewhere" in first.detail and first.fix


async def test_a_bug_in_a_probe_is_not_taken_for_a_finding(options: DoctorOptions) -> None:
    def broken(_options: DoctorOptions) -> Iterable[Check]:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await run_checks(options, {"broken": broken})
    assert caught.group_contains(ZeroDivisionError)


async def test_probes_run_at_once(options: DoctorOptions) -> None:
    barrier = threading.Barrier(3, timeout=250.0)

    def meet(_options: DoctorOptions) -> Iterable[Check]:
        barrier.wait()
        return []

    assert await run_checks(options, dict.fromkeys("abc", meet)) == []


def test_a_hanging_probe_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    program = (
        "import asyncio, threading\n"
        "from pathlib import Path\n"
        "from meshd.doctor_probes import DoctorOptions, run_checks\n"
        "options = DoctorOptions(Path('.'), {}, '::', None)\n"
        "hang = lambda options: threading.Event().wait() or []\n"
        "print(asyncio.run(run_checks(options, {'hangs': hang}, 0.1))[0].ok)"
    )
    ended = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=250, check=True)
    assert ended.stdout == "False\n"


def test_the_options_follow_the_configuration(tmp_path: Path) -> None:
    config = Config(port=0, bind="[::1]:7000", client=True, api_key_file="/keys", no_console=True, no_bend=True)
    options = options_for(config, tmp_path, None)
    assert options == DoctorOptions(
        data_dir=tmp_path,
        doors={"wire": Door("udp", "::1", 7000, "--bind '[::1]:{port}'")},
        wire_host="::1",
        engine=None,
        engine_wanted=False,
        private_files=(Path("/keys"),),
    )


async def test_cancelling_leaves_no_waiting_behind(options: DoctorOptions) -> None:
    started, hangs = threading.Event(), threading.Event()

    def hang(_options: DoctorOptions) -> Iterable[Check]:
        started.set()
        hangs.wait()
        return []

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_checks(options, {"hangs": hang}))
        await asyncio.to_thread(started.wait)
        running.cancel()
    hangs.set()
    assert running.cancelled()
