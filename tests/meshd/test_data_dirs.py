"""What an older version wrote, this one reads: a directory of each format is kept, and one of a later left alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gossip.addressbook import AddressBook
from gossip.fence_book import FenceBook
from llm.models.shelf import FILE_NAME, read_shelf
from meshd.belonging import Belonging, load
from meshd.datadir import FORMAT, DataDir, DataDirDamaged, DataDirTooNew
from meshd.key_store import keys_of
from transport.identity import node_text, parse_node_text
from transport.interface import Role

KEPT = Path(__file__).with_name("data_dirs")
FORMATS = sorted(folder.name for folder in KEPT.iterdir())
A_MINUTE_S = 60.0


def expected(version: str) -> dict[str, Any]:
    """What it has to hold."""
    found: dict[str, Any] = json.loads((KEPT / version / "expected.json").read_text())
    return found


def copied(version: str, node: str, folder: Path) -> DataDir:
    """Its own copy for a test; a checkout knows no modes."""
    shutil.copytree(KEPT / version / node, folder / node)
    for path in (folder / node, *(folder / node).iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return DataDir(folder / node)


def test_the_present_format_has_its_example() -> None:
    assert str(FORMAT) in FORMATS, "python -m tools.data_dir tests/meshd/data_dirs/N"


@pytest.mark.parametrize("version", FORMATS)
def test_a_founder_is_who_it_was_with_its_mesh_its_tokens_and_whom_it_trusts(version: str, tmp_path: Path) -> None:
    told, directory = expected(version), copied(version, "founder", tmp_path)
    now = told["made_unix_s"] + A_MINUTE_S
    directory.claim_format()

    found = load(directory, os.urandom)

    assert node_text(found.key.node) == told["node"]
    assert_mesh(found, told, Role.OWNER, now)
    assert found.holds_root and found.signer(now) is not None
    assert found.tokens is not None
    assert [entry.text for entry in found.tokens.list(now)] == told["tokens"]
    assert found.delegates == frozenset({parse_node_text(told["members"]["steward"])})
    assert directory.next_boot() > 1


@pytest.mark.parametrize("version", FORMATS)
def test_a_member_is_a_delegate_still_and_shuns_who_was_revoked(version: str, tmp_path: Path) -> None:
    told, directory = expected(version), copied(version, "steward", tmp_path)
    now = told["made_unix_s"] + A_MINUTE_S

    found = load(directory, os.urandom)

    assert node_text(found.key.node) == told["members"]["steward"]
    assert_mesh(found, told, Role.MEMBER, now)
    assert found.signer(now) is not None and not found.holds_root


def assert_mesh(found: Belonging, told: dict[str, Any], role: Role, now: float) -> None:
    papers = found.papers(now)
    assert papers is not None
    assert (papers.role, papers.problem) == (role, "")
    assert papers.membership.mesh_id.hex() == told["mesh"]["id"]
    assert papers.membership.mesh_name == told["mesh"]["name"]
    assert found.revocations is not None
    assert parse_node_text(told["members"]["stranger"]) in found.revocations.revoked


@pytest.mark.parametrize("version", FORMATS)
def test_keys_models_fences_and_addresses_are_read(version: str, tmp_path: Path) -> None:
    told, directory = expected(version), copied(version, "founder", tmp_path)

    key = keys_of(directory.root).now().find(told["key"])

    assert key is not None and key.name == "laptop"
    assert [one.name for one in read_shelf(directory.root / FILE_NAME).models] == ["meshd-toy"]
    fences = FenceBook(directory.root / "fences", parse_node_text(told["node"]))
    assert {resource: fences.highest_term(resource) for resource in told["terms"]} == told["terms"]
    known = AddressBook(directory.addresses, lambda: told["made_unix_s"] + A_MINUTE_S).load()
    assert parse_node_text(told["members"]["steward"]) in known


def test_a_directory_of_before_formats_is_taken_and_marked(tmp_path: Path) -> None:
    directory = copied("1", "founder", tmp_path)
    directory.remove("format")

    directory.claim_format()

    assert directory.read("format") == str(FORMAT).encode()


def test_one_of_a_later_version_is_refused_with_what_to_do_and_left_alone(tmp_path: Path) -> None:
    directory = copied("1", "founder", tmp_path)
    directory.write("format", str(FORMAT + 1).encode())

    with pytest.raises(DataDirTooNew, match=r"a newer meshd .*format 2; .*up to 1.*--data-dir"):
        directory.claim_format()

    assert directory.read("format") == str(FORMAT + 1).encode()


def test_a_format_that_is_no_number_is_damage(tmp_path: Path) -> None:
    directory = copied("1", "founder", tmp_path)
    directory.write("format", b"x")

    with pytest.raises(DataDirDamaged, match="format is not a number"):
        directory.check_format()
