"""A worker that has the same file takes its tensors from its own disk; one with other bytes is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy
import pytest

from meshd.local_agents import LocalAgents
from tests.llm.tiny_gguf import write_tiny_gguf
from tools.scenarios.stage import ask, entry, now, until_served

pytestmark = pytest.mark.timeout(400)

PATIENCE_S = 120.0
SERVES = ("--ctx", "256", "--parallel", "1", "--threads", "1", "--split", "--model")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 300 MiB, its matrices above llama.cpp's threshold; of two equal parts the worker's has one layer."""
    folder = tmp_path_factory.mktemp("leader")
    return write_tiny_gguf(folder / "wide.gguf", width=2304, layers=3, matrix_type=numpy.float16)


async def test_large_tensors_do_not_cross_the_wire(wide: Path, agents: LocalAgents, tmp_path: Path) -> None:
    own, size = tmp_path / "wide.gguf", wide.stat().st_size  # noqa: ASYNC240
    shutil.copyfile(wide, own)
    async with (
        agents.start("large", [*SERVES, str(wide), "--vram-limit", "2"]) as large,
        agents.start("small", [*SERVES, str(own), "--vram-limit", "2", "--join", await large.token("member")]) as small,
    ):
        await until_served(small, "wide", "split", PATIENCE_S)
        (link,) = (await now(small))["links"]
        answer = await ask(small, "wide", "Say", tokens=4)

        crossed = link["bytes_sent"] + link["bytes_received"]
        assert crossed < 0.02 * size
        assert answer.headers["x-meshd-mode"] == "split"
        held = [file.stat().st_size for agent in (large, small) for file in agent.directory.glob("rpc-cache/*/rpc/*")]
        assert sum(held) > 0.25 * size


async def test_another_file_of_the_same_name_is_refused_by_name(
    wide: Path, agents: LocalAgents, tmp_path: Path
) -> None:
    other = write_tiny_gguf(tmp_path / "wide.gguf", width=64, layers=1)
    async with (
        agents.start("large", [*SERVES, str(wide), "--vram-limit", "2"]) as large,
        agents.start("small", [*SERVES, str(other), "--vram-limit", "1", "--join", await large.token("member")]),
    ):
        status = await large.until(lambda status: "no split" in entry(status, "wide").get("reason", ""), PATIENCE_S)

    reason = entry(status, "wide")["reason"]
    assert "another file is called 'wide' here" in reason
    assert "a different quantisation" in reason and "small" in reason
