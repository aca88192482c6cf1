"""No bytes bring down what reads them, nor take much memory: each way into `llm`, for a moment."""

from tests.fuzz_suite import *  # noqa: F403
from tests.llm.decoders import DECODERS

__all__ = ["DECODERS"]
