"""Deciders of memory prediction: the allocator's walk, caches, shares of layers, command lines, logs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.gguf import ModelFile, read_header
from llm.memory.check import check, predict
from llm.memory.command_line import read_command_line
from llm.memory.footprint import footprint, placement
from llm.memory.graph import F32, Graph, Node, buffer_bytes, view
from llm.memory.need import GPU_CONTEXT_BYTES, MARGIN_SHARE, PROCESS_BYTES, UNSURE_SHARE, need
from llm.memory.reported import read_reported
from llm.memory.settings import EngineSettings, kv_bytes, sizes, window_cells
from llm.memory.shape import UnknownShape, read_shape
from tests.llm.architectures import MAMBA, PLANS, write_architecture

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    folder = tmp_path_factory.mktemp("architectures")
    names = ("llama", "gemma3", "llama-q4_0", "qwen2", "mixtral")
    return {name: read_header(write_architecture(folder / f"{name}.gguf", PLANS[name])) for name in names}


# The allocator


def tensor(kib: int, *reads: Node, in_place: bool = False, device: int = 0) -> Node:
    return Node((kib * KIB // F32,), F32, reads, may_overwrite=in_place, device=device)


def peak_kib(*ends: Node, devices: int = 1, copies: int = 1) -> list[float]:
    graph = Graph()
    for end in ends:
        graph.expand(end)
    return [size / KIB for size in buffer_bytes(graph, (32,) * devices, copies)]


def test_memory_that_nobody_reads_again_is_used_again() -> None:
    chain = tensor(1, tensor(1, tensor(1, tensor(1))))
    assert peak_kib(chain) == [2]


def test_operation_in_place_takes_no_memory_of_its_own() -> None:
    assert peak_kib(tensor(8, tensor(8), in_place=True)) == [8]


def test_operand_that_is_read_again_is_not_overwritten() -> None:
    shared = tensor(8)
    assert peak_kib(tensor(8, tensor(8, shared, in_place=True), shared)) == [24]


def test_operation_on_a_view_is_not_in_place() -> None:
    # ggml owns no view, so it takes another tensor for the result although nobody else reads the first.
    source = tensor(8)
    assert peak_kib(tensor(8, view(source, source.shape), in_place=True)) == [16]


def test_view_keeps_its_source_alive() -> None:
    source = tensor(8)
    seen = view(source, (KIB,))
    assert peak_kib(tensor(1, tensor(8, tensor(8)), seen)) == [17]


def test_best_fitting_gap_is_taken() -> None:
    large, wall, small, other_wall = tensor(16), tensor(1), tensor(4), tensor(1)
    freed = tensor(1, large, small)
    # Taken from the large gap, the small one would leave no room for the large one.
    small_again, large_again = tensor(4, freed), tensor(16, freed)
    end = tensor(1, small_again, large_again, wall, other_wall)
    assert peak_kib(large, wall, small, other_wall, freed, small_again, large_again, end) == [23]


def test_what_crosses_to_another_device_takes_room_on_both() -> None:
    source = tensor(8, device=1)
    assert peak_kib(tensor(2, source), devices=2) == [10, 8]


def test_devices_that_work_at_once_hold_four_copies_of_what_crosses() -> None:
    source = Node((2 * KIB,), F32, is_input=True, device=1)
    assert peak_kib(tensor(2, source), devices=2, copies=4) == [4 * 8 + 2, 4 * 8]


# Caches


@pytest.mark.parametrize(
    ("told", "cells", "streams"),
    [
        (EngineSettings(4096, 2), 2048, 2),
        (EngineSettings(4096, 2, is_unified=True), 4096, 1),
        (EngineSettings(300, 3), 256, 3),
        (EngineSettings(0, 2), 8192, 2),
        (EngineSettings(100, 1), 256, 1),
    ],
)
def test_cells_are_rounded_as_llama_cpp_does(told: EngineSettings, cells: int, streams: int) -> None:
    result = sizes(told, 8192)
    assert (result.cells, result.streams) == (cells, streams)


def test_cache_of_windowed_layers_holds_the_window_and_one_batch() -> None:
    one = EngineSettings(32768, 1)
    four = EngineSettings(32768, 4, is_unified=True)
    assert window_cells(one, sizes(one, 0), 1024) == 1024 + 512
    assert window_cells(four, sizes(four, 0), 1024) == 4 * 1024 + 512
    assert window_cells(EngineSettings(32768, 1, whole_window=True), sizes(one, 0), 1024) == 32768


def test_cache_bytes_are_layers_heads_size_context_and_type(files: dict[str, ModelFile]) -> None:
    plan, f16 = PLANS["llama"], EngineSettings(4096, 1)
    (found,) = footprint(files["llama"], f16)
    assert found.cache == plan.layers * 2 * plan.kv_heads * plan.head_size * 4096 * 2
    (quantised,) = footprint(files["llama"], dataclasses.replace(f16, key_type="q8_0", value_type="q4_0"))
    assert quantised.cache == found.cache // 4 * (34 + 18) // 32
    assert kv_bytes("q8_0", 32) == 34


def test_windowed_layers_cost_less_with_a_long_context(files: dict[str, ModelFile]) -> None:
    plan = PLANS["gemma3"]
    (found,) = footprint(files["gemma3"], EngineSettings(65536, 1))
    cell = 2 * plan.kv_heads * plan.head_size * 2
    assert found.cache == cell * (1 * 65536 + 6 * (1024 + 512))


# Shares of layers


@pytest.mark.parametrize(
    ("shares", "devices", "output"),
    [
        ((1.0,), (0,) * 8, 0),
        ((2.0, 1.0), (0, 0, 0, 0, 0, 0, 1, 1), 1),
        ((0.67, 0.33), (0, 0, 0, 0, 0, 0, 0, 1), 1),
        ((1.0, 1.0, 1.0), (0, 0, 0, 1, 1, 1, 2, 2), 2),
    ],
)
def test_layers_go_where_tensor_split_sends_them(
    shares: tuple[float, ...], devices: tuple[int, ...], output: int
) -> None:
    place = placement(8, shares)
    assert (place.layers, place.output, place.host) == (devices, output, len(shares))


def test_layers_kept_by_the_host_come_first() -> None:
    assert placement(4, (1.0,), host_layers=3).layers == (1, 1, 1, 0)


def test_split_holds_the_same_weights_plus_a_second_embedding_when_tied(files: dict[str, ModelFile]) -> None:
    told = EngineSettings(4096, 1, repacks=False)
    for name, extra in (("llama", 0), ("qwen2", 1)):
        (alone,), parts = footprint(files[name], told), footprint(files[name], told, (0.5, 0.5))
        embedding = next(each for each in files[name].tensors if each.name == "token_embd.weight")
        spread = sum(part.weights for part in parts)
        assert spread == pytest.approx(alone.weights + extra * embedding.size_bytes, rel=0.01)


def test_repacking_for_the_cpu_is_counted_and_can_be_left_out(files: dict[str, ModelFile]) -> None:
    (packed,) = footprint(files["llama-q4_0"], EngineSettings(4096, 1))
    (plain,) = footprint(files["llama-q4_0"], EngineSettings(4096, 1, repacks=False))
    assert plain.weights <= files["llama-q4_0"].file_bytes < packed.weights


# The need


def test_margin_is_stated_apart(files: dict[str, ModelFile]) -> None:
    (part,) = footprint(files["llama"], EngineSettings(4096, 2))
    found = need(files["llama"], EngineSettings(4096, 2))
    assert found.predicted == part.total
    assert found.margin == PROCESS_BYTES + int(part.total * MARGIN_SHARE)
    assert found.total == found.on(0) == found.predicted + found.margin
    split = need(files["llama"], EngineSettings(4096, 2), (1.0,))
    assert split.margins[0] >= GPU_CONTEXT_BYTES


def test_projector_is_on_the_first_device(files: dict[str, ModelFile]) -> None:
    size = sum(each.size_bytes for each in files["qwen2"].tensors)
    told = EngineSettings(4096, 2)
    without = need(files["llama"], told, (1.0,))
    with_projector = need(files["llama"], told, (1.0,), projector=files["qwen2"])
    assert with_projector.parts[0].weights - without.parts[0].weights == size


def test_part_that_is_not_outlined_is_named_and_widens_the_margin(files: dict[str, ModelFile]) -> None:
    file = files["llama"]
    strange = dataclasses.replace(file.tensors[-1], name="blk.0.ssm_in.weight", shape=(256, 1024))
    found = need(dataclasses.replace(file, tensors=(*file.tensors, strange)), EngineSettings(4096, 2))
    assert found.unsure == ("ssm_",)
    assert found.margin == PROCESS_BYTES + int(found.predicted * UNSURE_SHARE)


def test_file_that_says_too_little_is_refused_by_name(files: dict[str, ModelFile]) -> None:
    with pytest.raises(UnknownShape, match=r"llama\.block_count, got None"):
        read_shape(dataclasses.replace(files["llama"], metadata={}))
    with pytest.raises(UnknownShape, match=r"token_embd\.weight"):
        read_shape(dataclasses.replace(files["llama"], tensors=()))


def test_layers_without_heads_have_nothing_to_rotate(tmp_path: Path) -> None:
    file = read_header(write_architecture(tmp_path / "mamba.gguf", MAMBA))
    quantised = need(file, EngineSettings(1024, 2, "q8_0", "q8_0"))
    assert quantised.parts[0].cache == need(file, EngineSettings(1024, 2)).parts[0].cache > 0
    assert quantised.unsure == ("ssm_",)


NUMBERS: tuple[str, ...] = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
NUMBERS += ("expert_used_count", "attention.key_length", "attention.value_length", "attention.sliding_window")
SHAPES = st.lists(st.sampled_from([0, 1, 5, 64, 1 << 20]), max_size=4).map(tuple)


@settings(max_examples=100, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(NUMBERS), st.sampled_from([0, 1, 2, 3, 8, -1, 1 << 31, 1 << 50, "", True])),
    dropped=st.sets(st.integers(0, 60)),
    bent=st.dictionaries(st.integers(0, 60), SHAPES),
    told=st.sampled_from([EngineSettings(1024, 2), EngineSettings(100, 3, "q8_0", "q4_0", flash_attention=False)]),
)
def test_strange_file_gives_a_number_or_a_reason(
    files: dict[str, ModelFile],
    changes: dict[str, int | str],
    dropped: set[int],
    bent: dict[int, tuple[int, ...]],
    told: EngineSettings,
) -> None:
    for file in files.values():
        metadata = file.metadata | {f"{file.architecture}.{key}": value for key, value in changes.items()}
        shaped = [dataclasses.replace(each, shape=bent.get(at, each.shape)) for at, each in enumerate(file.tensors)]
        kept = tuple(each for at, each in enumerate(shaped) if at not in dropped)
        try:
            found = need(dataclasses.replace(file, metadata=metadata, tensors=kept), told, (1.0,))
        except UnknownShape as reason:
            assert str(file.paths[0]) in str(reason)
        else:
            assert found.total > 0


# What the engine is told and says


def test_command_line_is_read_with_its_short_names() -> None:
    argv = "llama-server -m m.gguf -c 4096 -np 2 -ctk q8_0 -ctv q4_0 -fa off -ub 128 --no-repack -ngl 20 --offline"
    found = read_command_line(argv.split())
    told = EngineSettings(4096, 2, "q8_0", "q4_0", flash_attention=False, micro_batch_tokens=128, repacks=False)
    assert (found.model, found.settings, found.gpu_layers) == (Path("m.gguf"), told, 20)


def test_server_that_is_told_nothing_takes_four_slots_in_one_cache() -> None:
    assert read_command_line(["llama-server", "-m", "m.gguf"]).settings == EngineSettings(0, 4, is_unified=True)


def test_rpc_servers_share_as_told_or_alike() -> None:
    told = read_command_line(["x", "--rpc", "a:1,b:2", "-ts", "0.67,0.33", "--n-gpu-layers", "-1"])
    assert (told.shares, told.gpu_layers) == ((0.67, 0.33), -1)
    assert read_command_line(["x", "--rpc", "a:1,b:2"]).shares == (1.0, 1.0)


def test_own_gpus_come_after_rpc_servers() -> None:
    told = read_command_line(["x", "--rpc", "a:1", "-ts", "0.25,0.75"], own_devices=1)
    assert told.shares == (0.25, 0.75)
    assert read_command_line(["x", "-ngl", "99"], own_devices=1).shares == (1.0,)
    assert read_command_line(["x", "-ngl", "99"]).shares == ()


def test_engine_on_a_gpu_is_checked_as_such(files: dict[str, ModelFile]) -> None:
    model = str(files["qwen2"].paths[0])
    argv = ["x", "-m", model, "-c", "4096", "-np", "2", "-ngl", "99"]
    on_gpu = check("m", argv, LOG.replace("RPC0[127.0.0.1:50052]", "CUDA0"))
    assert on_gpu is not None
    assert [part.name for part in on_gpu.predicted.parts] == ["device 0", "host"]


def test_draft_proposes_only_when_it_is_asked_to() -> None:
    asked = read_command_line(["x", "-md", "d.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "8"])
    assert (asked.draft, asked.settings.drafts) == (Path("d.gguf"), 8)
    assert read_command_line(["x", "-md", "d.gguf"]).settings.drafts == 0


def test_wrong_cache_type_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a cache type of"):
        read_command_line(["x", "-ctk", "q3_9"])


LOG = """0.0 I load_tensors:   CPU_Mapped model buffer size =     2.70 MiB
0.0 I load_tensors: RPC0[127.0.0.1:50052] model buffer size =    10.00 MiB
0.0 I llama_context:        CPU  output buffer size =     0.01 MiB
0.0 I llama_kv_cache:        CPU KV buffer size =     6.00 MiB
0.0 I llama_kv_cache:        CPU KV buffer size =     1.00 MiB
0.0 I sched_reserve:        CPU compute buffer size =     6.51 MiB
"""


def test_sizes_are_read_from_the_log() -> None:
    found = read_reported(LOG)
    assert found is not None
    assert [found.weights, found.cache, found.compute] == [round(x * MIB) for x in (12.7, 7, 6.51)]
    assert found.of_device["RPC0[127.0.0.1:50052]"] == 10 * MIB
    assert found.total == pytest.approx(26.22 * MIB, abs=10)


def test_buffer_worked_out_again_replaces_the_one_before() -> None:
    again = read_reported(LOG + "0.1 I sched_reserve:        CPU compute buffer size =     8.00 MiB\n")
    assert again is not None
    assert again.compute == 8 * MIB


def test_second_context_is_added() -> None:
    twice = read_reported(LOG + LOG)
    once = read_reported(LOG)
    assert once is not None
    assert twice is not None
    assert twice.total == 2 * once.total


def test_log_without_sizes_says_nothing() -> None:
    assert read_reported("llama-server: listening") is None
    assert check("m", ["x"], "llama-server: listening") is None


def test_large_error_is_a_warning(files: dict[str, ModelFile], caplog: pytest.LogCaptureFixture) -> None:
    model = str(files["llama"].paths[0])
    expected = predict(["x", "-m", model]).predicted
    result = check("m", ["x", "-m", model], LOG)
    assert result is not None
    assert result.error == pytest.approx(expected / (26.22 * MIB) - 1, rel=1e-3)
    assert "MiB predicted" in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelname == "WARNING"


def test_model_that_cannot_be_predicted_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert check("m", ["x", "-m", str(tmp_path / "absent.gguf")], LOG) is None
