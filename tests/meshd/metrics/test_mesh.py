"""`/metrics` tells the mesh as status does, under names that docs/metrics.md lists."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gossip.facts import Device
from llm.residency import Makeup, Reservation
from meshd.memory_status import MemoryNow
from meshd.metrics.telemetry import Telemetry, make_telemetry
from tests.meshd.test_status import host, situation, toy

USES = ("weights", "kv", "forms", "rest")
PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def telemetry() -> Telemetry:
    memory = MemoryNow(
        (Device("card", "cuda", 100, 40),), (Reservation("toy", (30,), Makeup(20, 6)), Reservation("toy", (30,)))
    )
    now = replace(situation(host(), offers=(toy(),)), memory=memory)
    return make_telemetry(lambda: now, lambda: {"toy": 3})


def sample(metric: str, /, **labels: str) -> float | None:
    return telemetry().registry.get_sample_value(metric, labels)


def test_members_links_models_and_memory_are_there() -> None:
    assert sample("meshd_members", state="alive") == 2
    assert sample("meshd_link_up", peer="host", carrier="quic") == 1
    assert sample("meshd_link_rtt_seconds", peer="host") == 0.0015
    assert sample("meshd_link_bytes_total", peer="host", carrier="quic", direction="sent") == 10
    assert sample("meshd_model_in_flight", model="toy", mode="solo") == 2
    assert sample("meshd_model_queue", model="toy", mode="solo") == 3
    assert sample("meshd_memory_free_bytes", device="0", name="card", kind="cuda") == 40
    used = {use: sample("meshd_memory_reserved_bytes", device="0", holder="toy", use=use) for use in USES}
    assert used == {"weights": 20, "kv": 6, "forms": 0, "rest": 34}
    assert sample("meshd_gossip_refused_total", kind="refused") == 2


def test_the_page_lists_every_metric_and_no_other() -> None:
    text = generate_latest(telemetry().registry).decode()
    names = {family.name for family in text_string_to_metric_families(text) if not family.name.endswith("_created")}
    on_page = set(re.findall(r"^\| `(meshd_\w+)`", PAGE.read_text(), re.MULTILINE))
    assert {name.removesuffix("_total") for name in on_page} == {name.removesuffix("_total") for name in names}
