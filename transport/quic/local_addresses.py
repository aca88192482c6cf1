"""Which networks this machine is in: where others can reach its sockets, and who is close by."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import psutil

from transport.interface import Address

_VIRTUAL = ("docker", "br-", "veth", "virbr", "cni", "flannel")


def reachable_addresses(bind_host: str, port: int, has_ipv6: bool) -> tuple[Address, ...]:
    """Most useful first: LAN and public IPv4, IPv6, container bridges; loopback last, for agents on one machine."""
    if bind_host not in ("::", "0.0.0.0"):
        return (Address(bind_host, port),)
    ranked: list[tuple[int, str]] = []
    for interface, entries in psutil.net_if_addrs().items():
        for entry in entries:
            rank = _rank(interface, entry.family, entry.address)
            if rank is not None and (has_ipv6 or entry.family == socket.AF_INET):
                ranked.append((rank, entry.address))
    hosts = dict.fromkeys(host for _, host in sorted(ranked, key=lambda item: item[0]))
    return tuple(Address(host, port) for host in hosts)


def _rank(interface: str, family: int, host: str) -> int | None:
    """Smaller is more useful; None for what nobody else could dial."""
    if family not in (socket.AF_INET, socket.AF_INET6) or "%" in host:
        return None
    address = ipaddress.ip_address(host)
    if address.is_link_local or (address.is_loopback and address.version == 6):
        return None
    if address.is_loopback:
        return 3
    if interface.startswith(_VIRTUAL):
        return 2
    return 0 if address.version == 4 else 1


def is_on_link(host: str) -> bool:
    """Whether `host`, an IP literal, is in a network of one of this machine's interfaces: no router in between."""
    address = ipaddress.ip_address(host.partition("%")[0])
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    return any(address in network for network in map(_network, entries) if network is not None)


def _network(entry: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if entry.family not in (socket.AF_INET, socket.AF_INET6) or not entry.netmask:
        return None
    prefix = int(ipaddress.ip_address(entry.netmask)).bit_count()
    return ipaddress.ip_network((entry.address.partition("%")[0], prefix), strict=False)
