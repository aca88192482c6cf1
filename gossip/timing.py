"""The clocks and bounds of the protocol, in one place (design: SWIM and Lifeguard, memberlist's values)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How often things happen. All in seconds."""

    probe_s: float = 1.0
    probe_timeout_s: float = 0.5
    gossip_s: float = 0.2
    sync_s: float = 10.0
    client_pull_s: float = 1.0
    gossip_to_dead_s: float = 30.0
    forget_s: float = 24 * 3600.0
    pause_s: float = 2.0


LAN = Timing()
WAN = Timing(probe_s=3.0, probe_timeout_s=1.5)

FAR_S = 0.15
"""A member whose answers take longer on average is probed as over a WAN: three round trips fit the LAN's time-out."""

# Three indirect probes: fewer misjudge a lossy link, more only add traffic (SWIM §4.1).
INDIRECT_PROBES = 3
GOSSIP_FANOUT = 3
MAX_HEALTH = 8
