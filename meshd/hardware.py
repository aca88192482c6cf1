"""What this host computes with, and the facts `sys` and `gpu` it tells the mesh about that.

NVIDIA devices come from NVML; a host without one offers its RAM, labelled "cpu". GPU memory is what NVML
says is free: RAM is never counted as VRAM. Blocks for milliseconds: call it in a thread.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import meshd
from gossip.facts import Device, GpuFact, SystemFact

logger = logging.getLogger("meshd.hardware")

GIB = 1 << 30


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
        return tuple(_nvidia_device(pynvml, number) for number in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        logger.warning("NVML stopped answering, this host's GPUs are not offered: %s", error)
        return ()
    finally:
        pynvml.nvmlShutdown()


def nvidia_usage(pids: Collection[int]) -> tuple[int, ...]:
    """What these processes hold of each NVIDIA device, in `read_devices`' order; () without NVML. Blocks."""
    if not _has_nvidia_driver():
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
        return tuple(_held_by(pynvml, number, pids) for number in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        logger.debug("NVML does not tell who holds what: %s", error)
        return ()


def _held_by(nvml: Any, number: int, pids: Collection[int]) -> int:
    running = nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(number))
    # In a container NVML may not say how much.
    return sum(int(one.usedGpuMemory or 0) for one in running if one.pid in pids)


def _has_nvidia_driver() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _nvidia_device(nvml: Any, number: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
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
