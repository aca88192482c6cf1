"""The mesh as this node sees it, for Prometheus: made from a situation at every scrape, so never out of date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import meshd
from gossip.lease import claims
from gossip.view import Status
from llm.offer import Offer
from meshd.memory_status import offered_by, other_bytes
from meshd.metrics.drafts import drafts
from meshd.metrics.members import EVENTS, MemberEvents
from meshd.metrics.sessions import session_metrics
from meshd.naming import distinct_names
from meshd.poc_status import attested_flop_per_s
from meshd.status import Situation
from transport.interface import Link, LinkState, NodeId

Names = Mapping[NodeId, str]
"""What each node is called in labels: two series may not bear the same ones."""


class MeshCollector(Collector):
    """situation: now.  members: what was counted so far.  queued: requests that wait, by model of this node."""

    def __init__(
        self, situation: Callable[[], Situation], members: MemberEvents, queued: Callable[[], dict[str, int]]
    ) -> None:
        self._situation = situation
        self._members = members
        self._queued = queued

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are checked when they are collected."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        now = self._situation()
        names = distinct_names(now.view, now.links)
        yield _info(now)
        yield from _members(now, self._members)
        yield from _links(now.links, names)
        yield from _models(now.offers, self._queued())
        yield from _memory(now, names)
        yield from drafts(now.drafts, now.local_drafts, now.view.me.name)
        yield from session_metrics(now.sessions)
        yield from _proofs(now, names)
        gossip = CounterMetricFamily("meshd_gossip_refused", "What gossip refused or could not judge.", labels=["kind"])
        for kind, count in now.gossip.items():
            gossip.add_metric([kind], count)
        yield gossip
        refused = CounterMetricFamily("meshd_handshakes_refused", "Strangers turned away, by reason.", labels=["code"])
        for code, count in now.refusals.items():
            refused.add_metric([str(code)], count)
        yield refused


def _info(now: Situation) -> Metric:
    names = ["version", "node", "role", "mesh"]
    family = GaugeMetricFamily("meshd_info", "Always 1; who this is.", labels=names)
    family.add_metric([meshd.__version__, now.view.me.name, now.role.value, now.mesh_name], 1)
    return family


def _members(now: Situation, events: MemberEvents) -> Iterator[Metric]:
    states = Counter(node.status for node in now.view.nodes)
    family = GaugeMetricFamily("meshd_members", "Nodes of the mesh by state, this one included.", labels=["state"])
    for status in Status:
        family.add_metric([status.name.lower()], states[status])
    yield family
    happened = CounterMetricFamily(
        "meshd_member_events", "What happened to other nodes, as this one saw it.", labels=["event"]
    )
    for event in EVENTS:
        happened.add_metric([event], events.events[event])
    yield happened
    yield CounterMetricFamily("meshd_elections", "Hosts that were elected.", value=events.elections)
    terms = GaugeMetricFamily("meshd_claim_term", "Term of the host of a resource.", labels=["resource"])
    for resource, claim in claims(now.view).items():
        terms.add_metric([resource], claim.term)
    yield terms


def _links(links: Iterable[Link], names: Names) -> Iterator[Metric]:
    up = GaugeMetricFamily("meshd_link_up", "1 for a link that is connected.", labels=["peer", "carrier"])
    rtt = GaugeMetricFamily("meshd_link_rtt_seconds", "Smoothed round trip.", labels=["peer"])
    moved = CounterMetricFamily("meshd_link_bytes", "Bytes by direction.", labels=["peer", "carrier", "direction"])
    for link in links:
        name = names[link.node]
        up.add_metric([name, link.carrier], float(link.state is LinkState.CONNECTED))
        if link.rtt_ms is not None:
            rtt.add_metric([name], link.rtt_ms / 1000)
        moved.add_metric([name, link.carrier, "sent"], link.bytes_sent)
        moved.add_metric([name, link.carrier, "received"], link.bytes_received)
    yield from (up, rtt, moved)


def _models(offers: Iterable[Offer], queued: dict[str, int]) -> Iterator[Metric]:
    names = ["model", "mode"]
    ready = GaugeMetricFamily("meshd_model_ready", "1 for a model of this node that answers.", labels=names)
    running = GaugeMetricFamily("meshd_model_in_flight", "Requests at this node's model.", labels=names)
    waiting = GaugeMetricFamily("meshd_model_queue", "Requests that wait for a slot of such a model.", labels=names)
    for offer in offers:
        labels = [offer.name, offer.mode]
        ready.add_metric(labels, float(offer.state == "ready"))
        running.add_metric(labels, offer.in_flight)
        waiting.add_metric(labels, queued.get(offer.name, 0))
    yield from (ready, running, waiting)


def _proofs(now: Situation, names: Names) -> Iterator[Metric]:
    """Of nodes whose speed was proved, or that are shut out."""
    rates = GaugeMetricFamily("meshd_poc_attested_flop_per_s", "Median of the attested lower bounds.", labels=["peer"])
    believed = GaugeMetricFamily("meshd_poc_believed", "What part of its claims a node is believed.", labels=["peer"])
    shut_out = GaugeMetricFamily("meshd_poc_quarantined", "1 for a node that was shut out here.", labels=["peer"])
    for node in now.view.nodes:
        proof = now.proofs.of(node.node)
        if proof.attested or proof.quarantine:
            name = names[node.node]
            rates.add_metric([name], attested_flop_per_s(proof))
            believed.add_metric([name], proof.believed)
            shut_out.add_metric([name], float(bool(proof.quarantine)))
    yield from (rates, believed, shut_out)
    checks = CounterMetricFamily("meshd_poc_events", "Attestations heard, and checks by outcome.", labels=["event"])
    for event, count in (now.proofs.counts or {}).items():
        checks.add_metric([event], count)
    yield checks


def _memory(now: Situation, names: Names) -> Iterator[Metric]:
    labels = ["device", "name", "kind"]
    total = GaugeMetricFamily("meshd_memory_total_bytes", "Memory that this node offers.", labels=labels)
    free = GaugeMetricFamily("meshd_memory_free_bytes", "What could be reserved now.", labels=labels)
    for number, device in enumerate(now.memory.devices):
        which = [str(number), device.name, device.kind]
        total.add_metric(which, device.total_bytes)
        free.add_metric(which, device.free_bytes)
    labels = ["device", "holder", "use"]
    held = GaugeMetricFamily("meshd_memory_reserved_bytes", "Reserved, by holder and by what it is for.", labels=labels)
    sums: Counter[tuple[str, str, str]] = Counter()
    for reservation in now.memory.reservations:
        for number in range(len(reservation.parts)):
            for use, size in reservation.uses(number).items():
                sums[str(number), reservation.holder, use] += size
    for key, size in sums.items():
        held.add_metric(key, size)
    yield from (total, free, held, _peer_memory(now, names))


def _peer_memory(now: Situation, names: Names) -> Metric:
    """What other nodes say of their devices, in the parts that a console draws."""
    labels = ["peer", "device", "name", "use"]
    family = GaugeMetricFamily("meshd_peer_memory_bytes", "What other nodes say of their memory.", labels=labels)
    for node in now.view.nodes[1:]:
        for number, device in enumerate(offered_by(node)):
            sizes = msgspec.structs.asdict(device.uses) | {"other": other_bytes(device), "free": device.free_bytes}
            for use, size in sizes.items():
                family.add_metric([names[node.node], str(number), device.name, use], size)
    return family
