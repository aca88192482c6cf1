"""What `meshd status` says of proofs: how fast each node was proved to be, when, by whom, and what it does now. Pure.

No row speaks of VRAM but to say that no proof covers it: what peers say of their memory is their own word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from gossip.view import View
from meshd.attest.attestation import Attestation, PhaseName
from transport.identity import short
from transport.interface import NodeId

TERA = 1e12
VRAM_NOTE = "not attested"


@dataclass(frozen=True, slots=True)
class Proof:
    """What this node knows of another's proofs. attested: by verifiers who count, the latest first.

    believed: what part of its claims placement goes by.  quarantine: why it is shut out, "" where it is not.
    """

    phase: PhaseName = "idle"
    claimed_flop_per_s: float = 0.0
    attested: tuple[Attestation, ...] = ()
    believed: float = 1.0
    quarantine: str = ""


@dataclass(frozen=True, slots=True)
class Proofs:
    """Of all nodes, at one moment. now: Unix time.  counts: of attestations heard, and of checks by outcome."""

    trust: str = "members"
    now: float = 0.0
    by_node: Mapping[NodeId, Proof] | None = None
    counts: Mapping[str, int] | None = None

    def of(self, node: NodeId) -> Proof:
        """What is known of one node; of most of them, nothing."""
        return (self.by_node or {}).get(node, NOTHING_PROVED)


NOTHING_PROVED = Proof()
NO_PROOFS = Proofs()


def attested_flop_per_s(proof: Proof) -> float:
    """The median of what verifiers attest now; 0 where none does."""
    rates = [one.findings.flop_per_s for one in proof.attested if one.findings.is_honest]
    return median(rates) if rates else 0.0


def proof_row(node: NodeId, proofs: Proofs, view: View) -> dict[str, Any]:
    """One node's `poc` in status. attested_tflops: None where nobody has proved it; age_s: of the newest verdict."""
    proof = proofs.of(node)
    honest = [one for one in proof.attested if one.findings.is_honest]
    return {
        "phase": proof.phase,
        "claimed_tflops": _tera(proof.claimed_flop_per_s),
        "attested_tflops": _tera(attested_flop_per_s(proof)) if honest else None,
        "age_s": round(proofs.now - max(one.findings.made for one in honest)) if honest else None,
        "by": [_name(one.verifier, view) for one in honest],
        "accused_by": [_name(one.verifier, view) for one in proof.attested if not one.findings.is_honest],
        "believed": round(proof.believed, 3),
        "quarantine": proof.quarantine,
        "vram": VRAM_NOTE,
    }


def proof_totals(proofs: Proofs) -> dict[str, Any]:
    """The mesh's `poc` in status."""
    shut_out = sum(bool(proof.quarantine) for proof in (proofs.by_node or {}).values())
    return {"trust": proofs.trust, "quarantined": shut_out, "counts": dict(proofs.counts or {}), "vram": VRAM_NOTE}


def _tera(flop_per_s: float) -> float:
    return float(f"{flop_per_s / TERA:.3g}")


def _name(node: NodeId, view: View) -> str:
    entry = view.get(node)
    return entry.name if entry is not None else short(node)
