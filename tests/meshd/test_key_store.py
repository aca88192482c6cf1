"""The file of keys: followed while it changes, edited by several, never opened by damage."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshd.key_store import keys_of
from meshd.keys import BadKeys, Limits


def create(root: Path, name: str) -> str:
    return keys_of(root).change(lambda ring: ring.create(name, Limits(), name.encode().ljust(32), 1.0))


def test_an_agent_sees_what_the_command_line_did(tmp_path: Path) -> None:
    running = keys_of(tmp_path)
    assert running.now().keys == ()
    secret = create(tmp_path, "laptop")
    assert running.now().find(secret) is not None
    keys_of(tmp_path).change(lambda ring: ring.remove("laptop"))
    assert running.now().keys == ()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    create(tmp_path, "laptop")
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_edits_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"key-{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: create(tmp_path, name), names))
    assert sorted(key.name for key in keys_of(tmp_path).now().keys) == sorted(names)


def test_damage_leaves_the_keys_of_before_and_stops_a_start(tmp_path: Path) -> None:
    running = keys_of(tmp_path)
    secret = create(tmp_path, "laptop")
    assert running.now().find(secret) is not None
    (tmp_path / "keys.json").write_text("{}")
    assert running.now().find(secret) is not None
    with pytest.raises(BadKeys, match=r"keys\.json.*damaged"):
        keys_of(tmp_path).now()
    with pytest.raises(BadKeys, match="damaged"):
        create(tmp_path, "other")
