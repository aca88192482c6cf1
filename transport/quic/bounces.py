"""What the network sends back: ICMP's word that nobody listens on the port where a datagram went (Linux).

A queued ICMP error is POLLERR at the socket, on which libuv, so uvloop, stops polling it for good. Epoll's own
descriptor only ever becomes readable, so the loop is given that instead.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""As the socket gives and takes it: four parts on a dual-stack socket, where IPv4 is mapped."""

MAX_BOUNCES = 32
"""Read at once; a flood of them must not keep the loop from everything else."""

# linux/in.h, linux/in6.h and linux/errqueue.h; not in Python's socket module.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_ERROR = struct.Struct("=IBBBx")
"""The beginning of struct sock_extended_err: errno, origin, type, code."""

_PORT_UNREACHABLE = frozenset(((2, 3, 3), (3, 1, 4)))
"""(origin, type, code) for ICMP and ICMPv6. Other errors come and go with routes and say nothing of the peer."""

_QUOTED_BYTES = 64
_ANCILLARY_BYTES = 256


class Readiness:
    """When a socket can be read or written, as descriptors that a loop may wait on as readers."""

    def __init__(self, bound: socket.socket) -> None:
        self._readable, self._writable = select.epoll(), select.epoll()
        self._readable.register(bound.fileno(), select.EPOLLIN)
        self._writable.register(bound.fileno(), select.EPOLLOUT)
        self.read_fileno = self._readable.fileno()
        self.write_fileno = self._writable.fileno()

    def close(self) -> None:
        self._readable.close()
        self._writable.close()


def hear_bounces(bound: socket.socket) -> bool:
    """Have the kernel keep what comes back to `bound`; whether it can."""
    if not hasattr(select, "epoll"):
        return False
    try:
        bound.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    except OSError:
        return False
    return True


def read_bounces(bound: socket.socket) -> Iterator[tuple[bytes, SocketAddress]]:
    """The beginnings of datagrams that met a closed port, and where each had gone."""
    for _ in range(MAX_BOUNCES):
        try:
            data, ancillary, _, address = bound.recvmsg(_QUOTED_BYTES, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
        except OSError:
            return  # the queue is empty, or the next error is one of sending, which is for the sender
        if any(_is_port_unreachable(value) for _, kind, value in ancillary if kind in (_IP_RECVERR, _IPV6_RECVERR)):
            yield data, address


def _is_port_unreachable(value: bytes) -> bool:
    return len(value) >= _ERROR.size and _ERROR.unpack_from(value)[1:] in _PORT_UNREACHABLE
