"""`/metrics` tells the mesh as status does, under names that docs/metrics.md lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gossip.facts import GPU, Device, GpuFact, Held
from llm.residency import Makeup, Reservation
from meshd.memory_status import MemoryNow
from meshd.metrics.telemetry import Telemetry, make_telemetry
from tests.meshd.test_status import host, situation, toy
from transport.interface import NodeId
from transport.wire import encode

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


def test_the_page_lists_the_labels_of_every_metric() -> None:
    said = {}
    for name, labels in re.findall(r"^\| `(meshd_\w+)` \| \w+ \|([^|]*)\|", PAGE.read_text(), re.MULTILINE):
        said[name.removesuffix("_total")] = {label.strip() for label in labels.split(",")} - {""}
    assert said == dict(_labels(telemetry()))


def _labels(told: Telemetry) -> Iterator[tuple[str, set[str]]]:
    """The library tells the labels of a metric without a value nowhere in public."""
    collectors: list[Any] = list(told.registry._collector_to_names)
    for collector in collectors:
        families = [collector] if hasattr(collector, "_labelnames") else list(collector.collect())
        for family in families:
            name = family._name if family is collector else family.name
            yield name, set(family._labelnames)


def test_what_other_nodes_hold_is_there_by_use() -> None:
    held = Held(weights=60, kv=20, forms=5)
    told = {GPU: encode(GpuFact((Device("P40", "cuda", 200, 100, held),)))}
    now = replace(situation(replace(host(), facts=told)))
    registry = make_telemetry(lambda: now, dict).registry
    labels = {"peer": "host", "device": "0", "name": "P40"}
    sizes = {
        use: registry.get_sample_value("meshd_peer_memory_bytes", labels | {"use": use})
        for use in (*USES, "other", "free")
    }
    assert sizes == {"weights": 60, "kv": 20, "forms": 5, "rest": 0, "other": 15, "free": 100}


def test_two_nodes_of_one_name_make_no_two_series_alike() -> None:
    twins = [replace(host(), node=NodeId(letter * 32)) for letter in (b"t", b"u")]
    now = situation(*twins)
    links = tuple(replace(now.links[0], node=twin.node) for twin in twins)
    text = generate_latest(make_telemetry(lambda: replace(now, links=links), dict).registry).decode()
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert sum('peer="host"' in one for one in series) > 3
    assert len(series) == len(set(series))


def test_the_page_lists_every_metric_and_no_other() -> None:
    text = generate_latest(telemetry().registry).decode()
    names = {family.name for family in text_string_to_metric_families(text) if not family.name.endswith("_created")}
    on_page = set(re.findall(r"^\| `(meshd_\w+)`", PAGE.read_text(), re.MULTILINE))
    assert {name.removesuffix("_total") for name in on_page} == {name.removesuffix("_total") for name in names}
