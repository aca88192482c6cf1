"""No bytes bring down what reads them, nor take much memory: each way into `transport`, for a moment."""

from tests.fuzz_suite import *  # noqa: F403
from tests.transport.decoders import DECODERS

__all__ = ["DECODERS"]
