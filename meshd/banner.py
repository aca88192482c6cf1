"""What a person reads when the agent is up: the mesh, the doors, and the line to type on the next host. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from transport.interface import Role


@dataclass(frozen=True, slots=True)
class Welcome:
    """doors: name → address.  token: for the next member, only when this start founded the mesh."""

    name: str
    role: Role
    mesh_name: str
    doors: Mapping[str, str]
    models: tuple[str, ...]
    token: str | None
    seconds: float


def welcome_lines(welcome: Welcome) -> list[str]:
    """The lines, in order."""
    verb = "founded" if welcome.token else "is in"
    lines = [
        f"{welcome.name} ({welcome.role.value}) {verb} mesh {welcome.mesh_name!r}; ready in {welcome.seconds:.1f} s"
    ]
    lines += [f"  {name:<9} {address}" for name, address in welcome.doors.items()]
    lines += [f"  loading   {', '.join(welcome.models)}"] if welcome.models else []
    if welcome.token:
        lines += [
            "on the next host, within 24 hours, type:",
            f"  meshd --join {welcome.token}",
            "for another host:               meshd token create",
            "for a laptop that only asks:    meshd token create --role client, then meshd --client --join TOKEN",
        ]
    return lines


def other_mesh_lines(meshes: Mapping[str, str]) -> list[str]:
    """What a founder reads where there are meshes already. meshes: name → who answered for it, and where."""
    if not meshes:
        return []
    listed = " and ".join(f"{name!r} ({who})" for name, who in meshes.items())
    return [
        f"note: on this network there is mesh {listed} already; to come into it instead of having your own, type:",
        "  meshd leave --force",
        f"  meshd --mesh {shlex.quote(next(iter(meshes)))}",
        "and its owner is asked; or, with a token made there by meshd token create: meshd --join TOKEN",
    ]
