"""One entry for each form there is or might be, with its status. Reads the data beside it, and nothing else.

`live`: measured on a GPU here, on record. `built`: exact against its truth, and no GPU figure yet. `surveyed`: somebody
published a figure; it cannot be called.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated

import msgspec

from forms.catalogue import CIRCUIT_FORMS, Catalogue

DATA = files("forms.survey")


class Status(StrEnum):
    """How far a form is."""

    LIVE = "live"
    BUILT = "built"
    SURVEYED = "surveyed"


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of ours. date: YYYY-MM-DD.  command: what printed it."""

    form: str
    figure: str
    device: str
    date: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    command: str


@dataclass(frozen=True, slots=True)
class Published:
    """A figure of others. wave: of the survey; 0 for what its page only runs."""

    form: str
    figure: str
    hardware: str
    reference: str
    wave: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One form. magic: of its frames, empty where it has none.  published: the figure to meet, where there is one."""

    name: str
    status: Status
    magic: str = ""
    published: Published | None = None
    measured: Measured | None = None

    @property
    def figure(self) -> str:
        """Ours where there is one, else that of others."""
        if self.measured is not None:
            return self.measured.figure
        return self.published.figure if self.published is not None else ""

    @property
    def hardware(self) -> str:
        """What the figure was measured on, with the date of ours."""
        if self.measured is not None:
            return f"{self.measured.device}, {self.measured.date}"
        return self.published.hardware if self.published is not None else ""

    @property
    def reference(self) -> str:
        """Where the figure comes from."""
        if self.measured is not None:
            return self.measured.command
        return self.published.reference if self.published is not None else ""


@cache
def surveyed() -> tuple[Published, ...]:
    """The four waves, in the survey's order."""
    rows = csv.DictReader(DATA.joinpath("bend-catalogue.csv").read_text("utf-8").splitlines())
    return tuple(
        Published(row["form"], row["throughput"], row["hardware"], row["reference"], int(row["wave"])) for row in rows
    )


@cache
def seven() -> tuple[Published, ...]:
    """What the survey's page says of the forms that it runs."""
    rows = csv.DictReader(DATA.joinpath("seven.csv").read_text("utf-8").splitlines())
    return tuple(Published(row["form"], row["figure"], row["hardware"], row["reference"]) for row in rows)


@cache
def measured() -> tuple[Measured, ...]:
    """What was measured here."""
    return msgspec.json.decode(DATA.joinpath("measured.json").read_bytes(), type=tuple[Measured, ...])


def make_entries(callable_forms: Mapping[str, str], ours: Sequence[Measured]) -> tuple[Entry, ...]:
    """Every entry: forms that can be called first, then the survey's others. callable_forms: magic by name."""
    figures = {one.form: one for one in ours}
    waves = {one.form: one.wave for one in surveyed()}
    published = {one.form: one for one in surveyed()}
    published |= {one.form: replace(one, wave=waves.get(one.form, 0)) for one in seven()}
    here = [
        Entry(name, Status.LIVE if name in figures else Status.BUILT, magic, published.get(name), figures.get(name))
        for name, magic in callable_forms.items()
    ]
    there = [Entry(one.form, Status.SURVEYED, published=one) for one in surveyed() if one.form not in callable_forms]
    return (*here, *there)


def entries_of(catalogue: Catalogue) -> tuple[Entry, ...]:
    """Every entry, as it is now on a node that has these forms."""
    framed = {form.name: form.magic.decode() for form in catalogue}
    return make_entries(framed | dict.fromkeys(CIRCUIT_FORMS, ""), measured())


def chosen(entries: Iterable[Entry], status: Status | None = None, wave: int = 0, words: str = "") -> list[Entry]:
    """Those of a status, of a wave, with words in what is shown of them; all where nothing is asked for."""
    return [
        entry
        for entry in entries
        if (status is None or entry.status is status)
        and (not wave or (entry.published is not None and entry.published.wave == wave))
        and words.lower() in f"{entry.name} {entry.figure} {entry.hardware} {entry.reference}".lower()
    ]
