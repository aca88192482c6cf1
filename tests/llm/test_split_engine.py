"""What a model shows and answers while it cannot be served: waiting, refused, or served by others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm.changes import Changes
from llm.engines.drafts import Draft
from llm.engines.interface import EngineFailed, EngineState
from llm.engines.llama_arguments import LlamaServerOptions, RpcDevices, arguments
from llm.engines.llama_binary import LlamaBinary
from llm.residency import Makeup, NoRoom
from llm.split.engine import Elsewhere, PlacedEngine, PlacedModel, Way
from llm.split.layout import Refuse, Solo, Wait
from llm.split.leader import Means, SplitFailed
from meshd.launcher import ProcessLauncher
from tests.llm.requests import chat
from transport.interface import NodeId

OPTIONS = LlamaServerOptions(Path("nothing.gguf"), "tiny", Path("nothing.log"))


class ScriptedMesh:
    """A `Mesh` that a test writes. room: whether this host has memory left."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.room = True
        self._changes = Changes()

    def show(self, way: Way) -> None:
        self._way = way
        self._changes.notify()

    async def means(self) -> Means:
        raise SplitFailed("this engine has no RPC")

    def makeups(self, shares: tuple[float, ...] = ()) -> tuple[Makeup, ...]:
        return (Makeup(),) * max(1, len(shares))

    @contextlib.contextmanager
    def reserved(self, need_bytes: int, makeup: Makeup) -> Iterator[None]:
        if not self.room:
            raise NoRoom("all of it is taken")
        yield

    async def way(self, left_out: frozenset[NodeId]) -> Way:
        return self._way

    def successor(self) -> str:
        return ""

    async def changed(self) -> None:
        await self._changes.wait()


@asynccontextmanager
async def running(mesh: ScriptedMesh) -> AsyncIterator[PlacedEngine]:
    model = PlacedModel("f" * 64, 2, lambda: "host/tiny", OPTIONS)
    engine = PlacedEngine(model, mesh, ProcessLauncher())
    async with asyncio.TaskGroup() as group:
        run = group.create_task(engine.run())
        yield engine
        run.cancel()
    assert engine.status.state is EngineState.STOPPED


async def until(engine: PlacedEngine, state: EngineState, words: str) -> None:
    async with asyncio.timeout(60):
        while engine.status.state is not state or words not in engine.status.reason:
            await engine.changed()


async def test_a_waiting_model_says_how_much_is_missing_and_may_be_elected() -> None:
    async with running(ScriptedMesh(Way(Wait(5, "5 GB short")))) as engine:
        await until(engine, EngineState.WAITING, "5 GB short")

        assert (engine.status.missing_bytes, engine.status.mode) == (5, "split")
        with pytest.raises(EngineFailed, match="5 GB short") as caught:
            await engine.answer(chat("tiny", "hello"))
        assert caught.value.retryable


async def test_what_can_never_fit_has_failed_and_comes_to_life_with_a_larger_node() -> None:
    mesh = ScriptedMesh(Way(Refuse("cannot fit: 500 GB")))
    async with running(mesh) as engine:
        await until(engine, EngineState.FAILED, "cannot fit")
        assert (engine.status.missing_bytes, engine.status.mode) == (0, "solo")

        mesh.show(Way(Wait(1, "1 GB short")))
        await until(engine, EngineState.WAITING, "1 GB short")


async def test_a_model_that_another_node_leads_stands_by() -> None:
    async with running(ScriptedMesh(Way(Elsewhere("large leads it, and this node works for it")))) as engine:
        await until(engine, EngineState.WAITING, "large leads it")

        assert engine.status.mode == "split"


async def test_without_room_on_this_host_it_waits_with_the_arithmetic() -> None:
    mesh = ScriptedMesh(Way(Solo(1)))
    mesh.room = False
    async with running(mesh) as engine:
        await until(engine, EngineState.WAITING, "all of it is taken")


def test_a_split_and_a_draft_reach_the_command_line() -> None:
    binary = LlamaBinary(Path("llama-server"), None)
    options = LlamaServerOptions(
        Path("m.gguf"), "m", Path("m.log"), rpc=RpcDevices(("127.0.0.1:1", "127.0.0.1:2"), (0.67, 0.33)),
        draft=Draft(Path("d.gguf")),
    )  # fmt: skip

    line = " ".join(arguments(binary, options))

    assert "--rpc 127.0.0.1:1,127.0.0.1:2 --tensor-split 0.67,0.33" in line
    assert "--spec-type draft-simple --spec-draft-model d.gguf --spec-draft-n-max 8 --spec-draft-device none" in line
    plain = " ".join(arguments(binary, OPTIONS))
    assert "--rpc" not in plain and "--spec" not in plain
