"""What a person reads at the start."""

from __future__ import annotations

from meshd.banner import Welcome, other_mesh_lines, welcome_lines
from transport.interface import Role

DOORS = {"api": "http://127.0.0.1:9337", "mesh": "[::]:7842"}


def test_a_founder_gets_the_line_for_the_next_host() -> None:
    lines = welcome_lines(Welcome("box", Role.OWNER, "home", DOORS, ("toy",), "meshd1:abc", 0.4))

    assert "founded mesh 'home'" in lines[0]
    assert "  meshd --join meshd1:abc" in lines
    assert any("--role client" in line for line in lines)
    assert any("http://127.0.0.1:9337" in line for line in lines)


def test_a_node_that_comes_back_gets_no_token() -> None:
    text = "\n".join(welcome_lines(Welcome("box", Role.MEMBER, "home", DOORS, (), None, 0.4)))

    assert "is in mesh 'home'" in text
    assert "--join" not in text


def test_a_second_founder_reads_how_to_come_into_the_first_mesh() -> None:
    lines = other_mesh_lines({"our home": "box at 10.0.0.2:7842"})

    assert "'our home' (box at 10.0.0.2:7842)" in lines[0]
    assert "  meshd leave --force" in lines
    assert "  meshd --mesh 'our home'" in lines
    assert other_mesh_lines({}) == []
