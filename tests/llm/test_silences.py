"""Who did not answer is remembered for a while."""

from __future__ import annotations

from dataclasses import replace

from llm.silences import REMEMBERED_S, Silences
from tests.llm.views import node, node_id, view


def test_a_silent_node_is_held_silent_until_its_time_is_over() -> None:
    silences = Silences()
    mesh = view(node(1), node(2))
    silences.note(node_id(2), 1, 100.0)
    assert silences.among(mesh, 100.0) == {node_id(2)}
    assert silences.among(mesh, 99.9 + REMEMBERED_S) == {node_id(2)}
    assert silences.among(mesh, 100.0 + REMEMBERED_S) == set()


def test_an_answer_ends_the_silence() -> None:
    silences = Silences()
    silences.note(node_id(2), 1, 100.0)
    silences.forget(node_id(2))
    silences.forget(node_id(3))
    assert silences.among(view(node(1), node(2)), 100.0) == set()


def test_a_new_life_begins_without_the_old_ones_silence() -> None:
    silences = Silences()
    silences.note(node_id(2), 1, 100.0)
    assert silences.among(view(node(1), replace(node(2), boot=2)), 100.0) == set()


def test_who_is_no_longer_known_is_forgotten() -> None:
    silences = Silences()
    silences.note(node_id(2), 1, 100.0)
    assert silences.among(view(node(1)), 100.0) == set()
    assert silences.among(view(node(1), node(2)), 100.0) == set()
