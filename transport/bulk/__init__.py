"""The bulk lane: a TLS 1.3 connection over TCP beside a QUIC connection, for what is too much for Python's QUIC.

One lane serves a pair, and all of its bulk streams share it: `frame` puts a stream's number before each record, and
records, credit and endings are those of `transport.stream`. A lane is an accelerator: it opens when somebody first
wants it, everything goes on over QUIC when it cannot, and it closes with the QUIC connection that vouches for it.

`lanes` is the whole for one endpoint; `door` makes a lane at either end, with a ticket of `ticket` and keys pinned
by `pinning`; `lane` has its streams; `connection` its bytes; `message` is what the ends say over QUIC beforehand.
"""

from __future__ import annotations

from transport.bulk.lane import Lane
from transport.bulk.lanes import BulkLanes
from transport.bulk.message import PROTOCOL
from transport.bulk.pinning import LaneIdentity

__all__ = ["PROTOCOL", "BulkLanes", "Lane", "LaneIdentity"]
