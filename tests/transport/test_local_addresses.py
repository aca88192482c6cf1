"""Which addresses this machine tells others, and who counts as close by."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from transport.interface import Address
from transport.quic.local_addresses import is_on_link, reachable_addresses


def entry(family: socket.AddressFamily, address: str, netmask: str | None) -> SimpleNamespace:
    return SimpleNamespace(family=family, address=address, netmask=netmask)


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with one wired network, a container bridge and a point-to-point link."""
    found = {
        "lo": [entry(socket.AF_INET, "127.0.0.1", "255.0.0.0"), entry(socket.AF_INET6, "::1", "ffff" + ":ffff" * 7)],
        "docker0": [entry(socket.AF_INET, "172.17.0.1", "255.255.0.0")],
        "eth0": [
            entry(socket.AF_INET, "10.0.0.5", "255.255.255.0"),
            entry(socket.AF_INET6, "2001:db8:1::5", "ffff:ffff:ffff:ffff::"),
            entry(socket.AF_INET6, "fe80::5%eth0", "ffff:ffff:ffff:ffff::"),
            entry(socket.AF_PACKET, "02:00:00:00:00:01", None),
        ],
        "tun0": [entry(socket.AF_INET, "100.64.0.2", None)],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)


@pytest.mark.parametrize(
    ("host", "is_close"),
    [
        ("10.0.0.9", True),
        ("10.0.1.9", False),
        ("127.0.0.1", True),
        ("172.17.9.9", True),
        ("100.64.0.3", False),
        ("198.51.100.1", False),
        ("2001:db8:1::9", True),
        ("2001:db8:2::9", False),
        ("fe80::9%eth0", True),
    ],
)
def test_close_by_is_who_shares_a_network(host: str, is_close: bool) -> None:
    assert is_on_link(host) is is_close


def test_addresses_that_more_can_reach_come_first() -> None:
    hosts = [address.host for address in reachable_addresses("::", 7842, True)]

    assert hosts == ["10.0.0.5", "100.64.0.2", "2001:db8:1::5", "172.17.0.1", "127.0.0.1"]
    assert "2001:db8:1::5" not in [address.host for address in reachable_addresses("0.0.0.0", 7842, False)]
    assert reachable_addresses("10.0.0.5", 7842, True) == (Address("10.0.0.5", 7842),)
