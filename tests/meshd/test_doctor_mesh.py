"""What doctor concludes of the mesh around a host."""

from __future__ import annotations

from typing import Any

import pytest

from meshd.doctor import Check
from meshd.doctor_mesh import (
    GpuFacts,
    PathFacts,
    judge_bind,
    judge_builds,
    judge_gpu,
    judge_membership,
    judge_multicast,
    judge_paths,
    judge_peers,
)


def status(*peers: tuple[str, str, str, str | None], reason: str = "") -> dict[str, Any]:
    """peers: name, role, state, and the state of the link, if there is one."""
    return {
        "peers": [{"name": name, "role": role, "state": state} for name, role, state, _ in peers],
        "links": [{"name": name, "state": link} for name, _, _, link in peers if link],
        "models": [{"name": "toy", "reason": reason}],
    }


def only(checks: object) -> Check:
    (check,) = list(checks)  # type: ignore[call-overload]
    assert isinstance(check, Check)
    return check


def test_linked_peers_are_well_and_so_is_nobody() -> None:
    assert only(judge_peers(status(("a", "member", "alive", "connected")))).ok
    assert only(judge_peers(status())).ok


def test_a_peer_that_only_others_reach_is_named() -> None:
    check = only(judge_peers(status(("a", "member", "alive", "connected"), ("b", "member", "alive", "lost"))))
    assert not check.ok
    assert "no link with b: others reach it" in check.detail
    assert "7842/udp" in check.fix


def test_when_nobody_answers_udp_is_blocked() -> None:
    check = only(judge_peers(status(("a", "member", "dead", "lost"), ("b", "member", "dead", None))))
    assert not check.ok
    assert "no other node answers any more: a, b" in check.detail


def test_laptops_come_and_go() -> None:
    assert only(judge_peers(status(("l", "client", "dead", None), ("m", "client", "alive", None)))).ok


@pytest.mark.parametrize(("mtu", "ok"), [(1500, True), (1280, True), (1279, False)])
def test_narrow_paths_are_told_with_the_device(mtu: int, ok: bool) -> None:
    check = judge_paths([PathFacts("10.0.0.2", "eth0", 1500), PathFacts("10.0.0.3", "wg0", mtu)])
    assert check.ok is ok
    assert ok or "dev wg0" in check.fix


@pytest.mark.parametrize(
    ("facts", "ok", "said"),
    [
        (GpuFacts(None, None), True, "no NVIDIA GPU"),
        (GpuFacts(None, 13), True, "no NVIDIA GPU"),
        (GpuFacts((12, 4), None), True, "cuda12"),
        (GpuFacts((13, 0), None), True, "cuda13"),
        (GpuFacts((13, 0), 12), True, "CUDA 12"),
        (GpuFacts((12, 4), 13), False, "cuda12 in place of cuda13"),
        (GpuFacts((13, 0), None, oldest=(6, 1)), True, "cuda12"),
        (GpuFacts((13, 0), 13, oldest=(6, 1)), False, "cuda12 in place of cuda13"),
        (GpuFacts((13, 0), 13, oldest=(9, 0)), True, "CUDA 13"),
        (GpuFacts((13, 0), 12, oldest=(6, 1)), True, "CUDA 12"),
    ],
)
def test_cupy_and_the_driver(facts: GpuFacts, ok: bool, said: str) -> None:
    check = judge_gpu(facts)
    assert check.ok is ok
    assert said in check.detail + check.fix


def test_engines_of_two_builds_are_told() -> None:
    assert judge_builds(status(reason="split over two")).ok
    check = judge_builds(status(reason="old-tower: another build of the engine: ggml 1 and ggml 2"))
    assert not check.ok
    assert "old-tower" in check.detail
    assert "same meshd" in check.fix


def test_the_rest_names_one_thing_to_do() -> None:
    assert judge_multicast("").ok
    assert "5353" in judge_multicast("no route").fix
    assert judge_membership("").ok
    assert "--join" in judge_membership("the membership ended").fix
    assert judge_bind("127.0.0.1", False, False).ok
    assert judge_bind("0.0.0.0", True, True).ok
    assert judge_bind("0.0.0.0", True, False).fix == "meshd key create NAME"
