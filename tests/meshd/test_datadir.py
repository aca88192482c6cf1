"""The data directory: whole writes, closed modes, one agent, boots that only grow."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.datadir import DataDir, DataDirBusy, DataDirDamaged


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "meshd")
    made.create()
    return made


def test_files_and_folder_are_closed_to_others(directory: DataDir) -> None:
    directory.write("node.key", b"secret")

    assert stat.S_IMODE(directory.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory.root / "node.key").stat().st_mode) == 0o600


def test_a_write_replaces_the_whole_file_and_leaves_no_other(directory: DataDir) -> None:
    directory.write("mesh", b"a long first version")
    directory.write("mesh", b"second")

    assert directory.read("mesh") == b"second"
    assert [path.name for path in directory.root.iterdir() if path.is_file()] == ["mesh"]


def test_a_missing_file_reads_as_none(directory: DataDir) -> None:
    assert directory.read("mesh") is None


def test_every_start_counts_up(directory: DataDir) -> None:
    assert [directory.next_boot() for _ in range(3)] == [1, 2, 3]


def test_a_lost_boot_file_is_healed_by_what_peers_remember(directory: DataDir) -> None:
    directory.next_boot()
    directory.remove("boot")

    assert directory.next_boot(at_least=41) == 42


def test_a_damaged_boot_file_is_named(directory: DataDir) -> None:
    directory.write("boot", b"x")

    with pytest.raises(DataDirDamaged, match="boot"):
        directory.next_boot()


def test_a_second_agent_is_told_who_holds_the_directory(directory: DataDir) -> None:
    code = (
        "import sys; from pathlib import Path; from meshd.datadir import *\n"
        "try:\n  DataDir(Path(sys.argv[1])).locked().__enter__()\n"
        "except DataDirBusy as busy: print(busy)"
    )
    with directory.locked():
        printed = subprocess.run(
            [sys.executable, "-c", code, str(directory.root)], capture_output=True, text=True, check=True, timeout=250
        )

    assert "another meshd (pid" in printed.stdout


def test_the_lock_ends_with_its_holder(directory: DataDir) -> None:
    with directory.locked():
        pass
    with directory.locked(), pytest.raises(DataDirBusy), directory.locked():
        pass
