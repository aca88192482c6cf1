"""This node's forms, put together: what computes them, what finds the place for a call, what answers peers for them.

`bend` has the doors that programs come in by; a node computes for its mesh also when they are closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forms.announce import Publish, announce
from forms.blobs import FormBlobs
from forms.errors import NotFound
from forms.foreign import ForeignWorker
from forms.here import Here
from forms.installed import catalogue
from forms.mesh_door import MeshDoor
from forms.operations import Health, Operations
from forms.outlook import Outlook
from forms.probes import probes
from forms.session import Session
from forms.shape import operations_of
from forms.worker import CPU, Worker
from forms.workers import Workers
from gossip.belief import Believe, believe_everybody
from gossip.view import View
from meshd.config import Config
from meshd.form_room import Displace, FormRoom
from meshd.logs import current_request
from meshd.memory import HostMemory
from transport.address import format_address, parse_address
from transport.blob_store import COPIES
from transport.interface import Address, Transport


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the node forms have to do with. folder: where blobs lie.  foreign: workers in no mesh.

    displace: as of `FormRoom`.  believe: how far what a node says of its speed goes.
    """

    memory: HostMemory
    transport: Transport
    view: Callable[[], View]
    folder: Path
    blobs: FormBlobs
    foreign: tuple[ForeignWorker, ...] = ()
    displace: Displace | None = None
    believe: Believe = believe_everybody


@dataclass(frozen=True, slots=True)
class Bending:
    """What a node has for forms."""

    workers: Workers
    operations: Operations
    session: Session
    blobs: FormBlobs
    door: MeshDoor

    def works(self, publish: Publish | None) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs while the node does. publish: None for a node that computes for nobody else."""
        works: dict[str, Coroutine[Any, Any, None]] = {
            "forms workers": self.workers.run(),
            "cost of forms": self.session.here.run(),
            "forms elsewhere": self.session.run(),
        }
        return works if publish is None else works | {"tell of forms": announce(self.session.here, publish)}


def make_bending(around: Surroundings) -> Bending:
    """The forms of a node; a worker's process starts with its first call."""
    room = FormRoom(around.memory, around.displace)
    devices = form_devices([device.kind for device in around.memory.fact().devices], find_spec("cupy") is not None)
    workers = Workers([Worker(around.folder, device=device, room=room) for device in devices])
    here = Here(catalogue(around.folder), workers, len(devices), bring=around.blobs.bring, probes=probes)

    def operations_in(name: str) -> int:
        return circuit_operations(around.folder, name)

    outlook = Outlook(tuple(worker.address for worker in around.foreign), believe=around.believe)
    keys = {worker.address: worker.key for worker in around.foreign if worker.key}
    session = Session(here, around.transport, around.view, outlook, operations_in, keys, request_id=current_request)
    operations = Operations(here, lambda: health_of(around.memory), session)
    return Bending(workers, operations, session, around.blobs, MeshDoor(operations))


def form_devices(kinds: Sequence[str], has_cupy: bool) -> list[str]:
    """What each worker computes with: one a GPU, or one for the processor. kinds: of the host's devices, in order."""
    return [f"cuda:{number}" for number in range(kinds.count("cuda"))] if has_cupy and "cuda" in kinds else [CPU]


def circuit_operations(folder: Path, name: str) -> int:
    """How many operations a circuit has that lies in the folder of blobs. Raises NotFound."""
    for path in (folder / name, folder / COPIES / name):
        try:
            if path.resolve().is_relative_to(folder.resolve()):
                return operations_of(path)
        except (OSError, ValueError):
            continue
    raise NotFound(f"no circuit {name!r} in this node's folder of blobs")


def workers_of(config: Config) -> tuple[ForeignWorker, ...]:
    """The workers outside the mesh that this node was told of, with their keys. Raises ValueError, OSError."""
    file = config.bend_worker_key_file
    return parse_workers(config.bend_worker, Path(file).read_text() if file else "")


def parse_workers(words: Sequence[str], key_lines: str = "") -> tuple[ForeignWorker, ...]:
    """The workers of `--bend-worker`. key_lines: `HOST:PORT KEY` each, for those that want a key. Raises ValueError.

    A key is part of no message.
    """
    try:
        addresses = [parse_address(word) for word in words]
    except ValueError as error:
        raise ValueError(f"--bend-worker: {error}") from error
    keys = dict(_worker_keys(key_lines))
    for address in keys:
        if address not in addresses:
            named = format_address(address)
            raise ValueError(f"--bend-worker-key-file has a key for {named}, which no --bend-worker names")
    return tuple(ForeignWorker(address, keys.get(address, "")) for address in addresses)


def _worker_keys(lines: str) -> Iterator[tuple[Address, str]]:
    for number, line in enumerate(lines.splitlines(), 1):
        match line.split():
            case [address, key] if not address.startswith("#"):
                try:
                    yield parse_address(address), key
                except ValueError:
                    raise ValueError(f"--bend-worker-key-file, line {number}: it begins with no HOST:PORT") from None
            case [first, *_] if not first.startswith("#"):
                raise ValueError(f"--bend-worker-key-file, line {number}: expected HOST:PORT and a key")


def health_of(memory: HostMemory) -> Health:
    """How this host is."""
    devices = memory.fact().devices
    free = sum(device.free_bytes for device in devices if device.kind == "cuda")
    return Health(os.getloadavg()[0], free >> 20, int(time.time() * 1000))
