"""What the control door can be asked about models: to list, load, unload, bring and remove them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.engines.interface import EngineFailed
from llm.engines.resident import Busy
from llm.engines.upstream import Upstream
from llm.gguf import BadModelFile
from llm.models.selection import parse_hub_spec
from llm.offer import MeshModel, Offer, catalogue
from llm.residency import Policy
from meshd.bringer import Bringer
from meshd.control import Command, CommandFailed
from meshd.pantry import LocalModel, Pantry, Refused, deletes
from meshd.status import Situation

GB = 1e9


@dataclass(frozen=True, slots=True)
class ModelCommands:
    """situation: the mesh as it is now.  hosts: whether this node may have models at all.

    upstreams: servers whose models this node offers.
    """

    pantry: Pantry
    bringer: Bringer
    situation: Callable[[], Situation]
    hosts: bool
    upstreams: tuple[Upstream, ...] = ()

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {
            "models": self._list,
            "model_load": self._load,
            "model_unload": self._unload,
            "model_pull": self._pull,
            "model_remove": self._remove,
        }

    async def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        now = self.situation()
        here = {model.name: model for model in self.pantry.local}
        mesh = catalogue(now.view, now.offers)
        mine = {offer.name: offer for offer in now.offers}
        rows = [self._row(model, mine, here) for model in mesh]
        rows += [_problem_row(model) for model in here.values() if model.problem]
        return {"models": rows, "downloads": [one.as_json() for one in self.bringer.bringings]}

    def _row(self, model: MeshModel, mine: dict[str, Offer], here: dict[str, LocalModel]) -> dict[str, Any]:
        plain = model.hostings[0].offer.name
        own = mine.get(plain)
        is_here = own is not None and any(one.offer is own or one.offer == own for one in model.hostings)
        best = own if own is not None and is_here else model.hostings[0].offer
        local = here.get(plain) if is_here else None
        engine = (self.pantry.resident(plain) or self._upstream(plain)) if is_here else None
        return {
            "name": model.name,
            "digest": best.digest or best.fingerprint,
            "state": best.state,
            "reason": best.reason,
            "hosts": [one.node.name for one in model.hostings],
            "here": is_here,
            "policy": engine.policy.value if engine else None,
            "size_bytes": best.file_bytes or None,
            "held_bytes": engine.held_bytes if engine else 0,
            "wanted": local.shelved.wanted if local and local.shelved else "",
            "is_named": local.is_named if local else False,
        }

    async def _load(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """name or path; policy: "pinned", "lazy" or nothing."""
        self._check_hosts()
        named = _text(arguments, "name")
        path = arguments.get("path")
        policy = _policy(arguments)
        loads = policy is not Policy.LAZY
        try:
            if isinstance(path, str):
                name = await self.pantry.add_file(Path(path), policy, loads=loads)
                return {"name": name, "fetching": False}
            if (upstream := self._upstream(named)) is not None:
                upstream.load()
                return {"name": named, "fetching": False}
            local = self._local(named)
            if local is not None:
                await self.pantry.load(local.name, policy, now=loads)
                return {"name": local.name, "fetching": False}
            self.bringer.begin(named, policy or Policy.LAZY, loads=loads)
        except (Refused, BadModelFile, OSError) as error:
            raise CommandFailed(str(error)) from error
        return {"name": named, "fetching": True}

    async def _pull(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._check_hosts()
        wanted = _text(arguments, "name")
        local = self._local(wanted)
        if local is not None:
            return {"name": local.name, "fetching": False}
        try:
            self.bringer.begin(wanted, Policy.LAZY, loads=False)
        except Refused as error:
            raise CommandFailed(str(error)) from error
        return {"name": wanted, "fetching": True}

    async def _unload(self, arguments: dict[str, Any]) -> dict[str, Any]:
        local = self._local(_text(arguments, "name"))
        name = local.name if local is not None else _text(arguments, "name")
        upstream = self._upstream(name)
        try:
            await (upstream.unload("somebody asked for it") if upstream is not None else self.pantry.unload(name))
        except (Refused, Busy, EngineFailed) as error:
            raise CommandFailed(str(error)) from error
        except TimeoutError:
            raise CommandFailed(f"model {name!r} does not let go of its memory; see its log") from None
        return {"name": name}

    async def _remove(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """is_sure: do it; else say what it would delete."""
        named = _text(arguments, "name")
        is_sure = arguments.get("is_sure") is True
        if (coming := self.bringer.find(named)) is not None:
            if is_sure:
                await self.bringer.cancel(coming)
            return {"name": coming.wanted, "deletes": [], "bytes": 0, "keeps": []}
        local = self._local(named)
        try:
            model = self.pantry.removable(local.name if local is not None else named)
            paths = await asyncio.to_thread(deletes, model)
            size_bytes = sum([path.stat().st_size for path in paths if path.exists()])
            if is_sure:
                paths = await self.pantry.remove(model.name)
        except (Refused, OSError) as error:
            raise CommandFailed(str(error)) from error
        return {
            "name": model.name,
            "deletes": [str(path) for path in paths],
            "bytes": size_bytes,
            "keeps": [] if paths else [str(path) for path in model.paths],
        }

    def _upstream(self, named: str) -> Upstream | None:
        """The server that has the model of that name in the mesh."""
        return next((one for one in self.upstreams if named in one.offered), None)

    def _local(self, named: str) -> LocalModel | None:
        """The model of this node that has that name, or was brought as that spec."""
        spec = parse_hub_spec(named)
        wanted = spec.name if spec is not None else named
        found = [
            one for one in self.pantry.local if one.name == named or (one.shelved and one.shelved.wanted == wanted)
        ]
        return next((one for one in found if not one.problem), None)

    def _check_hosts(self) -> None:
        if not self.hosts:
            raise CommandFailed("a lite client hosts nothing: load models on a member, and ask for them here")


def _problem_row(model: LocalModel) -> dict[str, Any]:
    shelved = model.shelved
    return {
        "name": model.name,
        "digest": "",
        "state": "missing",
        "reason": model.problem,
        "hosts": [],
        "here": True,
        "policy": shelved.policy if shelved else None,
        "size_bytes": None,
        "held_bytes": 0,
        "wanted": shelved.wanted if shelved else "",
        "is_named": False,
    }


def _text(arguments: dict[str, Any], key: str) -> str:
    value = arguments.get(key, "")
    if not isinstance(value, str) or len(value) > 512:
        raise CommandFailed(f"expected {key} as text")
    return value


def _policy(arguments: dict[str, Any]) -> Policy | None:
    value = arguments.get("policy")
    if value is None:
        return None
    try:
        return Policy(value)
    except ValueError:
        raise CommandFailed(f"expected policy pinned or lazy, got {value!r}") from None
