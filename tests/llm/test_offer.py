"""Offers survive gossip, and a name never means two files at once."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.view import Status
from llm.offer import MAX_MODELS, catalogue, decode_offers, encode_offers, find, offers_of
from tests.llm.views import FILE_A, FILE_B, node, node_id, offer, view
from transport.errors import ProtocolError


def test_offers_survive_the_wire() -> None:
    offers = (offer("a", state="loading", reason="12 s"), offer("b", digest="c" * 64, in_flight=3))
    assert decode_offers(encode_offers(offers), node_id(1)) == offers


@pytest.mark.parametrize(
    "bad",
    [
        offer(""),
        offer("n" * 200),
        offer("a@b"),
        offer("line\nbreak"),
        offer(fingerprint="short"),
        offer(digest="zz"),
        offer(state="happy"),
        offer(slots=0),
        offer(in_flight=-1),
        offer(reason="r" * 600),
    ],
)
def test_an_offer_outside_its_limits_is_the_nodes_fault(bad: object) -> None:
    with pytest.raises(ProtocolError, match="from node"):
        decode_offers(encode_offers((bad,)), node_id(1))  # type: ignore[arg-type]


def test_too_many_offers_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_offers(encode_offers(offer(f"m{number}") for number in range(MAX_MODELS + 1)), node_id(1))


@given(st.binary(max_size=200))
def test_any_bytes_are_offers_or_a_protocol_error(fact: bytes) -> None:
    try:
        decode_offers(fact, node_id(1))
    except ProtocolError:
        return


def test_a_malformed_fact_offers_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    liar = node(2, fact=b"\xc1 told once")
    with caplog.at_level(logging.WARNING):
        assert offers_of(liar) == offers_of(liar) == ()
    assert len(caplog.records) == 1


def test_catalogue_gathers_the_hosts_of_each_model() -> None:
    mesh = view(node(1, [offer("b")]), node(2, [offer("a"), offer("b")]), node(3))
    models = {model.name: [hosting.node.name for hosting in model.hostings] for model in catalogue(mesh)}
    assert models == {"a": ["n2"], "b": ["n1", "n2"]}


def test_own_offers_replace_the_own_fact() -> None:
    mesh = view(node(1, [offer("old")]), node(2, [offer("other")]))
    assert [model.name for model in catalogue(mesh, local=(offer("new"),))] == ["new", "other"]
    assert [model.name for model in catalogue(mesh, local=())] == ["other"]


def test_the_dead_host_nothing_and_those_who_left_offer_nothing() -> None:
    mesh = view(node(1), node(2, [offer("a")], status=Status.DEAD), node(3, [offer("b")], status=Status.LEFT))
    assert catalogue(mesh) == ()
    assert find("a", mesh) is not None
    assert find("b", mesh) is None


def test_one_name_for_two_files_is_two_models() -> None:
    mesh = view(
        node(1, [offer(fingerprint=FILE_B)]), node(2, [offer(fingerprint=FILE_A)]), node(3, [offer(fingerprint=FILE_B)])
    )
    models = {model.name: [hosting.node.name for hosting in model.hostings] for model in catalogue(mesh)}
    assert models == {"tiny": ["n1", "n3"], "tiny@aaaaaaaa": ["n2"]}


def test_the_plain_name_goes_to_the_file_most_nodes_hold_the_dead_included() -> None:
    mesh = view(
        node(1, [offer(fingerprint=FILE_A)]),
        node(2, [offer(fingerprint=FILE_B)], status=Status.DEAD),
        node(3, [offer(fingerprint=FILE_B)], status=Status.DEAD),
    )
    model = find("tiny", mesh)
    assert model is not None
    assert model.identity == FILE_B


def test_a_tie_goes_to_the_lower_identity_on_every_node() -> None:
    one, other = node(1, [offer(fingerprint=FILE_B)]), node(2, [offer(fingerprint=FILE_A)])
    for mesh in (view(one, other), view(other, one)):
        model = find("tiny", mesh)
        assert model is not None
        assert model.identity == FILE_A


def test_a_file_can_be_asked_for_by_the_beginning_of_either_digest() -> None:
    mesh = view(node(1, [offer(fingerprint=FILE_A)]), node(2, [offer(fingerprint=FILE_B, digest="c" * 64)]))
    for suffix in ("bbbbbb", "bbbbbbbb", "b" * 64, "cccccccc"):
        model = find(f"tiny@{suffix}", mesh)
        assert model is not None
        assert [hosting.node.name for hosting in model.hostings] == ["n2"]
    for suffix in ("bbb", "dddddddd", ""):
        found = find(f"tiny@{suffix}", mesh)
        assert found is None or (suffix == "" and found.identity == FILE_A)


def test_a_node_still_hashing_shares_the_model_of_one_that_has() -> None:
    mesh = view(node(1, [offer(digest="")]), node(2, [offer(digest="c" * 64)]))
    assert [len(model.hostings) for model in catalogue(mesh)] == [2]


def test_full_digests_part_files_whose_fingerprints_agree() -> None:
    mesh = view(node(1, [offer(digest="d" * 64)]), node(2, [offer(digest="c" * 64)]))
    assert [model.name for model in catalogue(mesh)] == ["tiny", "tiny@dddddddd"]
