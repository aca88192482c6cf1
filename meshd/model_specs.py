"""Reads `--model SPEC`: a GGUF file, `hf:owner/repo[:quant]`, a name of the catalogue, or `echo:NAME` for the fake."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from llm.models.catalogue import known_names
from llm.models.selection import parse_hub_spec

ECHO = re.compile(r"echo:(?P<name>[A-Za-z0-9._-]{1,64})(?:@(?P<rate>\d{1,6}(?:\.\d+)?))?")


class BadModelSpec(Exception):
    """A model that cannot be served as it was named; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A GGUF file on this host, known in the mesh by `name`. is_lazy: loads at its first request, leaves when idle."""

    name: str
    path: Path
    is_lazy: bool = False


@dataclass(frozen=True, slots=True)
class EchoSpec:
    """The echo engine under `name`. tokens_per_s: of each answer, 0 for as fast as it goes."""

    name: str
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class BroughtSpec:
    """A model that has to be brought here first, unless it was. name: what was asked for.  is_draft: for the others."""

    name: str
    is_lazy: bool = False
    is_draft: bool = False


ModelSpec = FileSpec | EchoSpec | BroughtSpec


def parse_spec(text: str) -> ModelSpec:
    """Read one spec. Raises BadModelSpec."""
    if echo := ECHO.fullmatch(text):
        return EchoSpec(echo["name"], float(echo["rate"] or 0))
    if text.startswith("echo:"):
        raise BadModelSpec(f"{text!r}: expected echo:NAME or echo:NAME@TOKENS_PER_S")
    if text.startswith("hf:"):
        hub = parse_hub_spec(text)
        if hub is None:
            raise BadModelSpec(f"{text!r}: expected hf:OWNER/REPOSITORY or hf:OWNER/REPOSITORY:QUANT")
        return BroughtSpec(hub.name)
    path = Path(text).expanduser()
    if path.is_file():
        return FileSpec(model_name(path), path.absolute())
    if (named := parse_hub_spec(text)) is not None:
        return BroughtSpec(named.name)
    if "/" in text or text.endswith(".gguf"):
        raise BadModelSpec(f"{text!r}: there is no such file; expected the path of a GGUF file, or hf:OWNER/REPOSITORY")
    raise BadModelSpec(
        f"{text!r}: there is no such file; expected the path of a GGUF file, hf:OWNER/REPOSITORY, or one of: "
        f"{known_names()}"
    )


def _parse_lazy(text: str) -> FileSpec | BroughtSpec:
    spec = parse_spec(text)
    if isinstance(spec, EchoSpec):
        raise BadModelSpec(f"--lazy {text!r}: expected the path of a GGUF file; other engines have nothing to load")
    return replace(spec, is_lazy=True)


def model_name(path: Path) -> str:
    """The file's name without its ending and without the number of a split part."""
    stem = path.name.removesuffix(".gguf")
    return re.sub(r"-\d{5}-of-\d{5}$", "", stem).replace("@", "-")[:128]


def _parse_draft(text: str) -> BroughtSpec | None:
    """The draft, where it has to be brought: a model like any other, that may be asked for as well."""
    spec = parse_hub_spec(text)
    is_here = spec is None or Path(text).expanduser().is_file()
    return None if spec is None or is_here else BroughtSpec(spec.name, is_lazy=True, is_draft=True)


def parse_specs(texts: tuple[str, ...], lazy: tuple[str, ...] = (), draft: str = "") -> tuple[ModelSpec, ...]:
    """Read all specs. lazy: those of files to load when they are asked for.  draft: who proposes tokens to them.

    Raises BadModelSpec, also for two models of one name.
    """
    specs: tuple[ModelSpec, ...] = (*(parse_spec(text) for text in texts), *(_parse_lazy(text) for text in lazy))
    names = [spec.name for spec in specs]
    proposer = _parse_draft(draft)
    if proposer is not None and proposer.name not in names:
        specs = (proposer, *specs)
    for name in names:
        if names.count(name) > 1:
            raise BadModelSpec(f"two models would both be called {name!r}; rename one of the files")
    return specs
