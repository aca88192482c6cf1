"""Devices and what is held of them, as status shows it: this node's by holder, the others' as they say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gossip.facts import Device, read_gpu
from gossip.view import NodeView, Status
from llm.residency import Reservation
from transport.interface import Role

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class MemoryNow:
    """This host's memory. devices: what each has, and what of it could be reserved.  reservations: in their order."""

    devices: tuple[Device, ...] = ()
    reservations: tuple[Reservation, ...] = ()


UNKNOWN_MEMORY = MemoryNow()


def memory_rows(now: MemoryNow) -> list[dict[str, Any]]:
    """This host's devices, each with who holds how much of it."""
    return [
        device_row(device)
        | {
            "held": [
                {"holder": one.holder, "gb": round(one.parts[number] / GIB, 3), "uses": _in_gb(one.uses(number))}
                for one in now.reservations
                if one.parts[number]
            ]
        }
        for number, device in enumerate(now.devices)
    ]


def peer_memory_rows(node: NodeView) -> list[dict[str, Any]]:
    """What another node says of its devices."""
    return [device_row(device) for device in offered_by(node)]


def offered_by(node: NodeView) -> Sequence[Device]:
    """A node's devices; none of a client, or of a node that is gone."""
    return () if node.role is Role.CLIENT or node.status > Status.SUSPECT else devices_of(node)


def devices_of(node: NodeView) -> Sequence[Device]:
    """What a node says, or has said last, that it computes with."""
    fact = read_gpu(node)
    return fact.devices if fact else ()


def other_bytes(device: Device) -> int:
    """What other programs hold of it."""
    held = device.uses
    return max(0, device.total_bytes - device.free_bytes - held.weights - held.kv - held.forms - held.rest)


def device_row(device: Device) -> dict[str, Any]:
    """A device, and what its node holds of it by what that is for. other_gb: what other programs hold."""
    return {
        "name": device.name,
        "kind": device.kind,
        "total_gb": round(device.total_bytes / GIB, 3),
        "free_gb": round(device.free_bytes / GIB, 3),
        "uses": _in_gb(msgspec.structs.asdict(device.uses)),
        "other_gb": round(other_bytes(device) / GIB, 3),
    }


def vram_row(node: NodeView) -> dict[str, Any]:
    """All devices of a node together."""
    devices = devices_of(node)
    return {
        "total_gb": round(sum(device.total_bytes for device in devices) / GIB, 2),
        "free_gb": round(sum(device.free_bytes for device in devices) / GIB, 2),
        "kind": devices[0].kind if devices else "none",
    }


def _in_gb(uses: dict[str, int]) -> dict[str, float]:
    return {use: round(size / GIB, 3) for use, size in uses.items() if size}
