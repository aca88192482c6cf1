"""The control command `plan`: the mesh as candidates, a file as a question, and words where it cannot be read."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gossip.facts import GPU, Device, GpuFact
from gossip.view import NodeView, Status
from llm.device_speed import known_bytes_per_s, measure_bytes_per_s
from llm.digest import fingerprint
from llm.engines.interface import Drafting
from llm.gguf import read_header
from llm.offer import MODELS_FACT, encode_offers
from meshd.control import CommandFailed
from meshd.datadir import DataDir
from meshd.memory_speed import MemorySpeed, own_speed, speed_of
from meshd.model_reader import KnownModel, NotRead
from meshd.planning import PlanCommand, PlanRequest, plan_offline
from meshd.poc_status import Proof, Proofs
from meshd.status import Situation
from tests.llm.architectures import Plan, write_architecture
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.meshd.test_status import HOST, LAPTOP, node, situation, toy
from transport.interface import Role
from transport.wire import encode

MIB = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    """With a speed on disk, so that no test measures."""
    made = DataDir(tmp_path / "data")
    made.create()
    made.write("memory-speed", json.dumps({"bytes_per_s": 20e9, "cores": os.cpu_count()}).encode())
    return made


def with_free(one: NodeView, mib: float, kind: str = "cpu") -> NodeView:
    device = Device("RAM", kind, int(2 * mib * MIB), int(mib * MIB))  # type: ignore[arg-type]
    return replace(one, facts={**one.facts, GPU: encode(GpuFact((device,)))})


def mesh_of(mine: float, *others: NodeView) -> Situation:
    now = situation(*others)
    return replace(now, view=replace(now.view, nodes=(with_free(now.view.me, mine), *now.view.nodes[1:])))


async def ask(now: Situation, directory: DataDir, path: Path, **more: Any) -> dict[str, Any]:
    return await PlanCommand(lambda: now, directory, unread).answer({"path": str(path), **more})


async def unread(named: str) -> KnownModel:
    raise NotRead(f"there is no model {named!r}")


async def test_every_member_is_a_choice_and_clients_and_the_dead_are_not(model: Path, directory: DataDir) -> None:
    near = with_free(node(HOST, "host"), 500)
    laptop = with_free(node(LAPTOP, "laptop", Role.CLIENT), 500)
    dead = replace(with_free(node(LAPTOP, "dead"), 500), status=Status.DEAD)
    found = await ask(mesh_of(400, near, laptop, dead), directory, model)
    alone = [choice["nodes"][0]["name"] for choice in found["choices"] if choice["kind"] == "solo"]
    assert sorted(alone) == ["host", "me"]
    assert [choice["advised"] for choice in found["choices"]].count(True) == 1


async def test_who_is_believed_half_is_half_as_fast_and_who_is_not_believed_is_no_choice(
    model: Path, directory: DataDir
) -> None:
    now = mesh_of(400, with_free(node(HOST, "host"), 500))

    async def speed_of_host(believed: float) -> float | None:
        proofs = Proofs(by_node={HOST: Proof(believed=believed)})
        choices = (await ask(replace(now, proofs=proofs), directory, model))["choices"]
        found = [one["tokens_per_s"]["likely"] for one in choices if one["nodes"][0]["name"] == "host"]
        return found[0] if found else None

    whole, half = await speed_of_host(1.0), await speed_of_host(0.5)
    assert whole is not None
    assert half == pytest.approx(whole / 2, rel=0.01)
    assert await speed_of_host(0.0) is None


async def test_memory_is_given_item_by_item(model: Path, directory: DataDir) -> None:
    found = await ask(mesh_of(400), directory, model, ctx=4096, parallel=2)
    memory, solo = found["memory"], next(one for one in found["choices"] if one["kind"] == "solo")
    parts = sum(memory[f"{part}_gb"] for part in ("weights", "cache", "compute", "output", "kept", "margin"))
    assert memory["total_gb"] == pytest.approx(parts, abs=4e-4)
    assert solo["nodes"][0]["needed_gb"] == pytest.approx(memory["total_gb"], abs=1e-3)


async def test_too_big_for_one_is_split_waits_or_is_refused(tmp_path: Path, directory: DataDir) -> None:
    large = write_architecture(tmp_path / "large.gguf", Plan("llama", layers=8, width=512, heads=8, vocabulary=2000))
    small = {"ctx": 256, "parallel": 1}
    alone = (await ask(mesh_of(400), directory, large, **small))["choices"][0]["nodes"][0]["needed_gb"] * 1024
    found = await ask(mesh_of(0.8 * alone, with_free(node(HOST, "host"), 0.8 * alone)), directory, large, **small)
    assert found["choices"][0]["kind"] == "split"
    assert sum(each["layers"] for each in found["choices"][0]["nodes"]) == 9
    for share, kind, words in ((0.8, "wait", "GB short"), (0.05, "refuse", "cannot fit")):
        missing = (await ask(mesh_of(share * alone), directory, large, **small))["choices"][0]
        assert (missing["kind"], missing["advised"]) == (kind, True)
        assert words in missing["reason"]


async def test_model_that_is_served_is_measured_there(model: Path, directory: DataDir) -> None:
    file = read_header(model)
    offer = msgspec.structs.replace(toy(), fingerprint=fingerprint(file.paths, file.header_bytes), tokens_per_s=77.0)
    host = with_free(node(HOST, "host", facts={MODELS_FACT: encode_offers([offer])}), 1)
    found = await ask(mesh_of(1, host), directory, model)
    (served,) = (choice for choice in found["choices"] if choice["nodes"][0]["name"] == "host")
    assert (served["reason"], served["basis"]) == ("serves it already", "measured there alone")
    assert served["tokens_per_s"]["likely"] == 77.0


async def test_what_was_measured_of_a_served_models_drafts_is_told(model: Path, directory: DataDir) -> None:
    file = read_header(model)
    offer = msgspec.structs.replace(toy(), fingerprint=fingerprint(file.paths, file.header_bytes))
    drafting = Drafting("n-grams (ngram-simple)", "off", False, 0.9, 40, 3, "off: 0.90 times as fast with them")
    found = await ask(replace(mesh_of(400), offers=(offer,), local_drafts={"toy": drafting}), directory, model)
    assert found["drafts"] == "n-grams (ngram-simple): off: 0.90 times as fast with them"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": "/nowhere/m.gguf"}, "no such file"),
        ({}, "expected path or model"),
        ({"path": "/x", "parallel": "many"}, "Expected `int`"),
        ({"path": "/x", "parallel": 0}, ">= 1"),
        ({"path": "/x", "kv_type": "q1"}, "Invalid enum value"),
    ],
)
async def test_question_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], words: str, directory: DataDir
) -> None:
    with pytest.raises(CommandFailed, match=words):
        await PlanCommand(situation, directory, unread).answer(arguments)


async def test_mesh_of_clients_alone_can_hold_nothing(model: Path, directory: DataDir) -> None:
    now = situation()
    bare = replace(now, view=replace(now.view, nodes=(replace(now.view.me, facts={}),)))
    with pytest.raises(CommandFailed, match="no node here holds models"):
        await ask(bare, directory, model)


def test_without_an_agent_this_host_is_the_only_choice(model: Path, directory: DataDir) -> None:
    found = plan_offline(directory, PlanRequest(str(model)))
    assert [choice["nodes"][0]["name"] for choice in found["choices"]] == ["this host"]


# Memory speed


def test_speed_is_measured_once_and_kept(tmp_path: Path) -> None:
    directory = DataDir(tmp_path / "data")
    directory.create()
    first = own_speed(directory)
    assert first.bytes_per_s > 1e8
    assert own_speed(directory) == first
    assert own_speed(directory).source.endswith("measured")
    directory.write("memory-speed", b"{broken")
    assert own_speed(directory).bytes_per_s > 1e8


def test_command_makes_no_data_directory(tmp_path: Path) -> None:
    own_speed(DataDir(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_gpu_is_known_by_its_name() -> None:
    assert known_bytes_per_s("NVIDIA GeForce RTX 3090") == 936e9
    assert known_bytes_per_s("NVIDIA L40S") == 864e9
    assert known_bytes_per_s("NVIDIA A100-SXM4-80GB") == 2039e9
    assert known_bytes_per_s("RAM") == 0


def test_source_of_a_speed_is_named() -> None:
    own = MemorySpeed(20e9, "RAM of 20 GB/s, measured")
    gpu = GpuFact((Device("NVIDIA GeForce RTX 3090", "cuda", 1, 1), Device("Tesla P40", "cuda", 1, 1)))
    ram = GpuFact((Device("RAM", "cpu", 1, 1),))
    assert speed_of(gpu, own, is_here=False).source == "Tesla P40 of 347 GB/s by its maker"
    assert speed_of(ram, own, is_here=True) == own
    assert "taken to be as here" in speed_of(ram, own, is_here=False).source


def test_measuring_takes_a_moment_and_gives_a_speed() -> None:
    assert 1e8 < measure_bytes_per_s() < 1e13


async def test_a_model_may_be_named_and_who_serves_it_already_is_seen(model: Path, directory: DataDir) -> None:
    file = read_header(model)
    serving = msgspec.structs.replace(toy(), fingerprint="ab" * 32, tokens_per_s=50.0, mode="solo", state="ready")
    host = with_free(node(HOST, "host"), 500)
    host = replace(host, facts={**host.facts, MODELS_FACT: encode_offers([serving])})

    async def read(named: str) -> KnownModel:
        return KnownModel(named, file, "ab" * 32)

    found = await PlanCommand(lambda: mesh_of(400, host), directory, read).answer({"model": "tiny"})
    (best, *_) = [choice for choice in found["choices"] if choice["nodes"][0]["name"] == "host"]
    assert (best["kind"], best["reason"]) == ("solo", "serves it already")


async def test_a_model_that_nobody_knows_is_told(directory: DataDir) -> None:
    with pytest.raises(CommandFailed, match="no model 'x'"):
        await PlanCommand(lambda: mesh_of(400), directory, unread).answer({"model": "x"})
    with pytest.raises(CommandFailed, match="no agent runs here"):
        plan_offline(directory, PlanRequest(model="x"))
