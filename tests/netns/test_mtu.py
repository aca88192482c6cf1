"""A path that carries less than Ethernet does: small datagrams fit whole, large packets get through in pieces."""

from __future__ import annotations

import asyncio

import pytest

from tests.netns.namespaces import Namespace, routed
from tests.transport.contract import HEADER, data, next_datagram, next_stream
from tests.transport.quic_mesh import connect, live_mesh
from transport.admission import Site
from transport.interface import MAX_DATAGRAM_BYTES, Address
from transport.quic import QuicOptions, QuicTransport

SMALLEST_IPV6_MTU = 1280
"""Also what Tailscale sets."""

RECORDS = 8
RECORD_BYTES = 256 << 10
WAIT_S = 60.0


async def opened(on: Namespace, site: Site) -> QuicTransport:
    """A transport whose socket is on that host. Opening it waits for nothing."""
    with on.entered():
        return await QuicTransport(site, Address(on.host, 0), QuicOptions(bulk=False)).__aenter__()


@pytest.mark.usefixtures("can_make_namespaces")
async def test_records_and_the_largest_datagrams_pass_a_path_of_the_smallest_mtu() -> None:
    mesh = live_mesh()
    with routed(SMALLEST_IPV6_MTU) as (near, far):
        one, other = await opened(near, mesh.owner_now()), await opened(far, mesh.member_now())
        try:
            async with asyncio.timeout(WAIT_S):
                await connect(one, other)
                before = fragments(near) + fragments(far)
                await datagrams_pass(one, other)
                assert fragments(near) + fragments(far) == before
                await records_pass(one, other)
                assert fragments(near) + fragments(far) > before, "the path was not that narrow"
        finally:
            await one.__aexit__(None, None, None)
            await other.__aexit__(None, None, None)


async def datagrams_pass(one: QuicTransport, other: QuicTransport) -> None:
    for here, there in ((one, other), (other, one)):
        payload = b"d" * MAX_DATAGRAM_BYTES
        here.send_datagram(there.node, payload)
        assert (await next_datagram(there)).payload == payload


async def records_pass(one: QuicTransport, other: QuicTransport) -> None:
    """Both ways at once, as a tunnel's echo would."""
    here = await one.open(other.node, HEADER)
    there = await next_stream(other)
    record = data(b"r" * RECORD_BYTES)

    async def echo() -> None:
        for _ in range(RECORDS):
            got = await there.receive()
            assert got is not None
            await there.send(got)

    async with asyncio.TaskGroup() as group:
        group.create_task(echo())
        for _ in range(RECORDS):
            await here.send(record)
            assert await here.receive() == record


def fragments(host: Namespace) -> int:
    return host.count("Ip", "FragCreates")
