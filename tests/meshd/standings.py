"""Standings on disk for tests, with a clock that the test sets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from meshd.belonging import load
from meshd.datadir import DataDir
from meshd.standing import Standing
from transport.certificate import Capability, Signer, issue
from transport.interface import Role

NOW = 1_800_000_000.0
DAY_S = 86400.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A standing, its clock, and how often its followers were told."""

    standing: Standing
    clock: Clock
    told: list[float] = field(default_factory=list)

    def tell(self) -> None:
        self.told.append(self.clock.now)

    def again(self) -> Standing:
        """The standing after a restart."""
        directory = self.standing.belonging.directory
        return Standing(load(directory, os.urandom), self.clock, os.urandom)


def standing_at(path: Path) -> Desk:
    """Of a node in no mesh yet."""
    directory = DataDir(path)
    directory.create()
    clock = Clock()
    return Desk(Standing(load(directory, os.urandom), clock, os.urandom), clock)


def founder_at(path: Path) -> Desk:
    desk = standing_at(path)
    desk.standing.belonging.found("home", NOW, os.urandom)
    return desk


def member_at(path: Path, founder: Desk, *, may_invite: bool = False) -> Desk:
    """A member of the founder's mesh."""
    desk = standing_at(path)
    root, mesh = founder.standing.belonging.root, founder.standing.membership
    assert root is not None
    public = desk.standing.belonging.key.public
    caps: tuple[Capability, ...] = ("can_invite",) if may_invite else ()
    encoded = issue(Signer(root), mesh.mesh_id, public, Role.MEMBER, caps, founder.clock.now, os.urandom)
    desk.standing.belonging.accept(mesh.renewed(encoded))
    desk.standing.belonging.equip(NOW, os.urandom)
    return desk
