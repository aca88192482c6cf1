"""Finds nodes of one's mesh on the local network, and lets them find this one: mDNS, through zeroconf.

It only says where to dial; what an advertisement holds and which are believed is `advertisement`'s business, who
may enter is admission's. Without a network, or without multicast, it waits for better times and says so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from transport.advertisement import (
    MAX_HOSTS,
    MAX_TXT_BYTES,
    SERVICE,
    Found,
    Heard,
    OtherMesh,
    Sightings,
    advertise,
    day_of,
    usable_addresses,
)
from transport.errors import Unreachable
from transport.identity import short
from transport.interface import Address, NodeId

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

logger = logging.getLogger("meshd.transport")

MAX_NAMES = 256
"""Instances that are listed on the network; when there are more, the one heard of first is forgotten."""

RESOLVERS = 4
RESOLVE_S = 3.0
CHECK_S = 10.0
"""How often names that did not answer are asked again, and our own addresses and the day are looked at."""

RETRY_S = 60.0
START_S = 5.0
CLOSE_S = 3.0

_DOES_NOT_WORK = "mDNS does not work here, so nodes on this network are not found by it"


class Discovery:
    """One node's place in the local network. `run` it as a task; everything else may be called at any time.

    mesh_id: None for a node that belongs to no mesh: it listens only.
    addresses: where this node can be dialled now; asked again and again. None are advertised when it returns none.
    found: told of nodes that claim to be of our mesh, again when their addresses change. They may not be there.
    interfaces: IP addresses of the interfaces to use; all when empty.
    """

    def __init__(
        self,
        mesh_id: bytes | None,
        node: NodeId,
        addresses: Callable[[], tuple[Address, ...]],
        found: Callable[[Found], None],
        *,
        interfaces: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mesh_id = mesh_id
        self._node = node
        self._addresses = addresses
        self._found = found
        self._interfaces = list(interfaces)
        self._clock = clock
        self._name = secrets.token_hex(8)  # tells nothing, and is new with every start
        self._sightings = Sightings(mesh_id, node)
        self._names: dict[str, bool] = {}
        self._asked: asyncio.Queue[str] = asyncio.Queue(2 * MAX_NAMES)
        self.problem = ""

    @property
    def other_meshes(self) -> tuple[OtherMesh, ...]:
        """Meshes on this network that are not ours."""
        return self._sightings.other_meshes

    async def run(self) -> None:
        """Advertise and listen until cancelled. `problem` says why it does not work now, empty when it does."""
        await asyncio.to_thread(_import_zeroconf)  # takes about 0.1 s
        while True:
            try:
                async with _opened(self._interfaces) as zeroconf:
                    await self._serve(zeroconf)
            except* Unreachable as errors:
                self._cannot(errors.exceptions[0])
            await asyncio.sleep(RETRY_S)

    async def _serve(self, zeroconf: AsyncZeroconf) -> None:
        from zeroconf.asyncio import AsyncServiceBrowser

        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._changed])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_advertised(zeroconf), name="mdns advertise")
                group.create_task(self._ask_again(), name="mdns ask again")
                for _ in range(RESOLVERS):
                    group.create_task(self._resolve(zeroconf), name="mdns resolve")
        finally:
            await browser.async_cancel()

    async def _keep_advertised(self, zeroconf: AsyncZeroconf) -> None:
        """Follow the day, and the interfaces as they come and go."""
        said: tuple[int, tuple[Address, ...]] | None = None
        while True:
            now_true = (day_of(self._clock()), self._addresses()[:MAX_HOSTS])
            if now_true != said:
                with _translated():
                    await self._say(zeroconf, *now_true, is_first=said is None)
                said = now_true
                self.problem = ""
            await asyncio.sleep(CHECK_S)

    async def _say(self, zeroconf: AsyncZeroconf, day: int, addresses: tuple[Address, ...], is_first: bool) -> None:
        if not is_first:
            await zeroconf.async_update_interfaces()
        info = self._advertisement(day, addresses)
        if info is None:
            await zeroconf.async_unregister_all_services()
        elif zeroconf.zeroconf.registry.async_get_info_name(info.name) is None:
            await (await zeroconf.async_register_service(info))
        else:
            await (await zeroconf.async_update_service(info))

    def _advertisement(self, day: int, addresses: tuple[Address, ...]) -> AsyncServiceInfo | None:
        from zeroconf.asyncio import AsyncServiceInfo

        port = addresses[0].port if addresses else 0
        usable = usable_addresses((address.host for address in addresses), port)
        if self._mesh_id is None or not usable:
            return None
        return AsyncServiceInfo(
            SERVICE,
            f"{self._name}.{SERVICE}",
            port=port,
            properties=advertise(self._mesh_id, self._node, port, day),
            server=f"{self._name}.local.",
            parsed_addresses=[address.host for address in usable],
        )

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """zeroconf calls this, with names as the network spells them."""
        if state_change.name == "Removed":
            self._names.pop(name, None)
            self._sightings.gone(name)
            return
        self._names.pop(name, None)
        while len(self._names) >= MAX_NAMES:
            del self._names[next(iter(self._names))]
        self._names[name] = False
        self._ask(name)

    def _ask(self, name: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # it stays listed, so it is asked again later
            self._asked.put_nowait(name)

    async def _ask_again(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            if self._asked.empty():
                for name in [name for name, is_resolved in self._names.items() if not is_resolved]:
                    self._ask(name)

    async def _resolve(self, zeroconf: AsyncZeroconf) -> None:
        from zeroconf import BadTypeInNameException
        from zeroconf.asyncio import AsyncServiceInfo

        while True:
            name = await self._asked.get()
            try:
                info = AsyncServiceInfo(SERVICE, name)
            except BadTypeInNameException:
                self._names.pop(name, None)  # no instance of our service, whatever it is
                continue
            with _translated():
                has_answered = await info.async_request(zeroconf.zeroconf, RESOLVE_S * 1000)
            if has_answered and name in self._names:
                self._names[name] = True
                self._heard(name, info)

    def _heard(self, name: str, info: AsyncServiceInfo) -> None:
        if len(info.text) > MAX_TXT_BYTES:
            return
        hosts = tuple(info.parsed_addresses()[: 4 * MAX_HOSTS])
        found = self._sightings.heard(Heard(name, info.properties, hosts, info.port or 0), self._clock())
        if found is not None:
            logger.debug("mDNS: %s says it is at %s", short(found.node), found.addresses)
            self._found(found)

    def _cannot(self, error: Exception) -> None:
        if not self.problem:
            logger.warning("%s; trying again every %.0f s", error, RETRY_S)
        self.problem = str(error)


async def look_around(wait_s: float, *, interfaces: Sequence[str] = ()) -> tuple[OtherMesh, ...]:
    """The meshes that are heard of on this network within `wait_s`, without saying a word about oneself."""
    listener = Discovery(None, NodeId(b""), lambda: (), lambda found: None, interfaces=interfaces)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await listener.run()
    return listener.other_meshes


@contextlib.asynccontextmanager
async def _opened(interfaces: list[str]) -> AsyncIterator[AsyncZeroconf]:
    """Multicast sockets on these interfaces, all when empty. Says goodbye at the end, within `CLOSE_S`."""
    with _translated(RuntimeError):  # how it says that there is no interface
        zeroconf = _open(interfaces)
    try:
        with _translated():
            await zeroconf.zeroconf.async_wait_for_start(START_S)
        if not zeroconf.zeroconf.engine.senders:
            raise Unreachable(f"{_DOES_NOT_WORK}: no multicast on {', '.join(interfaces) or 'any interface'}")
        yield zeroconf
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await zeroconf.async_close()


def _open(interfaces: list[str]) -> AsyncZeroconf:
    from zeroconf import InterfaceChoice, IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    if interfaces:
        return AsyncZeroconf(interfaces=interfaces)
    try:
        return AsyncZeroconf(InterfaceChoice.All, ip_version=IPVersion.All)
    except OSError:  # a kernel without IPv6
        return AsyncZeroconf(InterfaceChoice.All, ip_version=IPVersion.V4Only)


@contextlib.contextmanager
def _translated(*also: type[Exception]) -> Iterator[None]:
    """Raise what zeroconf and the sockets below it raise as Unreachable."""
    from zeroconf import Error

    theirs: tuple[type[Exception], ...] = (Error, OSError, *also)
    try:
        yield
    except theirs as error:
        what = str(error) or type(error).__name__
        raise Unreachable(f"{_DOES_NOT_WORK}: {what}") from error


def _import_zeroconf() -> ModuleType:
    import zeroconf.asyncio

    return zeroconf
