"""Files are told apart at once by fingerprint, and for good by SHA-256, computed once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from llm.digest import DigestCache, fingerprint
from llm.gguf import read_header
from tests.llm.tiny_gguf import write_tiny_gguf


def test_fingerprint_tells_trainings_of_one_architecture_apart(tmp_path: Path) -> None:
    one = read_header(write_tiny_gguf(tmp_path / "one.gguf", seed=1))
    same = read_header(write_tiny_gguf(tmp_path / "same.gguf", seed=1))
    other = read_header(write_tiny_gguf(tmp_path / "other.gguf", seed=2))
    assert one.header_bytes == other.header_bytes
    prints = [fingerprint(model.paths, model.header_bytes) for model in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_digest_of_one_file_is_its_sha256(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    assert DigestCache(tmp_path / "cache.json").digest([file]) == hashlib.sha256(b"weights").hexdigest()


def test_digest_of_parts_depends_on_each_and_their_order(tmp_path: Path) -> None:
    parts = [tmp_path / "a", tmp_path / "b"]
    for part in parts:
        part.write_bytes(part.name.encode())
    cache = DigestCache(tmp_path / "cache.json")
    assert cache.digest(parts) != cache.digest(parts[::-1])
    assert cache.digest(parts) != cache.digest(parts[:1])


def test_known_file_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    status = file.stat()
    first = DigestCache(tmp_path / "cache.json").digest([file])
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert DigestCache(tmp_path / "cache.json").digest([file]) == first
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert DigestCache(tmp_path / "cache.json").digest([file]) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_damaged_cache_is_forgotten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.json").write_bytes(content)
    file = tmp_path / "a"
    file.write_bytes(b"x")
    assert DigestCache(tmp_path / "cache.json").digest([file]) == hashlib.sha256(b"x").hexdigest()
