"""This node's ends of `tunnel/1`: what it offers to peers, and what it reaches at theirs.

Parts that need byte pipes between programs on two hosts get `Tunnels` from the node; who may open a stream of it is
`permission`'s to say, and who may use a service under which lease is for whoever offers that service.
"""

from __future__ import annotations

from dataclasses import dataclass

from transport.interface import Transport
from transport.tunnel import TunnelClient
from transport.tunnel_message import PROTOCOL as PROTOCOL
from transport.tunnel_server import TunnelServer


@dataclass(frozen=True, slots=True)
class Tunnels:
    """client: listens here and carries connections to services at peers.  server: offers services to peers."""

    client: TunnelClient
    server: TunnelServer


def make_tunnels(transport: Transport) -> Tunnels:
    """Both ends over one transport. They own no task: tunnels live in their listener, and in the dispatcher."""
    return Tunnels(TunnelClient(transport), TunnelServer(transport.board))
