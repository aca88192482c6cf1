"""Files: their headers, their lengths, and what is compressed."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import pytest

from forms.circuits.circuit import Limits, load_circuit
from forms.circuits.failures import BadCircuit, CircuitTooLarge
from forms.circuits.framing import MAGIC_ZSTD, read_records
from forms.circuits.kinds import Kind, Operation
from tests.forms.circuits.files import golden_bytes, raw_file, records

ONE = Operation(Kind.X, q_target=0)


def zstd() -> Any:
    return pytest.importorskip("zstandard", reason="zstandard is not installed: the extra cpu-forms brings it")


def zstd_file(operations: list[Operation], body: bytes) -> bytes:
    return MAGIC_ZSTD + len(operations).to_bytes(8, "little") + body


def test_more_than_this_node_takes_is_a_limit_and_not_a_bad_file() -> None:
    with pytest.raises(CircuitTooLarge, match="2 operations"):
        load_circuit(raw_file([ONE, ONE]), Limits(operations=1))


def test_the_count_is_judged_before_the_length() -> None:
    file = raw_file([])[:8] + (4_000_000_001).to_bytes(8, "little")
    with pytest.raises(BadCircuit, match="exceeds cap"):
        load_circuit(file)
    with pytest.raises(CircuitTooLarge):
        load_circuit(file[:8] + (4_000_000_000).to_bytes(8, "little"))


def test_padding_is_not_looked_at() -> None:
    plain, padded = load_circuit(raw_file([ONE])), load_circuit(raw_file([ONE], padding=7))
    assert padded.seed.stream().take(32) == plain.seed.stream().take(32)


def test_the_framing_changes_nothing() -> None:
    zstd()
    plain, packed = load_circuit(golden_bytes("toy_random.bin")), load_circuit(golden_bytes("z_ok.bin"))
    assert packed.seed.stream().take(32) == plain.seed.stream().take(32)


def test_a_raw_file_under_zstd_is_unpacked() -> None:
    whole = zstd().ZstdCompressor().compress(raw_file([ONE, ONE]))
    assert load_circuit(whole).operations == 2


def test_several_frames_read_as_one_stream() -> None:
    pack = zstd().ZstdCompressor().compress
    body = records([ONE, ONE, ONE])
    frames = b"".join(pack(body[start : start + 50]) for start in range(0, len(body), 50)) + pack(b"")
    assert load_circuit(zstd_file([ONE] * 3, frames)).operations == 3


def test_a_stream_cut_short_names_the_operation_that_is_missing() -> None:
    zstd()
    with pytest.raises(BadCircuit) as failure:
        load_circuit(golden_bytes("z_cut.bin"))
    assert failure.value.operation is not None
    assert 0 < failure.value.operation < 5028


def test_an_unfinished_frame_is_refused_though_every_record_came() -> None:
    compressor = zstd().ZstdCompressor().compressobj()
    body = compressor.compress(records([ONE])) + compressor.flush(zstd().COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(BadCircuit, match="not finished"):
        load_circuit(zstd_file([ONE], body))


@pytest.mark.parametrize("extra", [b"\0", bytes(56)])
def test_one_byte_more_than_promised_is_trailing_data(extra: bytes) -> None:
    body = zstd().ZstdCompressor().compress(records([ONE]) + extra)
    with pytest.raises(BadCircuit, match="trailing"):
        load_circuit(zstd_file([ONE], body))


def test_trailing_data_of_the_golden_file() -> None:
    zstd()
    with pytest.raises(BadCircuit, match="trailing"):
        load_circuit(golden_bytes("z_trail.bin"))


def test_bytes_after_the_last_frame_that_are_no_frame_are_refused() -> None:
    body = zstd().ZstdCompressor().compress(records([ONE])) + b"no frame at all"
    with pytest.raises(BadCircuit, match="damaged"):
        load_circuit(zstd_file([ONE], body))


def test_a_short_body_is_an_error_of_the_first_operation_that_did_not_come() -> None:
    body = zstd().ZstdCompressor().compress(records([ONE, ONE]))
    with pytest.raises(BadCircuit, match=r"^op 2:"):
        load_circuit(zstd_file([ONE] * 3, body))


def test_an_operation_at_fault_comes_before_the_missing_ones() -> None:
    body = zstd().ZstdCompressor().compress(records([ONE, Operation(Kind.X)]))
    with pytest.raises(BadCircuit, match=r"^op 1: kind=X"):
        load_circuit(zstd_file([ONE] * 3, body))


def test_a_window_of_more_than_128_mib_is_refused() -> None:
    parameters = zstd().ZstdCompressionParameters(window_log=28)
    compressor = zstd().ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(records([ONE])) + compressor.flush()
    with pytest.raises(BadCircuit, match="damaged"):
        load_circuit(zstd_file([ONE], body))


@pytest.mark.parametrize(
    ("promised", "body_bytes", "cause"), [(2**25, 56 * 1000, "op 1000: the body ends"), (2**25, 2**27, "op 65536: ")]
)
def test_memory_follows_the_bytes_that_come_and_not_the_promise(promised: int, body_bytes: int, cause: str) -> None:
    # Valid at first; then, in the long one, zeros without end that are no operations.
    valid = records([ONE]) * min(body_bytes // 56, 2**16)
    body = zstd().ZstdCompressor().compress(valid + bytes(body_bytes - len(valid)))
    assert len(body) < 2**15
    tracemalloc.start()
    try:
        with pytest.raises(BadCircuit, match=cause):
            load_circuit(MAGIC_ZSTD + promised.to_bytes(8, "little") + body)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_blocks_hold_whole_records_and_no_more_than_was_promised() -> None:
    pack = zstd().ZstdCompressor().compress
    file = zstd_file([ONE] * 200_000, pack(records([ONE]) * 200_000))
    count, blocks = read_records(io.BytesIO(file), 10**6)
    lengths = [len(block) for block in blocks]
    assert (count, sum(lengths)) == (200_000, 200_000 * 56)
    assert all(length % 56 == 0 for length in lengths)
    assert max(lengths) < 2**24
