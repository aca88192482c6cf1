"""`meshd plan` as a person types it, before a mesh of two small nodes and without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.local_agents import LocalAgents
from tests.live.test_cli import at, meshd
from tests.llm.architectures import Plan, write_architecture

SMALL = ("--ctx", "256", "--parallel", "1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """About 33 MB, in layers that two nodes of 25 MB can share."""
    return write_architecture(tmp_path / "large.gguf", Plan("llama", layers=8, width=512, heads=8, vocabulary=2000))


async def test_two_small_nodes_are_told_to_split_and_one_large_to_serve_alone(agents: LocalAgents, model: Path) -> None:
    async with agents.start("founder", ["--vram-limit", "0.03"]) as founder:
        joins = ["--join", await founder.token("member"), "--vram-limit", "0.025"]
        async with agents.start("member", joins) as member:
            await founder.until(lambda status: bool(status["peers"]) and status["peers"][0]["vram"]["total_gb"], 60)
            told = await meshd("plan", str(model), *SMALL, "--json", "--data-dir", at(founder))
            shown = await meshd("plan", str(model), *SMALL, "--data-dir", at(member))
            tiny = await meshd("plan", str(model), *SMALL, "--parallel", "64", "--data-dir", at(founder))
    best = told.json["choices"][0]
    assert (told.json["asked"], best["kind"], best["advised"]) == ("mesh", "split", True)
    assert [each["name"] for each in best["nodes"]] == ["founder", "member"]
    assert sum(each["layers"] for each in best["nodes"]) == 9
    assert best["tokens_per_s"]["low"] < best["tokens_per_s"]["likely"] < best["tokens_per_s"]["high"]
    alone = [choice for choice in told.json["choices"] if choice["kind"] == "solo"]
    assert all("GB short" in choice["reason"] for choice in alone)
    assert "advised" in shown.out
    assert "k Σ RTT" in shown.out
    assert "GB short" in tiny.out


async def test_a_model_that_another_node_has_is_planned_by_its_name(agents: LocalAgents, model: Path) -> None:
    async with agents.start("founder", ["--lazy", str(model), *SMALL]) as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await member.until(lambda status: bool(status["models"]) and bool(status["peers"]), 60)
            told = await meshd("plan", "large", *SMALL, "--json", "--data-dir", at(member))
            same = await meshd("plan", str(model), *SMALL, "--json", "--data-dir", at(member))
            unknown = await meshd("plan", "nobody", "--data-dir", at(member))
        assert not list((member.directory / "models").rglob("head-*"))
    assert told.status == 0, told.err
    assert told.json["memory"] == same.json["memory"]
    assert (unknown.status, "no model 'nobody'" in unknown.err) == (1, True)


async def test_without_an_agent_this_host_is_asked(model: Path, tmp_path: Path) -> None:
    told = await meshd("plan", str(model), "--json", "--data-dir", str(tmp_path / "none"))
    assert (told.status, told.json["asked"]) == (0, "this host alone")
    assert told.json["choices"][0]["advised"]
    absent = await meshd("plan", str(tmp_path / "absent.gguf"), "--data-dir", str(tmp_path / "none"))
    assert absent.status == 1
    assert "no such file" in absent.err
