"""Where others can reach a socket that listens on every interface of this machine."""

from __future__ import annotations

import ipaddress
import socket

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
