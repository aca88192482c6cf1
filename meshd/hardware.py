"""What this host computes with, and the facts `sys` and `gpu` it tells the mesh about that.

NVIDIA devices come from NVML; a host without one offers its RAM, labelled "cpu". GPU memory is what NVML
says is free: RAM is never counted as VRAM. Blocks for milliseconds: call it in a thread.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import meshd
from gossip.facts import Device, GpuFact, SystemFact

logger = logging.getLogger("meshd.hardware")

GIB = 1 << 30
FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""Linux's PROC_PID_INIT_INO: the processes of the whole host, as drivers number them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """vram_limit_bytes: what all devices together may offer at most; 0 means no limit."""

    vram_limit_bytes: int


def read_system(started: float) -> SystemFact:
    """The state of this host. started: `time.monotonic()` of the agent's start."""
    memory = psutil.virtual_memory()
    return SystemFact(
        version=meshd.__version__,
        platform=f"{platform.system()} {platform.machine()}",
        load_avg=round(os.getloadavg()[0], 2),
        uptime_s=int(time.monotonic() - started),
        cpu_count=os.cpu_count() or 1,
        ram_total_bytes=memory.total,
        ram_free_bytes=memory.available,
    )


def read_devices(limits: Limits) -> GpuFact:
    """This host's devices within the limits, NVIDIA's first, else its RAM."""
    devices = _nvidia_devices() or (_ram(),)
    return GpuFact(within_limit(devices, limits.vram_limit_bytes))


def _ram() -> Device:
    memory = psutil.virtual_memory()
    return Device("RAM", "cpu", memory.total, memory.available)


def _nvidia_devices() -> tuple[Device, ...]:
    # NVML's bindings cost memory; a host without the driver never loads them.
    if not _has_nvidia_driver():
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        logger.debug("no NVML: %s", error)
        return ()
    try:
        return tuple(_nvidia_device(pynvml, handle) for handle in _shown_handles(pynvml))
    except pynvml.NVMLError as error:
        logger.warning("NVML stopped answering, this host's GPUs are not offered: %s", error)
        return ()
    finally:
        pynvml.nvmlShutdown()


def nvidia_usage(pids: Collection[int]) -> tuple[int, ...] | None:
    """What these processes hold of each NVIDIA device, in `read_devices`' order; None where NVML cannot say. Blocks."""
    if not _has_nvidia_driver() or not _has_the_hosts_pids():
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        held = [_held_by(pynvml, handle, pids) for handle in _shown_handles(pynvml)]
    except pynvml.NVMLError as error:
        logger.debug("NVML does not tell who holds what: %s", error)
        return None
    return None if None in held else tuple(one for one in held if one is not None)


def shown_devices(told: str | None, uuids: Sequence[str]) -> list[int]:
    """Which of the host's GPUs CUDA shows its programs, in the order that it numbers them. Pure.

    told: CUDA_VISIBLE_DEVICES, numbers or beginnings of names; what stands behind a word that is neither counts for
    nothing, as CUDA has it.  uuids: NVML's names of all, in the order of the bus.
    """
    if told is None:
        return list(range(len(uuids)))
    shown: list[int] = []
    for word in map(str.strip, told.split(",")):
        named = [number for number, uuid in enumerate(uuids) if word and (word == str(number) or uuid.startswith(word))]
        if len(named) != 1 or named[0] in shown:
            break
        shown += named
    return shown


def _shown_handles(nvml: Any) -> list[Any]:
    """NVML knows every GPU of the host; only those count that engines and forms will see."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
    uuids = [str(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    return [handles[number] for number in shown_devices(os.environ.get("CUDA_VISIBLE_DEVICES"), uuids)]


def _held_by(nvml: Any, handle: Any, pids: Collection[int]) -> int | None:
    """None where it lists one of them without a figure."""
    held = [one.usedGpuMemory for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if one.pid in pids]
    return None if None in held else sum(map(int, held))


def _has_the_hosts_pids() -> bool:
    """Whether processes have the numbers here that the driver knows them by: not in a container."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == FIRST_PID_NAMESPACE
    except OSError:
        return False


def _has_nvidia_driver() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _nvidia_device(nvml: Any, handle: Any) -> Device:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = nvml.nvmlDeviceGetName(handle)
    return Device(name[:64], "cuda", int(memory.total), int(memory.free))


def within_limit(devices: tuple[Device, ...], limit_bytes: int) -> tuple[Device, ...]:
    """Cut the devices so that they offer no more than `limit_bytes` together, the first ones kept whole."""
    if not limit_bytes:
        return devices
    left, kept = limit_bytes, []
    for device in devices:
        total = min(device.total_bytes, left)
        left -= total
        if total:
            kept.append(Device(device.name, device.kind, total, min(device.free_bytes, total)))
    return tuple(kept)
