"""What `meshd doctor` looks at around this host: its running agent, the ways to peers, multicast, the GPU's driver."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from gossip.addressbook import AddressBook
from meshd.belonging import load
from meshd.config import is_loopback
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.datadir import DataDir, DataDirDamaged
from meshd.doctor import Check
from meshd.doctor_mesh import (
    SINCE_CUDA_13,
    GpuFacts,
    PathFacts,
    PeerClock,
    judge_bind,
    judge_builds,
    judge_clocks,
    judge_format,
    judge_gpu,
    judge_membership,
    judge_multicast,
    judge_paths,
    judge_peers,
)
from meshd.doctor_probes import DoctorOptions
from meshd.key_store import keys_of
from meshd.keys import BadKeys

GROUP = "239.255.78.42"
"""Of this host alone: nothing is said on the network (RFC 2365, site-local; sent with a TTL of 0)."""
ECHO_S = 1.0
IP_MTU = 14  # Linux; CPython does not name it


def probe_agent(options: DoctorOptions) -> Iterable[Check]:
    """What a running agent knows; nothing without one."""
    status = _status(options)
    return [] if status is None else [*judge_peers(status), judge_builds(status)]


def probe_clocks(options: DoctorOptions) -> Iterable[Check]:
    """What time it is for others, as a running agent asks them; nothing without one."""
    told = _ask(options, "clocks")
    return (
        []
        if told is None
        else [judge_clocks([PeerClock(one["name"], one["ahead_s"], one["within_s"]) for one in told["clocks"]])]
    )


def _status(options: DoctorOptions) -> dict[str, Any] | None:
    return _ask(options, "status")


def _ask(options: DoctorOptions, command: str) -> dict[str, Any] | None:
    try:
        return ControlClient(DataDir(options.data_dir).control_socket).call(command)
    except (NotRunning, CommandFailed):
        return None


def probe_multicast(options: DoctorOptions) -> Iterable[Check]:
    return [judge_multicast(_multicast_problem())]


def _multicast_problem() -> str:
    """Say something to a group, on the way that mDNS takes, and hear it."""
    said = os.urandom(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing:
        hearing.bind(("", 0))
        try:
            hearing.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton("0.0.0.0")),
            )
            hearing.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
            hearing.settimeout(ECHO_S)
            hearing.sendto(said, (GROUP, hearing.getsockname()[1]))
            while hearing.recv(64) != said:
                pass
        except TimeoutError:
            return "a datagram to a group did not come back"
        except OSError as error:
            return error.strerror or str(error)
    return ""


def probe_paths(options: DoctorOptions) -> Iterable[Check]:
    return [judge_paths(list(_paths(options)))]


def _paths(options: DoctorOptions) -> Iterator[PathFacts]:
    """To each address at which a peer was last met."""
    names = _devices()
    for node, addresses in AddressBook(DataDir(options.data_dir).addresses, time.time).load().items():
        for address in addresses[:1]:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as way:
                try:
                    way.connect((address.host, address.port))
                    mtu = way.getsockopt(socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6, IP_MTU)
                except OSError:
                    continue  # a way that is not there is the business of `peers`
                yield PathFacts(f"{address.host} ({node.hex()[:8]})", names.get(way.getsockname()[0], "DEVICE"), mtu)


def _devices() -> dict[str, str]:
    """Names of network devices by their addresses."""
    return {one.address: name for name, found in psutil.net_if_addrs().items() for one in found}


def probe_gpu(options: DoctorOptions) -> Iterable[Check]:
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        capabilities = [pynvml.nvmlDeviceGetCudaComputeCapability(handle) for handle in handles]
    except pynvml.NVMLError:
        return [judge_gpu(GpuFacts(None, _cupy()))]
    driver = version // 1000, version % 1000 // 10
    return [judge_gpu(GpuFacts(driver, _cupy(), min(map(tuple, capabilities), default=SINCE_CUDA_13)))]


def _cupy() -> int | None:
    for major in (13, 12):
        try:
            importlib.metadata.version(f"cupy-cuda{major}x")
            return major
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def probe_format(options: DoctorOptions) -> Iterable[Check]:
    return [judge_format(_format_problem(DataDir(options.data_dir)))]


def _format_problem(directory: DataDir) -> str:
    try:
        directory.check_format()
    except DataDirDamaged as error:
        return str(error)
    return ""


def probe_membership(options: DoctorOptions) -> Iterable[Check]:
    """Nothing of a directory that this version may misread."""
    directory = DataDir(options.data_dir)
    return [] if _format_problem(directory) else [_membership(directory)]


def _membership(directory: DataDir) -> Check:
    if directory.read("node.key") is None:
        return judge_membership("")
    try:
        belonging = load(directory, os.urandom)
        papers = belonging.papers(time.time())
    except (DataDirDamaged, OSError, ValueError) as error:
        return judge_membership(str(error))
    is_revoked = belonging.revocations is not None and belonging.key.node in belonging.revocations.revoked
    return judge_membership(papers.problem if papers is not None else "", is_revoked)


def probe_bind(options: DoctorOptions) -> Iterable[Check]:
    try:
        has_keys = bool(options.private_files) or bool(keys_of(options.data_dir).now().keys)
    except BadKeys as error:
        return [Check("api-key", False, str(error), f"move {Path(options.data_dir) / 'keys.json'} away")]
    return [judge_bind(options.listen, not is_loopback(options.listen), has_keys)]
