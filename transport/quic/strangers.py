"""Decides who may begin a handshake while others' stand half open, so that no address can fill the places.

Where a first packet comes from is a claim until the sender has answered a Retry (RFC 9000 §8.1.2). So the claimed and
the proved have places of their own: who forges an address cannot use up those of its owner.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from enum import Enum

RETRY_ABOVE_HALF_OPEN = 16
MAX_HALF_OPEN = 64
RETRY_ABOVE_PER_NETWORK = 4
MAX_PER_NETWORK = 16
"""Proved handshakes of one network at once. A household behind NAT is one network; those beyond try again."""


class Welcome(Enum):
    """What a first packet gets: a handshake, the question whether it comes from where it says, or nothing."""

    ACCEPT = "accept"
    RETRY = "retry"
    IGNORE = "ignore"


class Strangers:
    """Handshakes that were begun by others and that nobody has admitted yet, by network and proof."""

    def __init__(self) -> None:
        self._claimed: Counter[str] = Counter()
        self._proved: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._claimed.total() + self._proved.total()

    def judge(self, network: str, has_proved: bool) -> Welcome:
        """Of a first packet that comes, or claims to come, from `network`."""
        if len(self) >= MAX_HALF_OPEN or self._proved[network] >= MAX_PER_NETWORK:
            return Welcome.IGNORE
        if has_proved:
            return Welcome.ACCEPT
        if len(self) >= RETRY_ABOVE_HALF_OPEN or self._claimed[network] >= RETRY_ABOVE_PER_NETWORK:
            return Welcome.RETRY
        return Welcome.ACCEPT

    def begin(self, network: str, has_proved: bool) -> None:
        """One of them was accepted."""
        (self._proved if has_proved else self._claimed)[network] += 1

    def end(self, network: str, has_proved: bool) -> None:
        """It was admitted, or is over."""
        counter = self._proved if has_proved else self._claimed
        counter[network] -= 1
        if not counter[network]:
            del counter[network]


def network_of(host: str) -> str:
    """Who may share an address: one IPv4 address, or the 64 bits that one IPv6 host has to itself."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
