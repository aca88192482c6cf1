"""Files by digest, within a quota, whole or begun."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transport.blob_store import Arriving, BlobStore, CorruptBlob, NoRoom, digest_of

DATA = bytes(range(256)) * 40
DIGEST = digest_of(DATA)
OTHER = DATA[::-1]


def put(store: BlobStore, data: bytes, up_to: int | None = None) -> None:
    """Bring `data` in, or its beginning, on top of what is there."""
    arrival = store.begin(digest_of(data))
    try:
        arrival.recall()
        arrival.reserve(len(data))
        arrival.append(data[arrival.offset : up_to])
        if up_to is None:
            arrival.complete()
    finally:
        arrival.suspend()


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_blob_lies_under_its_digest(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    assert store.path(DIGEST) is None
    put(store, DATA)
    path = store.path(DIGEST)
    assert path is not None and path.read_bytes() == DATA
    assert files(tmp_path) == {DIGEST.hex()}
    assert store.used_bytes == len(DATA)
    assert BlobStore(tmp_path, 1 << 20).path(DIGEST) == path


def test_what_was_begun_goes_on_in_the_next_run(tmp_path: Path) -> None:
    put(BlobStore(tmp_path, 1 << 20), DATA, up_to=3000)
    store = BlobStore(tmp_path, 1 << 20)
    assert store.path(DIGEST) is None and store.used_bytes == 3000
    arrival = store.begin(DIGEST)
    arrival.recall()
    assert arrival.offset == 3000
    arrival.reserve(len(DATA))
    arrival.append(DATA[3000:])
    arrival.complete()
    assert store.path(DIGEST) is not None and files(tmp_path) == {DIGEST.hex()}


@pytest.mark.parametrize("place", [0, 2999, 3000, len(DATA) - 1])
def test_one_wrong_byte_anywhere_and_the_blob_starts_again(tmp_path: Path, place: int) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    bent = bytearray(DATA)
    bent[place] ^= 1
    put(store, OTHER)
    arrival = store.begin(DIGEST)
    arrival.reserve(len(DATA))
    arrival.append(bytes(bent[:3000]))
    arrival.append(bytes(bent[3000:]))
    with pytest.raises(CorruptBlob):
        arrival.complete()
    assert arrival.offset == 0
    arrival.append(DATA)
    arrival.complete()
    assert files(tmp_path) == {DIGEST.hex(), digest_of(OTHER).hex()}


def test_suspending_with_nothing_leaves_no_file(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    arrival = store.begin(DIGEST)
    arrival.reserve(len(DATA))
    arrival.suspend()
    arrival.suspend()
    assert files(tmp_path) == set() and store.used_bytes == 0


def test_part_of_something_larger_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / DIGEST.hex()).write_bytes(b"x" * (len(DATA) + 1))
    store = BlobStore(tmp_path, 1 << 20)
    arrival = store.begin(DIGEST)
    arrival.recall()
    arrival.reserve(len(DATA))
    assert arrival.offset == 0
    arrival.append(DATA)
    arrival.complete()


def test_quota_counts_what_is_promised_and_lets_go_of_it(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, len(DATA) + 100)
    promised = store.begin(DIGEST)
    promised.reserve(len(DATA))
    with pytest.raises(NoRoom):
        store.add(b"x" * 101)
    store.add(b"x" * 100)
    promised.suspend()
    store.add(b"y" * 200)
    assert store.used_bytes == 300
    with pytest.raises(NoRoom):
        put(store, DATA)
    assert store.used_bytes == 300 and files(tmp_path / "partial") == set()


def test_what_was_begun_and_left_alone_gives_way_oldest_first(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1000)
    for number, first in enumerate((b"a", b"b", b"c")):
        data = first * 500
        put(store, data, up_to=300)
        os.utime(tmp_path / "partial" / digest_of(data).hex(), (number, number))
    put(store, b"d" * 600)
    assert store.used_bytes == 900
    assert files(tmp_path / "partial") == {digest_of(b"c" * 500).hex()}


def test_a_blob_arrives_once_at_a_time(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    first = store.begin(DIGEST)
    with pytest.raises(Arriving):
        store.begin(DIGEST)
    first.suspend()
    store.begin(DIGEST).suspend()


def test_removed_blob_is_gone_and_its_room_is_free(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, len(DATA))
    put(store, DATA)
    store.remove(DIGEST)
    assert store.path(DIGEST) is None and files(tmp_path) == set() and store.used_bytes == 0
    store.remove(DIGEST)
    put(store, OTHER)


def test_lent_file_is_given_out_where_it_lies_and_takes_no_room(tmp_path: Path) -> None:
    elsewhere = tmp_path / "model.gguf"
    elsewhere.write_bytes(DATA)
    store = BlobStore(tmp_path / "blobs", 10)
    store.lend(DIGEST, elsewhere)
    assert store.path(DIGEST) == elsewhere and store.used_bytes == 0
    store.remove(DIGEST)
    assert store.path(DIGEST) is None and elsewhere.exists()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("not a blob")
    (tmp_path / ("A" * 64)).write_text("not a blob either")
    store = BlobStore(tmp_path, 100)
    assert store.used_bytes == 0


def test_a_deposit_is_found_under_the_digest_that_it_turns_out_to_have(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, len(DATA))
    deposit = store.deposit(len(DATA))
    assert store.used_bytes == len(DATA), "promised"
    deposit.append(DATA[:100])
    deposit.append(DATA[100:])
    assert deposit.complete() == DIGEST
    deposit.abandon()
    assert files(tmp_path) == {DIGEST.hex()} and store.used_bytes == len(DATA)
    with pytest.raises(NoRoom, match=f"wants 1 bytes more, 0 of {len(DATA)} are free"):
        store.deposit(1)


def test_an_abandoned_deposit_leaves_nothing_also_when_the_program_ended(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    store.deposit(10).abandon()
    assert files(tmp_path) == set() and store.used_bytes == 0
    store.deposit(10).append(b"12345")
    assert len(files(tmp_path)) == 1
    assert BlobStore(tmp_path, 1 << 20).used_bytes == 0
    assert files(tmp_path) == set()


def test_the_same_bytes_twice_are_one_blob(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    assert store.add(DATA) == store.add(DATA) == DIGEST
    assert store.used_bytes == len(DATA) and files(tmp_path) == {DIGEST.hex()}


def put_copy(store: BlobStore, data: bytes) -> None:
    arrival = store.begin(digest_of(data), is_copy=True)
    try:
        arrival.reserve(len(data))
        arrival.append(data)
        arrival.complete()
    finally:
        arrival.suspend()


def test_copies_give_way_longest_unused_first_and_what_was_put_here_stays(tmp_path: Path) -> None:
    first = BlobStore(tmp_path, 1000)
    first.add(b"k" * 300)
    for number, letter in enumerate((b"a", b"b", b"c")):
        put_copy(first, letter * 200)
        os.utime(tmp_path / "copies" / digest_of(letter * 200).hex(), (number, number))
    store = BlobStore(tmp_path, 1000)
    assert store.path(digest_of(b"a" * 200)) is not None, "which is a use of it"
    store.add(b"d" * 200)
    assert files(tmp_path / "copies") == {digest_of(letter * 200).hex() for letter in (b"a", b"c")}
    with pytest.raises(NoRoom):
        store.add(b"e" * 800)
    assert files(tmp_path / "copies") == {digest_of(letter * 200).hex() for letter in (b"a", b"c")}
    store.add(b"e" * 500)
    assert files(tmp_path / "copies") == set()
    assert [blob.is_copy for blob in store.whole] == [False] * 3


def test_a_copy_that_is_put_here_as_well_stays(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    put_copy(store, DATA)
    store.add(DATA)
    assert files(tmp_path) == {DIGEST.hex()} and store.used_bytes == len(DATA)
    put_copy(store, DATA)
    assert files(tmp_path) == {DIGEST.hex()}


def test_a_blob_whose_file_somebody_deleted_is_not_here(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 << 20)
    store.add(DATA)
    (tmp_path / DIGEST.hex()).unlink()
    assert store.path(DIGEST) is None and store.used_bytes == 0
    store.add(DATA)
    assert store.path(DIGEST) is not None
