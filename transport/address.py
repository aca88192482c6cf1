"""Read and write `host:port` the way people type it."""

from __future__ import annotations

import ipaddress
import re

from transport.interface import Address

ANY_HOST = "::"
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Read `host:port`, `[v6]:port`, `:port` (every interface) or, given `default_port`, a bare host.

    Raises ValueError, which quotes what was given.
    """
    host, port = _split(text.strip())
    if port is not None:
        return Address(_checked_host(host, text), _checked_port(port, text))
    if default_port is None:
        raise ValueError(f"expected HOST:PORT, got {text[:80]!r}, which has no port")
    return Address(_checked_host(host, text), default_port)


def format_address(address: Address) -> str:
    """Write an address so that `parse_address` reads it: IPv6 literals get brackets."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _split(text: str) -> tuple[str, str | None]:
    """Host and port as written; None where there is no port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"expected [IPV6]:PORT, got {text[:80]!r}")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:  # a bare IPv6 literal: its last group is not a port
        return text, None
    host, colon, port = text.partition(":")
    return (host or ANY_HOST) if colon else host, port if colon else None


def _checked_host(host: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass  # not a literal, so it has to be a name
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"expected a host name or an IP address, got {text[:80]!r}")
    return host


def _checked_port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"expected a port from 0 to 65535, got {text[:80]!r}")
    return int(port)
