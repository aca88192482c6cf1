"""What memory a model takes is predicted within 5 % of what the real engine says it allocated.

Each architecture meets three of the options, each option six architectures; `python -m bench.memory` has them all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from llm.gguf import read_header
from llm.memory.check import MemoryCheck, check, predict
from llm.memory.command_line import read_command_line
from llm.memory.footprint import footprint
from llm.memory.reported import read_reported
from tests.llm.architectures import MAMBA, PLANS, write_architecture
from tests.llm.engine_loads import gpu_devices, load, rpc_servers

pytestmark = pytest.mark.live

TOLERANCE = 0.05
ROUNDING_BYTES = 10_000  # the engine says hundredths of a MiB

OPTIONS: dict[str, tuple[str, ...]] = {
    "untold": (),
    "two slots": ("-c", "4096", "--parallel", "2", "-fa", "on"),
    "one cache for all": ("-c", "4096", "--parallel", "4", "--kv-unified", "-fa", "on"),
    "long": ("-c", "16384", "--parallel", "1", "-fa", "on"),
    "no flash attention": ("-c", "6000", "--parallel", "2", "-fa", "off"),
    "q8_0 cache": ("-c", "8192", "--parallel", "4", "-fa", "on", "-ctk", "q8_0", "-ctv", "q8_0"),
    "q4_0 cache, small batches": ("-c", "2048", "--parallel", "3", "-ub", "128", "-ctk", "q4_0", "-ctv", "q4_0"),
    "short": ("-c", "300", "--parallel", "1"),
}


def spread(name: str) -> list[str]:
    """Three options for an architecture, another three for the next."""
    options, at = list(OPTIONS), list(PLANS).index(name)
    return [options[(at + step) % len(options)] for step in (0, 2, 5)]


CASES = [(name, option) for name in PLANS for option in spread(name)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("architectures")
    return {name: write_architecture(folder / f"{name}.gguf", plan) for name, plan in PLANS.items()}


def checked(name: str, model: Path, arguments: tuple[str, ...], folder: Path) -> MemoryCheck:
    log, argv = load(model, arguments, folder)
    result = check(name, argv, log)
    assert result is not None, log[-2000:]
    return result


@pytest.mark.parametrize(("name", "option"), CASES)
def test_prediction_is_what_the_engine_allocates(
    name: str, option: str, models: dict[str, Path], tmp_path: Path
) -> None:
    result = checked(name, models[name], OPTIONS[option], tmp_path)
    part, said = result.predicted.parts[-1], result.reported
    assert abs(result.error) < TOLERANCE
    # No part may make up for another.
    assert part.weights == pytest.approx(said.weights, rel=TOLERANCE)
    assert part.cache == pytest.approx(said.cache, rel=TOLERANCE)
    assert part.output == pytest.approx(said.output, rel=TOLERANCE, abs=ROUNDING_BYTES)
    if not result.predicted.unsure:
        assert part.compute == pytest.approx(said.compute, rel=TOLERANCE, abs=ROUNDING_BYTES)


def test_recurrent_layers_have_their_weights_and_their_state_predicted(tmp_path: Path) -> None:
    model = write_architecture(tmp_path / "mamba.gguf", MAMBA)
    result = checked("mamba", model, OPTIONS["two slots"], tmp_path)
    part, said = result.predicted.parts[-1], result.reported
    assert part.weights == pytest.approx(said.weights, rel=TOLERANCE)
    assert part.cache == pytest.approx(said.cache, rel=TOLERANCE)
    # How much work its layers need is only guessed, and the margin says so.
    assert result.predicted.total > said.total


def test_every_option_meets_several_architectures() -> None:
    assert min([option for _, option in CASES].count(option) for option in OPTIONS) >= 5
    assert len(PLANS) >= 8


def test_draft_model_counts_with_its_own_cache_and_buffers(models: dict[str, Path], tmp_path: Path) -> None:
    arguments = ("-c", "4096", "--parallel", "2", "-md", str(models["llama"]), "--spec-type", "draft-simple")
    result = checked("mixtral", models["mixtral"], arguments, tmp_path)
    alone = predict(["-m", str(models["mixtral"]), "-c", "4096", "--parallel", "2"])
    assert abs(result.error) < TOLERANCE
    assert result.predicted.predicted > 1.3 * alone.predicted


def test_the_draft_of_a_command_line_of_ours_is_predicted(models: dict[str, Path], tmp_path: Path) -> None:
    """As `llm.engines.llama_server` writes it: computed on the CPU, with a cache type of its own."""
    draft = ("--spec-type", "draft-simple", "--spec-draft-model", str(models["llama"]), "--spec-draft-device", "none")
    result = checked(
        "mixtral",
        models["mixtral"],
        ("-c", "4096", "--parallel", "2", "-ctk", "q8_0", "-ctv", "q8_0", *draft),
        tmp_path,
    )
    assert abs(result.error) < TOLERANCE


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen2"])
@pytest.mark.parametrize("shares", [(1.0,), (0.67, 0.33)])
def test_each_device_of_a_split_is_predicted(
    name: str, shares: tuple[float, ...], models: dict[str, Path], tmp_path: Path
) -> None:
    with rpc_servers(len(shares), tmp_path) as servers:
        split = ("--rpc", ",".join(servers), "--tensor-split", ",".join(map(str, shares)), "-ngl", "99")
        result = checked(name, models[name], ("-c", "4096", "--parallel", "2", *split), tmp_path)
    assert abs(result.error) < TOLERANCE
    for address, part in zip(servers, result.predicted.parts, strict=False):
        assert part.total == pytest.approx(result.reported.of_device[f"RPC0[{address}]"], rel=TOLERANCE)


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_devices(), reason="the engine sees no GPU; `just engine cuda` builds one that does")
@pytest.mark.parametrize("option", ["two slots", "one cache for all", "no flash attention"])
@pytest.mark.parametrize("name", PLANS)
def test_prediction_for_a_gpu(name: str, option: str, models: dict[str, Path], tmp_path: Path) -> None:
    log, argv = load(models[name], (*OPTIONS[option], "-ngl", "99", "--device", "CUDA0"), tmp_path)
    said = read_reported(log)
    assert said is not None
    on_gpu = footprint(read_header(models[name]), read_command_line(argv).settings, (1.0,))[0]
    assert on_gpu.total == pytest.approx(said.of_device["CUDA0"], rel=TOLERANCE)
