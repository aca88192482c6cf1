"""GGUF heads are read, and a damaged or missing file is named with what is wrong."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm.gguf import BadModelFile, read_header, split_parts
from llm.tensor_types import tensor_bytes
from tests.llm.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", context_tokens=2048)


def test_head_is_what_the_gguf_package_wrote_and_reads(tiny: Path) -> None:
    model = read_header(tiny)
    reader = gguf.GGUFReader(tiny)
    assert (model.name, model.architecture, model.context_length) == ("tiny", "llama", 2048)
    assert model.file_bytes == tiny.stat().st_size
    assert model.has_chat_template
    assert model.header_bytes <= reader.data_offset < model.header_bytes + 32
    assert model.metadata["llama.block_count"] == 2
    assert model.metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


def test_vocabulary_digest_is_of_the_tokens_alone(tmp_path: Path, tiny: Path) -> None:
    other = write_tiny_gguf(tmp_path / "other.gguf", width=32, layers=1, seed=9)
    assert read_header(other).vocabulary_digest == read_header(tiny).vocabulary_digest
    different = tmp_path / "different.gguf"
    different.write_bytes(tiny.read_bytes().replace(b"<0x41>", b"<0x4!>"))
    assert read_header(different).vocabulary_digest != read_header(tiny).vocabulary_digest


def test_file_cut_anywhere_is_said_to_be_cut_short(tmp_path: Path, tiny: Path) -> None:
    data = tiny.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 23, 24, 60, 1000, read_header(tiny).header_bytes, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(BadModelFile, match=r"cut\.gguf: (cut short|only \d+ bytes)"):
            read_header(cut)


def test_not_gguf_not_there_not_a_known_version(tmp_path: Path, tiny: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_bytes(b"<html>not found</html>" * 4)
    with pytest.raises(BadModelFile, match="does not begin with GGUF"):
        read_header(page)
    with pytest.raises(BadModelFile, match="no such file"):
        read_header(tmp_path / "absent.gguf")
    with pytest.raises(BadModelFile, match=r"folder|directory|no such file"):
        read_header(tmp_path)
    old = tmp_path / "old.gguf"
    old.write_bytes(b"GGUF" + struct.pack("<I", 1) + tiny.read_bytes()[8:])
    with pytest.raises(BadModelFile, match="version 2 or 3, got 1"):
        read_header(old)


def test_counts_beyond_reason_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    greedy = tmp_path / "greedy.gguf"
    greedy.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60))
    with pytest.raises(BadModelFile, match="metadata keys"):
        read_header(greedy)


def test_missing_part_of_a_split_model_is_named(tmp_path: Path, tiny: Path) -> None:
    first = tmp_path / "m-00001-of-00003.gguf"
    for number in (1, 3):
        (tmp_path / f"m-0000{number}-of-00003.gguf").write_bytes(tiny.read_bytes())
    with pytest.raises(BadModelFile, match=r"part m-00002-of-00003\.gguf of 3 is missing"):
        read_header(first)


def test_whole_split_model_counts_every_part(tmp_path: Path, tiny: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(tiny.read_bytes())
    model = read_header(tmp_path / "m-00001-of-00002.gguf")
    assert model.file_bytes == 2 * tiny.stat().st_size
    assert [path.name for path in model.paths] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_a_later_part_is_refused_with_the_first_ones_name() -> None:
    with pytest.raises(BadModelFile, match=r"name its first part, m-00001-of-00003\.gguf"):
        split_parts(Path("m-00002-of-00003.gguf"))


def test_a_part_that_lost_its_name_is_recognised_by_its_metadata(tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.gguf"
    writer = gguf.GGUFWriter(renamed, "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadModelFile, match="one of 3 parts"):
        read_header(renamed)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 9600), noise=st.binary(min_size=1, max_size=16))
def test_a_damaged_head_is_read_or_refused(tmp_path: Path, tiny: Path, place: int, noise: bytes) -> None:
    data = tiny.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data[:place] + noise + data[place + len(noise) :])
    try:
        read_header(damaged)
    except BadModelFile as error:
        assert "damaged.gguf" in str(error)


def test_tensor_sizes_agree_with_the_gguf_package() -> None:
    never_in_files = {gguf.GGMLQuantizationType.Q8_1}
    for kind, (elements, size) in gguf.GGML_QUANT_SIZES.items():
        if kind not in never_in_files:
            assert tensor_bytes(int(kind), 3 * elements) == 3 * size, kind.name
    assert tensor_bytes(9999, 100) == 0


def test_tensors_and_short_lists_are_what_the_gguf_package_reads(tmp_path: Path, tiny: Path) -> None:
    model, reader = read_header(tiny), gguf.GGUFReader(tiny)
    theirs = [
        (each.name, tuple(int(size) for size in each.shape), each.tensor_type, each.data_offset)
        for each in reader.tensors
    ]
    assert [(each.name, each.shape, each.kind, each.offset) for each in model.tensors] == theirs
    assert [each.size_bytes for each in model.tensors] == [each.n_bytes for each in reader.tensors]
    # The scores of the tokens are numbers, and few here.
    assert set(model.lists) == {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}
    assert model.lists["tokenizer.ggml.token_type"][:4] == (2, 3, 3, 6)
