"""No bytes bring down what reads them, nor take much memory: each way into `gossip`, for a moment."""

from tests.fuzz_suite import *  # noqa: F403
from tests.gossip.decoders import DECODERS

__all__ = ["DECODERS"]
