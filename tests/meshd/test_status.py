"""What a status, the model list and the health say of a given view."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import msgspec
from rich.console import Console

from gossip.facts import GPU, Device, GpuFact, Held
from gossip.grant import Grant
from gossip.lease import CLAIMS, Claim, encode_claims
from gossip.quorum import Quorum
from gossip.tenure import Lease, Seat
from gossip.view import NodeView, Status, View
from llm.claims import resource_of
from llm.offer import MODELS_FACT, Offer, encode_offers
from llm.residency import Policy
from meshd.attest.attestation import attest
from meshd.bringing import Bringing, Stage
from meshd.cli.status import _page
from meshd.poc_status import Proof, Proofs
from meshd.status import LeasesNow, Situation, Surroundings, build_health, build_models, build_status
from tests.meshd.examples import FINDINGS, VERIFIER
from transport.advertisement import OtherMesh
from transport.identity import node_text, short
from transport.interface import Address, Link, LinkState, NodeId, Role
from transport.wire import encode

GIB = 1 << 30
ME, HOST, LAPTOP = (NodeId(letter * 32) for letter in (b"m", b"h", b"l"))


def node(
    node_id: NodeId, name: str, role: Role = Role.MEMBER, gib: int = 0, facts: dict[str, bytes] | None = None
) -> NodeView:
    gpu = {GPU: encode(GpuFact((Device("card", "cuda", gib * GIB, gib * GIB // 2),)))} if gib else {}
    return NodeView(
        node=node_id,
        name=name,
        role=role,
        status=Status.ALIVE,
        boot=1,
        incarnation=0,
        addresses=(),
        facts=gpu | (facts or {}),
        rtt_ms=1.5,
        linked=True,
        known_for_s=60.0,
    )


def toy(state: str = "ready", in_flight: int = 2) -> Offer:
    return Offer("toy", "ab" * 32, "", "llama_server", "solo", state, "why", 4096, 4, in_flight, 0.0)  # type: ignore[arg-type]


UNPROVED = {
    "phase": "idle",
    "claimed_tflops": 0.0,
    "attested_tflops": None,
    "age_s": None,
    "by": [],
    "accused_by": [],
    "believed": 1.0,
    "quarantine": "",
    "vram": "not attested",
}


def situation(*others: NodeView, offers: tuple[Offer, ...] = ()) -> Situation:
    link = Link(HOST, Role.MEMBER, "host", LinkState.CONNECTED, Address("10.0.0.2", 7842), "quic", 1.5, 10, 20)
    return Situation(
        mesh_id=b"\x01" * 16,
        mesh_name="home",
        role=Role.MEMBER,
        view=View(1, (node(ME, "me", gib=8), *others)),
        links=(link,),
        offers=offers,
        doors={"api": "http://127.0.0.1:9337"},
        refusals={"token_spent": 1},
        gossip={"refused": 2},
        uptime_s=5.0,
        surroundings=Surroundings(True, "", (OtherMesh(b"t" * 16, (Address("10.0.0.9", 7842),)),)),
    )


def test_claims_leases_and_votes_are_shown_by_the_names_of_nodes() -> None:
    lease = Lease(Seat("host/toy", "work", HOST), b"l" * 16, 7, 1000.0)
    grant = Grant(b"g" * 16, "host/other", "vote", HOST, 1, 3, 1000.0, 0)
    now = replace(situation(host()), leases=LeasesNow({lease: 7.51}, {grant: 9.0}, {"host/toy": Quorum(4, 2)}))

    status = build_status(now)

    (claim,) = status["claims"]
    assert (claim["resource"], claim["term"], claim["host"]) == ("host/toy", 7, "host")
    assert claim["reason"].startswith("host leads toy in term 7")
    assert status["leases"] == {
        "held": [{"resource": "host/toy", "purpose": "work", "term": 7, "worker": "host", "usable_s": 7.5}],
        "granted": [{"resource": "host/other", "purpose": "vote", "term": 3, "host": "host", "lasts_s": 9.0}],
        "quorum": [{"resource": "host/toy", "granted": 2, "needed": 3, "members": 4}],
        "problem": "",
    }
    page = Console(width=120, file=StringIO(), record=True)
    page.print(_page(status))
    shown = page.export_text()
    assert "host works for host/toy under this node's lease, term 7" in shown
    assert "2 of 4 members agree that this node leads host/toy, 3 have to" in shown


def host(state: str = "ready") -> NodeView:
    claim = encode_claims([Claim(resource_of("toy"), 7, 24 * GIB, HOST)])
    return node(HOST, "host", gib=24, facts={MODELS_FACT: encode_offers([toy(state)]), CLAIMS: claim})


def test_the_shape_that_scripts_rely_on() -> None:
    status = build_status(situation(host()))

    assert {"node", "mesh", "host", "peers", "vram_total_gb", "models", "forms", "links", "waiting"} <= set(status)
    assert status["node"] | {"version": "", "uptime_s": 0} == {
        "id": node_text(ME),
        "name": "me",
        "role": "member",
        "duty": "idle",
        "may_invite": False,
        "version": "",
        "uptime_s": 0,
        "poc": UNPROVED,
    }
    assert status["mesh"] == {"id": "01" * 16, "name": "home"}
    assert status["refusals"] == {"token_spent": 1}
    assert status["gossip"] == {"refused": 2}


def test_the_local_network_is_told() -> None:
    off = Surroundings(is_listening=False, problem="--no-mdns")
    failing = Surroundings(is_listening=True, problem="no multicast")

    told = [build_status(replace(situation(), surroundings=each))["mdns"] for each in (off, failing)]

    assert build_status(situation())["mdns"] == {"state": "on", "problem": "", "other_meshes": [["10.0.0.9:7842"]]}
    assert [(each["state"], each["problem"]) for each in told] == [("off", "--no-mdns"), ("failing", "no multicast")]


def test_a_peer_with_its_link_and_memory() -> None:
    (peer,) = build_status(situation(host()))["peers"]

    assert peer == {
        "id": node_text(HOST),
        "name": "host",
        "role": "member",
        "duty": "host",
        "state": "alive",
        "rtt_ms": 1.5,
        "carrier": "quic",
        "vram": {"total_gb": 24.0, "free_gb": 12.0, "kind": "cuda"},
        "memory": [
            {"name": "card", "kind": "cuda", "total_gb": 24.0, "free_gb": 12.0, "uses": {}, "other_gb": 12.0},
        ],
        "poc": UNPROVED,
    }


def test_what_another_node_holds_is_told_for_each_device_by_use() -> None:
    held = Held(weights=6 * GIB, kv=2 * GIB, forms=GIB)
    told = {GPU: encode(GpuFact((Device("P40", "cuda", 24 * GIB, 10 * GIB, held),)))}
    (peer,) = build_status(situation(replace(host(), facts=told)))["peers"]

    (device,) = peer["memory"]
    assert device["uses"] == {"weights": 6.0, "kv": 2.0, "forms": 1.0}
    assert (device["other_gb"], device["free_gb"]) == (5.0, 10.0)


def test_nothing_is_said_of_the_memory_of_clients_and_of_the_dead() -> None:
    dead = replace(node(NodeId(b"d" * 32), "dead", gib=80), status=Status.DEAD)
    peers = build_status(situation(node(LAPTOP, "laptop", Role.CLIENT, gib=16), dead))["peers"]

    assert [peer["memory"] for peer in peers] == [[], []]


def test_every_nodes_memory_is_drawn_and_said() -> None:
    held = Held(weights=6 * GIB, kv=2 * GIB, forms=40 << 20)
    told = {GPU: encode(GpuFact((Device("P40", "cuda", 24 * GIB, 12 * GIB, held),)))}
    page = Console(width=160, file=StringIO(), record=True)
    page.print(_page(build_status(situation(replace(host(), facts=told)))))

    (line,) = [line for line in page.export_text().splitlines() if "P40" in line]
    assert "██████▓▓▚░░░░···········" in line
    assert "models 6.0 GB, KV 2.0 GB, forms 40 MB, other programs 4.0 GB, free 12.0 of 24.0 GB" in line


def test_memory_of_clients_and_of_the_dead_is_not_counted() -> None:
    dead = replace(node(NodeId(b"d" * 32), "dead", gib=80), status=Status.DEAD)

    status = build_status(situation(host(), node(LAPTOP, "laptop", Role.CLIENT, gib=16), dead))

    assert status["vram_total_gb"] == 32.0


def test_a_model_names_its_elected_host_and_term() -> None:
    (model,) = build_status(situation(host()))["models"]

    assert (model["name"], model["host"], model["term"], model["state"]) == ("toy", "host", 7, "ready")
    assert model["in_flight"] == 2


def test_this_node_is_host_only_when_it_holds_a_claim() -> None:
    mine = situation(offers=(toy(),))
    claimed = replace(mine.view.me, facts={CLAIMS: encode_claims([Claim(resource_of("toy"), 1, 8 * GIB, ME)])})

    assert build_status(mine)["host"] is False
    assert build_status(replace(mine, view=View(2, (claimed,))))["host"] is True


def test_the_model_list_is_openais_with_details_of_ours() -> None:
    answer = build_models(situation(host()))

    assert answer["object"] == "list"
    (model,) = answer["data"]
    assert {"id", "object", "created", "owned_by"} <= set(model)
    assert model["meshd"]["hosts"] == [{"node": "host", "state": "ready", "in_flight": 2}]
    assert model["meshd"]["context"] == 4096


def test_health_needs_one_model_that_answers() -> None:
    assert build_health(situation(host()))[0] is True

    loading, detail = build_health(situation(host("loading")))
    assert (loading, detail["models"]) == (False, {"toy": "why"})

    empty, detail = build_health(situation())
    assert (empty, "meshd --model" in detail["reason"]) == (False, True)


def test_a_model_on_its_way_is_loading_and_says_how_far_it_is() -> None:
    coming = Bringing("hf:o/r:Q4_0", Policy.LAZY, loads=False, is_patient=True, name="m-Q4_0")
    coming.enter(Stage.BRINGING)
    coming.meter.size_bytes, coming.meter.source = 40_000_000, "the hub"
    coming.meter.told(12_000_000, 0.0)
    done = Bringing("hf:o/r:Q8_0", Policy.LAZY, loads=False, is_patient=True, stage=Stage.DONE, name="m-Q8_0")
    told = Bringing("hf:o/y", Policy.LAZY, loads=False, is_patient=False, stage=Stage.FAILED, reason="no repository")
    failed = Bringing("hf:o/x", Policy.LAZY, loads=False, is_patient=True, stage=Stage.FAILED, reason="no repository")
    status = build_status(replace(situation(offers=(toy(),)), bringings=(coming, done, told, failed)))
    states = {model["name"]: (model["state"], model["reason"]) for model in status["models"]}
    assert states["m-Q4_0"] == ("loading", "12.0 of 40.0 MB (30 %), from the hub")
    assert states["hf:o/x"] == ("failed", "no repository")
    assert set(states) == {"toy", "m-Q4_0", "hf:o/x"}
    assert [one["wanted"] for one in status["downloads"]] == ["hf:o/r:Q4_0", "hf:o/x"]
    page = Console(width=200, file=StringIO(), record=True)
    page.print(_page(status))
    assert "m-Q4_0: bringing: 12.0 of 40.0 MB" in page.export_text()


def test_what_was_proved_of_a_node_is_shown_with_its_age_and_by_whom_and_that_memory_is_not() -> None:
    attestation = attest(msgspec.structs.replace(FINDINGS, prover=HOST), VERIFIER, b"m" * 16)
    proof = Proof("generate", 4e9, (attestation,), 0.5, "the transcript of its proof fails")
    proofs = Proofs("attested", FINDINGS.made + 90, {HOST: proof}, {"refuted": 1})
    status = build_status(replace(situation(host()), proofs=proofs))
    (peer,) = status["peers"]
    assert peer["poc"] == {
        "phase": "generate",
        "claimed_tflops": 0.004,
        "attested_tflops": float(f"{FINDINGS.flop_per_s / 1e12:.3g}"),
        "age_s": 90,
        "by": [short(VERIFIER.node)],
        "accused_by": [],
        "believed": 0.5,
        "quarantine": "the transcript of its proof fails",
        "vram": "not attested",
    }
    assert status["poc"] == {"trust": "attested", "quarantined": 1, "counts": {"refuted": 1}, "vram": "not attested"}
    page = Console(width=200, file=StringIO(), record=True)
    page.print(_page(status))
    shown = page.export_text()
    assert "proved 90 s ago" in shown and "no figure for VRAM is attested" in shown and "in quarantine" in shown
