"""The desk of a host and the service of a drafter, over the memory transport, with the real process that drafts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

import llm.demo
from gossip.view import NodeView, Status, View
from llm.changes import Changes
from llm.draft.desk import DraftDesk, Invitation
from llm.draft.fact import DRAFT_FACT
from llm.draft.message import (
    PROTOCOL,
    Proposal,
    Question,
    Ready,
    Refused,
    Wanted,
    read_answer,
    read_proposal,
    to_record,
    write_question,
)
from llm.draft.pipe import RecordPipe, connect
from llm.draft.service import DraftService
from llm.engines.interface import EngineState
from llm.engines.llama_arguments import LlamaServerOptions
from llm.gguf import read_header
from llm.sessions.drafter_engine import DrafterEngine
from meshd.launcher import ProcessLauncher
from tests.llm.views import node_id
from transport.errors import MeshError, ProtocolError
from transport.interface import LinkState, NodeId, Role, StreamHeader
from transport.memory import MemoryNetwork, MemoryTransport

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

DRAFT = Path(llm.demo.__file__).with_name("meshd-toy-draft.gguf")
VOCABULARY = read_header(DRAFT).vocabulary_digest
WAIT_S = 120.0
TEXT = tuple(range(300, 340))


@dataclass
class Pair:
    """A host's desk, and a drafter. facts: what the drafter has told."""

    desk: DraftDesk
    service: DraftService
    engine: DrafterEngine
    host: MemoryTransport
    drafter: NodeId
    facts: dict[str, bytes] = field(default_factory=dict)
    offences: list[ProtocolError] = field(default_factory=list)
    told: Changes = field(default_factory=Changes)

    def view(self) -> View:
        nodes = [(self.host.node, "host", {}), (self.drafter, "drafter", self.facts)]
        return View(
            1,
            tuple(
                NodeView(node, name, Role.MEMBER, Status.ALIVE, 1, 0, (), facts, 1.0, True, 60.0)
                for node, name, facts in nodes
            ),
        )

    async def asked(self, vocabulary: str = VOCABULARY) -> tuple[RecordPipe, Ready | Refused]:
        """A session's connection, and what comes first."""
        invitation = Invitation.parse(self.desk.invitation)
        pipe = await connect(invitation.host, invitation.port, invitation.key)
        await pipe.send(to_record(Wanted(vocabulary)))
        async with asyncio.timeout(WAIT_S):
            return pipe, read_answer(await pipe.receive(), None)

    def publish(self, key: str, value: bytes) -> None:
        self.facts[key] = value
        self.told.notify()

    async def offered(self) -> None:
        """Wait until the drafter has told what it drafts with."""
        async with asyncio.timeout(WAIT_S):
            while not self.facts.get(DRAFT_FACT):
                await self.told.wait()


@asynccontextmanager
async def a_pair(folder: Path) -> AsyncIterator[Pair]:
    network = MemoryNetwork(delay_s=0.001)
    options = LlamaServerOptions(DRAFT, "small", folder / "small.log", context_tokens=128, slots=4, threads=1)
    engine = DrafterEngine(options, ProcessLauncher(os.environ))
    async with (
        network.transport(node_id(1), Role.MEMBER, name="host") as host,
        network.transport(node_id(2), Role.MEMBER, name="drafter") as drafter,
        asyncio.TaskGroup() as group,
    ):
        service, desk = DraftService("small", VOCABULARY, engine), DraftDesk()
        pair = Pair(desk, service, engine, host, drafter.node)
        works = [
            group.create_task(desk.run(host, pair.view)),
            group.create_task(service.run(pair.publish)),
            group.create_task(_serve(drafter, pair)),
        ]
        host.keep(drafter.node, drafter.addresses)
        async with asyncio.timeout(WAIT_S):
            async for _ in host.events():
                if any(link.state is LinkState.CONNECTED for link in host.links()):
                    break
        await pair.offered()
        yield pair
        for work in works:
            work.cancel()


async def _serve(transport: MemoryTransport, pair: Pair) -> None:
    async def fenced(stream) -> None:  # type: ignore[no-untyped-def]
        try:
            await pair.service.serve(stream)
        except ProtocolError as error:
            pair.offences.append(error)
        except MeshError:
            pass  # as `meshd.dispatch` has it

    async with asyncio.TaskGroup() as group:
        async for stream in transport.streams():
            group.create_task(fenced(stream))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with a_pair(tmp_path_factory.mktemp("drafter")) as pair:
        yield pair


async def drafted(pipe: RecordPipe, question: Question) -> Proposal:
    await pipe.send(write_question(question))
    async with asyncio.timeout(WAIT_S):
        record = await pipe.receive()
    assert record is not None
    return read_proposal(record, None)


@pytest.mark.asyncio(loop_scope="module")
class TestDraftsFromAfar:
    async def test_a_conversation_is_told_by_what_changes(self, pair: Pair) -> None:
        pipe, ready = await pair.asked()
        assert isinstance(ready, Ready)
        assert (ready.model, ready.round_trip_s, ready.token_s > 0) == ("small", 0.001, True)
        await pipe.send(write_question(Question(0, TEXT[:20], 0)))
        first = await drafted(pipe, Question(20, TEXT[20:], 4))
        assert len(first.ids) == 4
        whole, _ = await pair.asked()
        assert (await drafted(whole, Question(0, TEXT, 4))).ids == first.ids
        # Two of them stand, and one token is another: the same as if all of it were told.
        kept = await drafted(pipe, Question(len(TEXT) + 2, (305,), 4))
        anew, _ = await pair.asked()
        assert (await drafted(anew, Question(0, (*TEXT, *first.ids[:2], 305), 4))).ids == kept.ids
        for one in (pipe, whole, anew):
            one.close()

    async def test_a_longer_text_than_its_context_is_drafted_for_all_the_same(self, pair: Pair) -> None:
        pipe, _ = await pair.asked()
        assert len((await drafted(pipe, Question(0, tuple(300 + place % 40 for place in range(3000)), 5))).ids) == 5
        pipe.close()

    async def test_many_conversations_do_not_mix(self, pair: Pair) -> None:
        texts = [TEXT[start : start + 12] for start in range(8)]
        alone = []
        for text in texts:
            pipe, _ = await pair.asked()
            alone.append((await drafted(pipe, Question(0, text, 3))).ids)
            pipe.close()
        pipes = [(await pair.asked())[0] for _ in texts]
        together = await asyncio.gather(
            *(drafted(pipe, Question(0, text, 3)) for pipe, text in zip(pipes, texts, strict=True))
        )
        assert [one.ids for one in together] == alone
        for pipe in pipes:
            pipe.close()

    async def test_another_vocabulary_finds_nobody(self, pair: Pair) -> None:
        pipe, refused = await pair.asked("00" * 32)
        assert isinstance(refused, Refused)
        assert "vocabulary" in refused.reason
        pipe.close()

    async def test_a_program_without_the_key_hears_nothing(self, pair: Pair) -> None:
        invitation = Invitation.parse(pair.desk.invitation)
        pipe = await connect(invitation.host, invitation.port, "0" * 32)
        await pipe.send(to_record(Wanted(VOCABULARY)))
        async with asyncio.timeout(WAIT_S):
            assert await pipe.receive() is None
        pipe.close()

    async def test_a_peer_that_asks_for_too_much_is_refused_and_counted(self, pair: Pair) -> None:
        stream = await pair.host.open(pair.drafter, StreamHeader(PROTOCOL, "r"))
        await stream.send(to_record(Wanted(VOCABULARY)))
        async with asyncio.timeout(WAIT_S):
            assert isinstance(read_answer(await stream.receive(), pair.drafter), Ready)
            await stream.send(write_question(Question(0, (1,), 99)))
            with pytest.raises(MeshError):
                await stream.receive()
        assert [str(one) for one in pair.offences if "99 tokens" in str(one)]

    @pytest.mark.parametrize("question", [Question(5, (1,), 1), Question(0, (1 << 30,), 1), Question(0, (), 1)])
    async def test_a_question_that_makes_no_sense_hurts_nobody_else(self, pair: Pair, question: Question) -> None:
        other, _ = await pair.asked()
        pipe, _ = await pair.asked()
        await pipe.send(write_question(question))
        async with asyncio.timeout(WAIT_S):
            record = await pipe.receive()
        assert record is None or read_proposal(record, None).ids == ()
        assert len((await drafted(other, Question(0, TEXT, 2))).ids) == 2
        for one in (pipe, other):
            one.close()

    async def test_a_killed_process_ends_its_conversations_and_another_one_drafts(self, pair: Pair) -> None:
        pipe, _ = await pair.asked()
        before = await drafted(pipe, Question(0, TEXT, 4))
        assert pair.engine.pid is not None
        os.kill(pair.engine.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            assert await pipe.receive() is None
            while pair.engine.status.state is EngineState.READY:
                await pair.engine.changed()
        await pair.offered()
        pipe.close()
        async with asyncio.timeout(WAIT_S):
            while isinstance((asked := await pair.asked())[1], Refused):
                asked[0].close()
                await asyncio.sleep(0.05)
        assert (await drafted(asked[0], Question(0, TEXT, 4))).ids == before.ids
        asked[0].close()
