"""What llama-server keeps in RAM of what it has read has a bound that is counted, and is told to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from llm.engines.llama_arguments import LlamaServerOptions, arguments
from llm.engines.llama_binary import LlamaBinary
from llm.gguf import ModelFile, read_header
from llm.memory.footprint import footprint
from llm.memory.host_cache import (
    LEAST_CHECKPOINTS,
    MIB,
    MOST_BESIDE_GPU_BYTES,
    MOST_CHECKPOINTS,
    MOST_IN_RAM_BYTES,
    HostCache,
    host_cache,
)
from llm.memory.settings import EngineSettings
from tests.llm.architectures import MAMBA, PLANS, write_architecture
from tests.llm.engine_loads import serving

SETTINGS = EngineSettings(context_tokens=8192, slots=2)
RAM_BYTES = 64 << 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    folder = tmp_path_factory.mktemp("architectures")
    plans = {name: PLANS[name] for name in ("llama", "gemma3")} | {"mamba": MAMBA}
    return {name: read_header(write_architecture(folder / f"{name}.gguf", plan)) for name, plan in plans.items()}


def test_as_much_again_as_the_slots_hold_is_kept(files: dict[str, ModelFile]) -> None:
    kept = host_cache(files["llama"], SETTINGS, in_ram=True)
    assert kept.prompts_mib == footprint(files["llama"], SETTINGS)[0].cache // MIB
    assert kept.total_bytes(2) == kept.prompts_mib * MIB


@pytest.mark.parametrize(
    ("in_ram", "ram_bytes", "most_bytes"),
    [
        (True, RAM_BYTES, MOST_IN_RAM_BYTES),
        (False, RAM_BYTES, MOST_BESIDE_GPU_BYTES),
        (False, 16 << 30, 2 << 30),
    ],
    ids=["RAM is what models are held in", "the engine's own limit", "little RAM beside a GPU"],
)
def test_a_long_context_keeps_no_more_than_the_host_can_spare(
    in_ram: bool, ram_bytes: int, most_bytes: int, files: dict[str, ModelFile]
) -> None:
    long = replace(SETTINGS, context_tokens=1 << 24)
    kept = host_cache(files["llama"], long, in_ram=in_ram, ram_bytes=ram_bytes)
    assert kept.prompts_mib * MIB == most_bytes


def test_models_that_forget_have_their_checkpoints_counted(files: dict[str, ModelFile]) -> None:
    few = host_cache(files["gemma3"], SETTINGS, in_ram=True)
    assert LEAST_CHECKPOINTS < few.checkpoints <= MOST_CHECKPOINTS
    assert few.total_bytes(2) == few.prompts_mib * MIB + 2 * few.checkpoints * few.checkpoint_bytes
    many = replace(SETTINGS, slots=64)
    assert host_cache(files["gemma3"], many, in_ram=True).checkpoints == LEAST_CHECKPOINTS
    assert host_cache(files["mamba"], SETTINGS, in_ram=True).checkpoint_bytes > 0


def test_a_leader_keeps_no_prompts(files: dict[str, ModelFile]) -> None:
    kept = host_cache(files["gemma3"], SETTINGS, in_ram=True).of_a_leader
    assert (kept.prompts_mib, kept.checkpoints) == (0, LEAST_CHECKPOINTS)
    assert kept.total_bytes(2) > 0


def test_the_engine_is_told_and_left_nothing_to_decide() -> None:
    options = LlamaServerOptions(Path("m.gguf"), "m", Path("m.log"), host_cache=HostCache(64, 7))
    line = " ".join(arguments(LlamaBinary(Path("llama-server"), None), options))
    assert "--fit off --cache-ram 64 --ctx-checkpoints 7" in line


@pytest.mark.live
async def test_a_checkpoint_is_no_larger_than_what_is_counted(files: dict[str, ModelFile], tmp_path: Path) -> None:
    model = files["gemma3"]
    told = ("--ctx-size", "8192", "--parallel", "2", "--cache-ram", "1", "--ctx-checkpoints", "2", "--fit", "off")
    async with serving(model.paths[0], told, tmp_path) as url:
        body = {"prompt": [7] * 3000, "n_predict": 1}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/completion", json=body) as response:
            assert response.status == 200
    log = (tmp_path / "serving.log").read_text()
    sizes = [float(line.rpartition("size = ")[2].split()[0]) for line in log.splitlines() if "created context" in line]
    counted = host_cache(model, SETTINGS, in_ram=True).checkpoint_bytes / MIB
    assert max(sizes) == pytest.approx(counted, rel=0.05)
    assert "size limit: 1 MiB" in log
