"""No bytes bring down what reads them, nor take much memory: each way into `forms`, for a moment."""

from tests.forms.decoders import DECODERS
from tests.fuzz_suite import *  # noqa: F403

__all__ = ["DECODERS"]
