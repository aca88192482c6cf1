"""What a person reads at the start."""

from __future__ import annotations

from meshd.banner import Welcome, welcome_lines
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
