"""Which llama-server runs, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm.engines.llama_binary import EngineMissing, LlamaBinary, find_llama_server


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_configured_program_before_all_others(tmp_path: Path) -> None:
    make_program(tmp_path / "site" / "bin" / "llama-server")
    own = make_program(tmp_path / "own" / "llama-server")
    assert find_llama_server(own, tmp_path / "site") == LlamaBinary(own, None)


def test_bundled_program_knows_its_libraries(tmp_path: Path) -> None:
    bundled = make_program(tmp_path / "bin" / "llama-server")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libllama.so.0").touch()
    assert find_llama_server(None, tmp_path) == LlamaBinary(bundled, tmp_path / "lib")


def test_program_on_path_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = make_program(tmp_path / "usr" / "llama-server")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_llama_server(None, tmp_path / "empty") == LlamaBinary(on_path, None)


def test_none_anywhere_says_where_it_looked_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"not on PATH.*uv sync --extra llm"):
        find_llama_server(None, tmp_path)


def test_configured_program_that_cannot_run_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    make_program(tmp_path / "bin" / "llama-server")
    with pytest.raises(EngineMissing, match="not an executable file"):
        find_llama_server(tmp_path / "nowhere", tmp_path)


def test_a_path_that_cannot_be_looked_at_is_told_as_one_that_is_wrong(tmp_path: Path) -> None:
    """As the folder of another user, which tests that run as root cannot be kept out of."""
    with pytest.raises(EngineMissing, match="that this user may reach"):
        find_llama_server(tmp_path / ("x" * 300))
