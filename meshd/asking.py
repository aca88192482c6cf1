"""Comes into a mesh of this network without a token: finds it by name, asks where somebody may decide, and waits.

What is said, and what protects it, is `transport.pairing`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from meshd.belonging import CannotBelong
from transport.address import format_address
from transport.errors import MeshError, RefusalCode, Refused, Unreachable
from transport.identity import node_id, short
from transport.interface import Address, NodeId
from transport.pairing import KEPT_S, SeenMesh, StillWaiting, code_text

LOOK_S = 3.0
KNOCK_S = 5.0
ASK_AGAIN_S = 3.0
MAX_LOOKS = 32
"""Addresses that are looked at, whatever the network claims."""

Say = Callable[[str], None]
J = TypeVar("J")
J_co = TypeVar("J_co", covariant=True)


class Visitor(Protocol[J_co]):
    """A transport of a node that is in no mesh. J_co: what it returns of a mesh that it has entered."""

    async def look(self, address: Address, deadline_s: float) -> SeenMesh: ...
    async def knock(self, address: Address, seen: SeenMesh, code: str, deadline_s: float) -> J_co | StillWaiting: ...


@dataclass(frozen=True, slots=True)
class Door:
    """A node that may be asked, and where it answered."""

    address: Address
    seen: SeenMesh

    def __str__(self) -> str:
        return f"{self.seen.node_name} at {format_address(self.address)}"


@dataclass(frozen=True, slots=True)
class Asking(Generic[J]):
    """One node's attempt to come in. stop: set when its user has had enough.  say: prints a line for that user."""

    visitor: Visitor[J]
    me: NodeId
    say: Say
    stop: asyncio.Event

    async def come_in(self, name: str, addresses: Iterable[Address]) -> J | None:
        """Enter the mesh of that name behind one of `addresses`; None when there is none.

        Raises CannotBelong when there are several, when nobody there may let anybody in, and when the answer is no,
        does not come, or `stop` is set first.
        """
        doors = [door for door in await look_at(self.visitor, addresses) if door.seen.name == name]
        if not doors:
            return None
        _check_one(name, doors)
        for door in doors:
            with contextlib.suppress(_Closed):
                return await self._wait_at(door)
        raise CannotBelong(
            f"mesh {name!r} is on this network, but none of the nodes that answered may let anybody in "
            f"({', '.join(map(str, doors))}): start meshd on its owner's host, or ask for a token (meshd token create)"
        )

    async def _wait_at(self, door: Door) -> J:
        """Ask until there is an answer. Raises _Closed when this is not the place to ask."""
        code, is_first = "", True
        deadline = asyncio.get_running_loop().time() + KEPT_S
        while asyncio.get_running_loop().time() < deadline:
            answer = await self._ask(door, code, is_first=is_first)
            if not isinstance(answer, StillWaiting):
                return answer
            if answer.code and answer.code != code:
                self._explain(door, answer.code)
            code, is_first = answer.code, False
            await self._pause(door)
        raise CannotBelong(f"nobody answered the request within {KEPT_S / 60:.0f} minutes; ask again, or use a token")

    async def _ask(self, door: Door, code: str, *, is_first: bool) -> J | StillWaiting:
        """One question; what may pass by itself counts as waiting, once the first was understood."""
        try:
            return await self.visitor.knock(door.address, door.seen, code, KNOCK_S)
        except Refused as refused:
            match refused.code:
                case RefusalCode.NOT_ISSUER | RefusalCode.MALFORMED if is_first:
                    raise _Closed from refused
                case RefusalCode.PAIRING_UNKNOWN:
                    return StillWaiting("")
                case RefusalCode.BUSY if not is_first:
                    return StillWaiting(code)
            raise CannotBelong(f"{door} of mesh {door.seen.name!r}: {refused}") from refused
        except Unreachable as error:
            if is_first:
                raise _Closed from error
            return StillWaiting(code)

    async def _pause(self, door: Door) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_AGAIN_S):
                await self.stop.wait()
            raise CannotBelong(f"stopped before {door} answered; the request there ends by itself")

    def _explain(self, door: Door, code: str) -> None:
        for line in asking_lines(door, self.me, code):
            self.say(line)


class _Closed(Exception):
    """Nobody at this door could decide."""


def asking_lines(door: Door, me: NodeId, code: str) -> list[str]:
    """What the user of the asking host reads."""
    return [
        f"asked {door} whether this node ({short(me)}) may come into mesh {door.seen.name!r}; its owner types there:",
        f"  meshd token accept {code_text(code)}",
        f"waiting up to {KEPT_S / 60:.0f} minutes (Ctrl-C gives up); should this node come in before anybody typed "
        "that, somebody poses as the mesh: meshd leave",
    ]


async def look_at(visitor: Visitor[J], addresses: Iterable[Address]) -> list[Door]:
    """Who answers at the first `MAX_LOOKS` addresses, each node once, in the order of the addresses."""
    asked = list(dict.fromkeys(addresses))[:MAX_LOOKS]
    seen: dict[Address, SeenMesh] = {}

    async def look(address: Address) -> None:
        with contextlib.suppress(MeshError):  # nobody there, or nobody in a mesh
            seen[address] = await visitor.look(address, LOOK_S)

    async with asyncio.TaskGroup() as group:
        for address in asked:
            group.create_task(look(address), name=f"look at {address.host}")
    doors: dict[NodeId, Door] = {}
    for address in asked:
        if address in seen:
            doors.setdefault(seen[address].node, Door(address, seen[address]))
    return list(doors.values())


def _check_one(name: str, doors: list[Door]) -> None:
    """All doors lead into one mesh: a name is no proof, and which one is meant only a person knows."""
    roots = {(door.seen.mesh_id, door.seen.root_public): door for door in doors}
    if len(roots) > 1:
        listed = ", ".join(f"root {short(node_id(root))} by {door}" for (_, root), door in roots.items())
        raise CannotBelong(
            f"several meshes on this network are named {name!r} ({listed}); join the right one by a token: "
            "meshd token create on its owner's host, then meshd --join TOKEN"
        )
