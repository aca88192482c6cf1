"""What another host finds where meshd runs without any configuration: the mesh's own port, and nothing else."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from meshd.local_agents import LocalAgents
from tests.netns.namespaces import Namespace
from tests.netns.test_agents import on

DEFAULTS = ("--bind", "[::]:7842", "--port", "9337", "--bend-port", "8320", "--model", "echo:parrot")
OURS = {7842, 3131, 9337, 8320, 8321}
MDNS = 5353


def open_tcp_ports(scanner: Namespace, target: Namespace) -> set[int]:
    """Every TCP port of `target` that accepts a connection from `scanner`."""
    found: set[int] = set()
    with scanner.entered():
        for port in range(1, 65536):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as knock:
                knock.settimeout(5.0)
                if (refused := knock.connect_ex((target.host, port))) == 0:
                    found.add(port)
                else:
                    assert refused == errno.ECONNREFUSED, (port, refused)
    return found


def udp_ports_that_face_the_network(target: Namespace) -> set[int]:
    """Ports of sockets that any other host may send to, from the kernel's own tables: closed UDP ports answer a scan
    a few times a second only.
    """
    found: set[int] = set()
    with target.entered():
        for table in ("udp", "udp6"):
            for line in Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]:
                address, port = line.split()[1].split(":")
                if not (address == "0100007F" or address == "0" * 24 + "01000000"):
                    found.add(int(port, 16))
    return found


async def test_another_host_finds_the_meshs_port_only(segment: list[Namespace], agents: LocalAgents) -> None:
    host, scanner = segment[:2]
    async with on(host, agents).start("founder", DEFAULTS) as founder:
        doors = (await founder.status())["doors"]
        assert doors["api"] == "http://127.0.0.1:9337"
        assert doors["bend"] == "127.0.0.1:8320"
        # TCP on the same number is the lane for large transfers: TLS with the same admission.
        assert open_tcp_ports(scanner, host) == {7842}
        assert udp_ports_that_face_the_network(host) & OURS == {7842}
        assert udp_ports_that_face_the_network(host) <= {7842, MDNS} | ephemeral(host)


def ephemeral(target: Namespace) -> set[int]:
    """Ports that the kernel gives to sockets which only send."""
    with target.entered():
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return set(range(low, high + 1))
