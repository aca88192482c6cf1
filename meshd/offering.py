"""Puts together what this node serves: its models and where they take their memory, upstreams, foreign workers."""

from __future__ import annotations

import os
from dataclasses import dataclass

from forms.foreign import ForeignWorker
from llm.engines.resident import Residence
from llm.engines.upstream import UpstreamOptions
from meshd.bending import workers_of
from meshd.config import Config
from meshd.datadir import DataDir
from meshd.drafter import make_drafter
from meshd.engines import Kitchen, chosen_binary
from meshd.footing import Offering
from meshd.hardware import GIB, Limits
from meshd.launcher import ProcessLauncher
from meshd.memory import HostMemory
from meshd.model_specs import ModelSpec, parse_specs
from meshd.pantry import Pantry
from meshd.split import Splitting
from meshd.upstream_specs import parse_upstreams
from transport.blob_store import BlobStore

GB = 1e9


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the settings ask this node to serve, read."""

    specs: tuple[ModelSpec, ...]
    upstreams: tuple[UpstreamOptions, ...]
    bend_workers: tuple[ForeignWorker, ...]


def read_wishes(config: Config) -> Wishes:
    """Before anything is written or opened. Raises BadModelSpec, ValueError, OSError for what cannot be read."""
    specs = parse_specs(config.model, config.lazy, config.draft)
    return Wishes(specs, parse_upstreams(config.upstream), workers_of(config))


def make_offering(config: Config, directory: DataDir, wishes: Wishes) -> Offering:
    """Engines are made and none is started. Raises BadModelFile, ShelfDamaged, OSError."""
    launcher = ProcessLauncher(os.environ)
    memory = HostMemory(Limits(int(config.vram_limit * GIB)))
    splitting = Splitting(directory, launcher, chosen_binary(config, directory), config.split, config.threads, memory)
    kitchen = Kitchen(config, directory, launcher, splitting, memory, Residence(memory))
    pantry = Pantry(kitchen, wishes.specs, BlobStore(directory.blobs, int(config.blob_quota * GB)))
    drafter = make_drafter(kitchen)
    return Offering(pantry, memory, splitting, wishes.upstreams, config.quorum, wishes.bend_workers, drafter)
