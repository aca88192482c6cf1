"""One example of every message that `meshd` itself puts on the wire."""

from __future__ import annotations

from meshd.mesh_facts import encode_delegates, encode_roots
from tests.golden import Example
from tests.transport.examples import DELEGATE, MEMBER, SUCCESSION


def examples() -> dict[str, Example]:
    """By file name."""
    delegates = encode_delegates([DELEGATE.node, MEMBER.node])
    return {
        "fact_roots": Example("The fact `roots`", "meshd.mesh_facts.RootsFact", encode_roots((SUCCESSION,))),
        "fact_delegates": Example("The fact `delegates`", "meshd.mesh_facts.DelegatesFact", delegates),
    }
