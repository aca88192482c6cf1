"""Founding, joining and coming back, and what is on disk afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from meshd.belonging import Ask, CannotBelong, Found, Join, Papers, Return, decide, load
from meshd.datadir import DataDir, DataDirDamaged
from transport.certificate import LIFETIME_S, Membership
from transport.interface import Address, Role
from transport.invite import Invite, parse_token

NOW = 1_800_000_000.0


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path)
    made.create()
    return made


def founded(path: Path) -> tuple[Membership, Invite]:
    """A mesh of its own, and an invite to it."""
    directory = DataDir(path)
    directory.create()
    belonging = load(directory, os.urandom)
    membership = belonging.found("home", NOW, os.urandom)
    assert belonging.tokens is not None
    token = belonging.tokens.create(Role.MEMBER, 600, 1, [Address("127.0.0.1", 7842)], time.time(), os.urandom)
    return membership, parse_token(token)


def test_a_first_start_founds() -> None:
    assert decide(None, [], is_client=False) == Found()


def test_a_first_start_with_tokens_joins(tmp_path: Path) -> None:
    _, invite = founded(tmp_path)

    assert decide(None, [invite], is_client=True) == Join((invite,))


def test_a_mesh_that_may_be_near_is_asked_before_one_is_founded(tmp_path: Path) -> None:
    membership, invite = founded(tmp_path)

    assert decide(None, [], is_client=False, asks_for="home") == Ask("home")
    assert decide(None, [], is_client=True, asks_for="home") == Ask("home")
    assert decide(None, [invite], is_client=False, asks_for="home") == Join((invite,))
    assert decide(Papers(membership, Role.MEMBER), [], is_client=False, asks_for="home") == Return(membership, ())


def test_a_client_cannot_found() -> None:
    with pytest.raises(CannotBelong, match="--client --join TOKEN"):
        decide(None, [], is_client=True)


def test_a_member_comes_back_with_or_without_its_token(tmp_path: Path) -> None:
    membership, invite = founded(tmp_path)
    papers = Papers(membership, Role.MEMBER)

    assert decide(papers, [], is_client=False) == Return(membership, ())
    assert decide(papers, [invite], is_client=False) == Return(membership, (invite,))


def test_a_member_of_one_mesh_is_kept_from_another(tmp_path: Path) -> None:
    membership, _ = founded(tmp_path / "one")
    _, invite = founded(tmp_path / "other")

    with pytest.raises(CannotBelong, match="meshd leave"):
        decide(Papers(membership, Role.MEMBER), [invite], is_client=False)


def test_a_role_cannot_be_changed_by_a_flag(tmp_path: Path) -> None:
    membership, _ = founded(tmp_path)

    with pytest.raises(CannotBelong, match="leave out --client"):
        decide(Papers(membership, Role.MEMBER), [], is_client=True)
    with pytest.raises(CannotBelong, match="add --client"):
        decide(Papers(membership, Role.CLIENT), [], is_client=False)


def test_an_expired_member_joins_again_or_is_told_to(tmp_path: Path) -> None:
    _, invite = founded(tmp_path)
    expired = load(DataDir(tmp_path), os.urandom).papers(NOW + LIFETIME_S + 86400)
    assert expired is not None

    assert decide(expired, [invite], is_client=False) == Join((invite,))
    with pytest.raises(CannotBelong, match="expired"):
        decide(expired, [], is_client=False)


def test_what_was_founded_is_read_back(directory: DataDir) -> None:
    first = load(directory, os.urandom)
    membership = first.found("home", NOW, os.urandom)

    again = load(directory, os.urandom)

    assert again.membership == membership
    assert again.key.node == first.key.node
    assert again.root is not None and first.root is not None and again.root.public == first.root.public
    assert again.tokens is not None


def test_a_deleted_token_book_starts_empty(directory: DataDir) -> None:
    load(directory, os.urandom).found("home", NOW, os.urandom)
    directory.remove("tokens")

    tokens = load(directory, os.urandom).tokens

    assert tokens is not None and tokens.list(NOW) == ()


@pytest.mark.parametrize("name", ["node.key", "root.key", "mesh", "tokens"])
def test_a_damaged_file_is_named(directory: DataDir, name: str) -> None:
    load(directory, os.urandom).found("home", NOW, os.urandom)
    directory.write(name, b"\xc1 damaged")

    with pytest.raises(DataDirDamaged, match=name):
        load(directory, os.urandom)


def test_forgetting_keeps_only_the_nodes_own_key(directory: DataDir) -> None:
    belonging = load(directory, os.urandom)
    belonging.found("home", NOW, os.urandom)
    belonging.forget()

    again = load(directory, os.urandom)

    assert again.membership is None and again.root is None
    assert again.key.node == belonging.key.node
