"""Everything that `meshd doctor` looks at, in the order in which it tells."""

from __future__ import annotations

from collections.abc import Mapping

from meshd.doctor_mesh_probes import (
    probe_agent,
    probe_bind,
    probe_clocks,
    probe_format,
    probe_gpu,
    probe_membership,
    probe_multicast,
    probe_paths,
)
from meshd.doctor_probes import PROBES, Probe

ALL_PROBES: Mapping[str, Probe] = {
    **PROBES,
    "api-key": probe_bind,
    "clocks": probe_clocks,
    "cupy": probe_gpu,
    "data-dir": probe_format,
    "membership": probe_membership,
    "multicast": probe_multicast,
    "mtu": probe_paths,
    "peers": probe_agent,
}
