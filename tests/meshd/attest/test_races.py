"""Whole races between nodes that share no clock and no trust, over a network in virtual time."""

from __future__ import annotations

from pathlib import Path

from forms.poc.profile import TINY
from meshd.attest.worth import lower_rate
from tests.meshd.attest.racing import FOUND, race_field
from transport import virtual_time


def test_two_honest_nodes_attest_each_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one, other = await field.enter(), await field.enter()
            called = await one.race(work_s=5.0)
            assert (called.state, called.reason, called.absent) == ("over", "", {})
            assert {(a.prover, a.verifier, a.findings.verdict) for a in called.attestations} == {
                (one.node, other.node, "attested"),
                (other.node, one.node, "attested"),
            }
            for attestation in called.attestations:
                findings = attestation.findings
                assert (findings.found, findings.samples, findings.mismatches) == (FOUND, 64, 0)
                assert 4.9 < findings.taken_s < 7.0  # by the verifier's clock, the network's delays included
                assert findings.flop_per_s == lower_rate(FOUND, 0.2, findings.taken_s) * TINY.operations
            assert one.voice.phases == ["generate", "validate", "idle"]
            assert one.voice.claimed >= max(a.findings.flop_per_s for a in called.attestations)

    virtual_time.run(scenario())
