"""Bytes that were written down once are read as they were meant, written alike, and still hold what they prove."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest

from tests import golden
from tests.golden import Vector, check, codec, load, plain, vectors
from tests.transport import examples
from tests.transport.examples import BINDING, DUE, MEMBER, MESH_ID, NOW, ROOT, SECOND
from transport.admission import Accepted, Admitted, ClientAdmission, ServerAdmission
from transport.certificate import Membership, verify_certificate
from transport.identity import NodeKey
from transport.invite import parse_token
from transport.revocation import verify_revocations
from transport.rotation import Roots
from transport.token_book import TokenBook, TokenState

VECTORS = vectors("transport")


def name_of(vector: Vector) -> str:
    return vector.path.stem


def committed(name: str) -> bytes:
    return load(Path(__file__).parent / "vectors" / f"{name}.json").data


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_a_vector_is_read_as_it_was_meant_and_written_alike(vector: Vector) -> None:
    check(vector)


def test_every_example_has_its_vector() -> None:
    assert {name_of(vector) for vector in VECTORS} >= examples.examples().keys(), "run python -m tools.vectors"


def test_what_is_derived_comes_out_as_it_did() -> None:
    path = Path(__file__).parent / "known_answers.json"
    assert examples.known_answers() == json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("change", ["another value", "a field less", "other bytes"])
def test_a_vector_that_differs_is_noticed(change: str) -> None:
    vector = next(one for one in VECTORS if name_of(one) == "refusal")
    value = json.loads(json.dumps(vector.value))
    data = vector.data
    match change:
        case "another value":
            value["Refusal"]["code"] = "busy"
        case "a field less":
            value["Refusal"]["hint"] = "expected of a field that is gone"
        case _:  # the same map, spelled longer
            data = b"\xde\x00" + bytes([data[0] & 0x0F]) + data[1:]
    with pytest.raises(AssertionError):
        check(Vector(vector.path, vector.about, vector.codec, data, value))


@pytest.mark.parametrize(
    ("name", "now", "key"),
    [
        ("certificate", NOW, MEMBER),
        ("certificate_delegated", NOW, SECOND),
        ("certificate_countersigned", DUE, MEMBER),
    ],
)
def test_the_certificates_hold(name: str, now: float, key: NodeKey) -> None:
    assert verify_certificate(committed(name), ROOT.public, MESH_ID, now).node == key.node


def nonce_in(message: bytes) -> bytes:
    nonce: bytes = msgpack.unpackb(message)["nonce"]
    return nonce


def test_the_handshake_of_a_member_holds() -> None:
    hello, proof, finish = (committed(name) for name in ("server_hello", "client_proof_member", "server_finish_member"))
    server = ServerAdmission(examples.owner_site(), BINDING, lambda _: nonce_in(hello))
    assert isinstance(server.judge(proof, NOW), Accepted)
    client = ClientAdmission(examples.member_site(), BINDING, lambda _: nonce_in(proof))
    assert client.receive(hello, NOW) == proof
    assert isinstance(client.receive(finish, NOW), Admitted)


def test_the_handshake_of_a_joiner_holds() -> None:
    hello, proof, finish = (committed(name) for name in ("server_hello", "client_proof_joiner", "server_finish_joiner"))
    invite = parse_token(committed("token").decode())
    dice = examples.CountingDice()
    client = ClientAdmission(examples.joiner_site(), BINDING, dice, invite)
    assert client.receive(hello, NOW) == proof
    admitted = client.receive(finish, NOW)
    assert isinstance(admitted, Admitted)
    assert admitted.membership is not None
    assert admitted.membership.verified(NOW).node == examples.JOINER.node


def test_the_lists_and_files_hold() -> None:
    roots = Roots(ROOT.public).extended(MESH_ID, [committed("succession")])
    assert roots.current == examples.NEXT_ROOT.public
    assert verify_revocations(committed("revocations"), roots, MESH_ID, NOW).names.nodes == {examples.CLIENT.node}
    membership = Membership.from_bytes(committed("membership"))
    assert membership.verified(NOW).node == MEMBER.node
    book = TokenBook.from_bytes(committed("token_book"), examples.OWNER, membership)
    assert [entry.state for entry in book.list(NOW)] == [TokenState.SPENT]


def test_values_are_plain_json() -> None:
    for vector in VECTORS:
        assert json.loads(json.dumps(plain(codec(vector.codec).read(vector.data)))) is not None


def test_a_new_vector_reads_back(tmp_path: Path) -> None:
    for name, example in examples.examples().items():
        path = tmp_path / f"{name}.json"
        path.write_text(golden.dump(example), "utf-8")
        check(load(path))


def test_an_earlier_version_is_read_with_the_defaults_of_what_it_lacks() -> None:
    earlier = [vector for vector in VECTORS if vector.is_earlier]
    assert earlier
    for vector in earlier:
        found = codec(vector.codec)
        assert found.write(found.read(vector.data)) != vector.data, f"{name_of(vector)} is not of an earlier version"
