"""What `meshd doctor` concludes of the mesh around this host: peers, paths, multicast, engines, membership. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm.offer import OTHER_BUILD
from meshd.doctor import Check
from transport.validity import CLOCK_TOLERANCE_S

MIN_PATH_MTU_BYTES = 1280
"""What meshd's datagrams need, and the least that IPv6 allows (RFC 8200 §5)."""
MOST_APART_S = 60
OPEN_UDP = "let UDP port 7842 through on both hosts, as with: sudo ufw allow 7842/udp"


def judge_peers(status: Mapping[str, Any]) -> Iterable[Check]:
    """status: of the running agent. Clients are left out: they come and go as laptops do."""
    peers = [peer for peer in status["peers"] if peer["role"] != "client" and peer["state"] in ("alive", "suspect")]
    linked = {link["name"] for link in status["links"] if link["state"] == "connected"}
    cut_off = [peer["name"] for peer in peers if peer["name"] not in linked]
    if not peers:
        gone = [peer["name"] for peer in status["peers"] if peer["state"] == "dead" and peer["role"] != "client"]
        if gone:
            why = f"no other node answers any more: {', '.join(gone)}"
            return [Check("peers", False, why, f"if they run, UDP is blocked: {OPEN_UDP}")]
        return [Check("peers", True, "there is no other node")]
    if cut_off:
        others = "others reach it, this host does not" if len(cut_off) == 1 else "others reach them, this host does not"
        names = ", ".join(cut_off)
        return [Check("peers", False, f"no link with {names}: {others}", f"between this host and {names}, {OPEN_UDP}")]
    return [Check("peers", True, f"{len(peers)} linked")]


SET_CLOCK = "sudo timedatectl set-ntp true"


@dataclass(frozen=True, slots=True)
class PeerClock:
    """How far a member's clock is ahead of this host's, give or take `within_s`."""

    peer: str
    ahead_s: float
    within_s: float

    @property
    def is_apart(self) -> bool:
        return abs(self.ahead_s) - self.within_s > MOST_APART_S


def judge_clocks(clocks: Sequence[PeerClock]) -> Check:
    """Whose clock is off: this host's where most others differ from it, else those few."""
    name = "clocks"
    apart = [clock for clock in clocks if clock.is_apart]
    if not clocks:
        return Check(name, True, "no other node to compare with")
    if not apart:
        return Check(name, True, f"within {MOST_APART_S} s of {len(clocks)} other nodes'")
    shown = ", ".join(
        f"{one.peer} {abs(one.ahead_s):.0f} s {'ahead' if one.ahead_s > 0 else 'behind'}" for one in apart
    )
    why = f"this host's clock and others' differ: {shown}; tokens and memberships bear {CLOCK_TOLERANCE_S} s"
    names = ", ".join(one.peer for one in apart)
    if len(clocks) == 1:
        return Check(name, False, why, f"on this host and on {names}: {SET_CLOCK}")
    return Check(name, False, why, SET_CLOCK if 2 * len(apart) > len(clocks) else f"on {names}: {SET_CLOCK}")


def judge_multicast(problem: str) -> Check:
    """problem: why a datagram to a multicast group of this host did not come back, empty when it did."""
    if not problem:
        return Check("multicast", True, "a datagram to a group on this host came back")
    fix = "let UDP port 5353 and 224.0.0.251 through, or do without: meshd --join TOKEN"
    return Check("multicast", False, f"nodes on this network are not found by mDNS: {problem}", fix)


@dataclass(frozen=True, slots=True)
class PathFacts:
    """The way to a peer. mtu_bytes: of the interface, or less where a router said so.  device: by its name."""

    peer: str
    device: str
    mtu_bytes: int


def judge_paths(paths: Sequence[PathFacts]) -> Check:
    narrow = [path for path in paths if path.mtu_bytes < MIN_PATH_MTU_BYTES]
    if not paths:
        return Check("mtu", True, "no peer to look at")
    if not narrow:
        return Check("mtu", True, f"{min(path.mtu_bytes for path in paths)} bytes or more to each peer")
    path = min(narrow, key=lambda path: path.mtu_bytes)
    detail = f"packets to {path.peer} may have {path.mtu_bytes} bytes, {MIN_PATH_MTU_BYTES} are needed"
    return Check("mtu", False, detail, f"sudo ip link set dev {path.device} mtu {MIN_PATH_MTU_BYTES} (or more)")


def judge_builds(status: Mapping[str, Any]) -> Check:
    """Whether a split was refused because engines differ."""
    refused = [model for model in status["models"] if OTHER_BUILD in model["reason"]]
    if not refused:
        return Check("engine-builds", True, "no node refused to share a model for its engine's sake")
    fix = "install the same meshd on every host, and run `just engine BACKEND` on each again"
    return Check("engine-builds", False, f"{refused[0]['name']}: {refused[0]['reason']}", fix)


SINCE_CUDA_13 = (7, 5)
"""CUDA 13 compiles for Turing and later: Pascal's P40 (6.1) and Volta (7.0) need CUDA 12."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """driver_cuda: the newest CUDA that the driver runs, as (major, minor); None without an NVIDIA GPU.

    cupy: the CUDA major version that CuPy was built for; None where it is not installed.  oldest: the lowest compute
    capability of a GPU here.
    """

    driver_cuda: tuple[int, int] | None
    cupy: int | None
    oldest: tuple[int, int] = SINCE_CUDA_13


def judge_gpu(facts: GpuFacts) -> Check:
    if facts.driver_cuda is None:
        return Check("cupy", True, "no NVIDIA GPU: forms run on the CPU")
    major, minor = facts.driver_cuda
    if facts.cupy is None:
        wanted = "cuda13" if major >= 13 and facts.oldest >= SINCE_CUDA_13 else "cuda12"
        return Check("cupy", True, f"forms run on the CPU; on the GPU with the extra {wanted}")
    if facts.cupy > major:
        detail = f"CuPy is built for CUDA {facts.cupy}, the driver runs CUDA {major}.{minor} at most"
        fix = f"install meshd with the extra cuda{major} in place of cuda{facts.cupy}, or a newer driver"
        return Check("cupy", False, detail, fix)
    if facts.cupy >= 13 and facts.oldest < SINCE_CUDA_13:
        capability = ".".join(map(str, facts.oldest))
        detail = (
            f"CuPy is built for CUDA {facts.cupy}, which no longer knows a GPU here (compute capability {capability})"
        )
        return Check("cupy", False, detail, "install meshd with the extra cuda12 in place of cuda13")
    return Check("cupy", True, f"CuPy for CUDA {facts.cupy}, driver for CUDA {major}.{minor}")


def judge_format(problem: str) -> Check:
    """problem: why this version may not use the data directory, empty when it may."""
    if not problem:
        return Check("data-dir", True, "of a format that this version reads")
    return Check("data-dir", False, problem, "bring meshd up to date on this host: docs/upgrading.md")


def judge_membership(problem: str, is_revoked: bool = False) -> Check:
    """problem: why what the data directory holds does not count, empty when it does or there is nothing."""
    if is_revoked:
        fix = "ask the owner why; to come in as a new node: meshd --data-dir FOLDER --join TOKEN, both new"
        return Check("membership", False, "the owner of this mesh has revoked this node, for good", fix)
    if not problem:
        return Check("membership", True, "what the data directory holds counts")
    fix = "come in again: meshd leave --force, then meshd --join TOKEN with a new token"
    return Check("membership", False, problem, fix)


def judge_bind(listen: str, is_open: bool, has_keys: bool) -> Check:
    """is_open: the address is not this machine's alone."""
    if is_open and not has_keys:
        return Check(
            "api-key", False, f"--listen {listen} needs an API key, and there is none", "meshd key create NAME"
        )
    return Check("api-key", True, f"the API listens on {listen}, {'with keys' if has_keys else 'for this host alone'}")
