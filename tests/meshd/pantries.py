"""The models of a node as they are when the agent starts; no engine runs."""

from __future__ import annotations

import os
from pathlib import Path

from llm.engines.resident import Residence
from meshd.config import Config
from meshd.datadir import DataDir
from meshd.engines import Kitchen
from meshd.hardware import Limits
from meshd.launcher import ProcessLauncher
from meshd.memory import HostMemory
from meshd.model_specs import ModelSpec
from meshd.pantry import Pantry
from meshd.split import Splitting
from transport.blob_store import BlobStore


def pantry(folder: Path, *specs: ModelSpec) -> Pantry:
    """A node's, as it is when the agent starts."""
    directory = DataDir(folder / "data")
    directory.create()
    launcher, memory = ProcessLauncher(os.environ), HostMemory(Limits(1 << 30))
    splitting = Splitting(directory, launcher, None, False, 1, memory)
    kitchen = Kitchen(Config(), directory, launcher, splitting, memory, Residence(memory))
    return Pantry(kitchen, specs, BlobStore(directory.root / "blobs", 1 << 20))


def names(here: Pantry) -> list[str]:
    return [offer.name for offer in here.host.offers()]
