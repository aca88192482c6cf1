"""Which web pages may ask a door of this host, and under which names. Pure; the doors of forms and of models share it.

A browser sends `Origin` with what a page asks for, and `Host` as the page spelled it. A page elsewhere that points a
name of its own at this host (DNS rebinding) is known by the foreign Host.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
PREFLIGHT_S = "600"


def is_local_host(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine as only it can."""
    return host_name(host) in LOCAL_NAMES


def is_allowed_origin(origin: str, origins: Collection[str]) -> bool:
    """Whether a page of `origin` may ask: pages of this machine always, others by name; never `null`."""
    if origin in origins:
        return True
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.hostname in LOCAL_NAMES
    except ValueError:
        return False


def host_name(host: str) -> str:
    """The name in a Host header, without its port; empty when there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
