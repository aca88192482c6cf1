"""A group of commands each of which is loaded when it is typed, so that none waits for what only others need."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is: a module and, in it, a function, or a `typer.Typer` for a group.

    panel: the heading that help shows it under.  settings: of its context.
    """

    module: str
    attribute: str
    panel: str
    settings: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LazyCommands(Mapping[str, Any]):
    """The commands of a group by name, made when they are asked for. What typer makes has no public type."""

    places: Mapping[str, Place]
    _made: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, self.places[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _make(name: str, place: Place) -> Any:
    found = getattr(importlib.import_module(place.module), place.attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
        command.name = name
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name, context_settings=place.settings)(found)
        command = typer.main.get_command(alone)
    command.rich_help_panel = place.panel
    return command


def lazy_group(places: Mapping[str, Place]) -> type[TyperGroup]:
    """The class of a group that has these commands, in this order."""

    class LazyGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands: Any = LazyCommands(places)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(places)

    return LazyGroup
