"""Who may use the API now: keys, how many requests each may make, and networks that need none. Pure.

The rate is a token bucket (RFC 2697's committed burst is one minute's worth here), so a key that was idle may make a
minute's requests at once and then as many as drip in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from llm.errors import RequestFailed
from meshd.keys import ApiKey, KeyRing, KeyState

Network = IPv4Network | IPv6Network


class Unauthorized(RequestFailed):
    """The API demands a key and none of ours came."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class NotAdmin(RequestFailed):
    """The key is good, but for using this node only."""

    status = 403
    kind = "permission_error"
    code = "not_admin"


class RateLimited(RequestFailed):
    """The key has made as many requests as it may for now."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Networks:
    """Callers that are trusted by where they are. keyless: need no key.  unlimited: no limit of a key counts."""

    keyless: Sequence[Network] = ()
    unlimited: Sequence[Network] = ()


@dataclass(slots=True)
class _Bucket:
    """A key's requests. tokens: how many it may make at `at`."""

    tokens: float
    at: float


@dataclass(slots=True)
class Ingress:
    """The API's doorkeeper. ring: the keys now; a ring that never had one leaves the door open.

    unix_time: for expiry.  All other times are of one steady clock, in seconds.
    """

    ring: Callable[[], KeyRing]
    unix_time: Callable[[], float]
    networks: Networks = Networks()
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _running: Counter[str] = field(default_factory=Counter)

    def identify(self, given: str, host: str | None) -> ApiKey | None:
        """The key that a caller at address `host` uses, None for one who needs none. Raises Unauthorized."""
        ring = self.ring()
        key = ring.find(given) if given else None
        if key is not None and (state := key.state(self.unix_time())) is KeyState.VALID:
            return key
        if not ring.keys or _is_in(self.networks.keyless, host):
            return None
        if key is not None:
            raise Unauthorized(f"the API key {key.name!r} is {state}; ask the owner of this node for another")
        if given:
            raise Unauthorized("this API key is not known here; `meshd key list` on the node shows those that are")
        raise Unauthorized("this API needs a key: send `Authorization: Bearer KEY`; `meshd key create NAME` makes one")

    def check_admin(self, given: str) -> None:
        """Whether the caller may act on this node, not only use it: with an admin's key, or where there are no keys.

        Where a caller is does not count here. Raises Unauthorized, NotAdmin.
        """
        ring = self.ring()
        if not ring.keys:
            return
        key = ring.find(given) if given else None
        if key is None or key.state(self.unix_time()) is not KeyState.VALID:
            raise Unauthorized("this wants an admin's key; `meshd key create NAME --admin` on the node makes one")
        if not key.is_admin:
            raise NotAdmin(f"the API key {key.name!r} may use models and forms; this wants an admin's key")

    def begin(self, key: ApiKey | None, host: str | None, now: float) -> Callable[[], None]:
        """Count a request that begins; call what is returned when it is over. Raises RateLimited, counting nothing."""
        if key is None or _is_in(self.networks.unlimited, host):
            return lambda: None
        if key.concurrency and self._running[key.digest] >= key.concurrency:
            raise RateLimited(f"the API key {key.name!r} may have {key.concurrency} requests at a time", 1)
        self._take(key, now)
        self._running[key.digest] += 1
        return lambda: self._finish(key)

    def _take(self, key: ApiKey, now: float) -> None:
        per_min = key.requests_per_min
        if not per_min:
            return
        bucket = self._buckets.setdefault(key.digest, _Bucket(per_min, now))
        bucket.tokens = min(per_min, bucket.tokens + (now - bucket.at) * per_min / 60)
        bucket.at = now
        if bucket.tokens < 1:
            wait_s = math.ceil((1 - bucket.tokens) * 60 / per_min)
            raise RateLimited(f"the API key {key.name!r} may make {per_min} requests a minute", wait_s)
        bucket.tokens -= 1

    def _finish(self, key: ApiKey) -> None:
        self._running[key.digest] -= 1
        if not self._running[key.digest]:
            del self._running[key.digest]


def parse_networks(texts: Sequence[str], option: str) -> tuple[Network, ...]:
    """Networks such as 192.168.1.0/24 or fd00::/8. Raises ValueError that names the option."""
    try:
        return tuple(ip_network(text, strict=True) for text in texts)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def _is_in(networks: Sequence[Network], host: str | None) -> bool:
    """Whether an address, as the socket gave it, lies in one of them. IPv4 over an IPv6 socket counts as IPv4."""
    if not networks or host is None:
        return False
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
