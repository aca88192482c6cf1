"""Every way into `transport` for bytes of others, for the fuzzers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from tests.fuzzing import Decoder, seeds_of
from tests.transport import examples
from tests.transport.examples import (
    BINDING,
    DUE,
    MEMBER,
    MEMBER_CERTIFICATE,
    MESH_ID,
    NEXT_ROOT,
    NOW,
    OWNER,
    ROOT,
    SECOND,
    CountingDice,
)
from transport import blob_message
from transport.address import parse_address
from transport.admission import Asked, ClientAdmission, ServerAdmission
from transport.advertisement import Heard, Sightings
from transport.bulk.connection import LaneConnection
from transport.bulk.frame import FrameReader, encode_end, encode_reset, record_prefix
from transport.bulk.lane import Lane, LaneUses
from transport.bulk.message import read_dialled, read_grant, read_wish
from transport.bulk.pinning import LaneIdentity, certificate_node
from transport.certificate import Membership, names_in, verify_certificate
from transport.credit import ReceiveCredit, WindowBudget, decode_grant
from transport.errors import BadToken, ProtocolError, Refused
from transport.forwarding import MAX_FORWARD_BYTES, answer_forwarded, read_answer
from transport.handshake import MAX_MESSAGE_BYTES
from transport.identity import parse_node_text
from transport.interface import NodeId, Peer, Record, RecordKind, Role, StreamHeader
from transport.invite import parse_token
from transport.issuance import CERTIFICATE_DOMAIN, MAX_CERTIFICATE_BYTES, encode_signed
from transport.pairing import AskingAdmission, read_hello
from transport.quic.endpoint import _destination_id, _first_packet
from transport.quic.greeting import Greeting
from transport.record import RecordReader, encode_record
from transport.renewal import Renewer, Renewing
from transport.resumption import Resumption
from transport.revocation import MAX_REVOCATION_BYTES, Revocations
from transport.rotation import Roots
from transport.stream import StreamMachine
from transport.token_book import TokenBook
from transport.tunnel_message import Position, read_frame, read_request
from transport.tunnel_message import read_answer as read_tunnel_answer
from transport.windows import Windows

PEER = Peer(MEMBER.node, Role.MEMBER, 2, "member", MEMBER_CERTIFICATE)
HEADER = StreamHeader("echo/1", "r", 0)
STREAM_BYTES = 128 << 10
"""More than the first window."""

SITE, MEMBER_SITE, JOINER_SITE = examples.owner_site(), examples.member_site(), examples.joiner_site()
SECOND_SITE = replace(
    MEMBER_SITE, key=SECOND, membership=examples.membership(examples.SECOND_CERTIFICATE), name="second"
)


class _Nowhere:
    """A lane that leads there."""

    def send(self, kind: RecordKind, payload: bytes) -> None: ...
    def write(self, data: bytes, end: bool) -> None: ...
    def abandon(self, code: int) -> None: ...
    def forget(self) -> None: ...


# Streams


def _pieces(data: bytes) -> list[bytes]:
    """As a carrier may cut them: the first byte says where."""
    size = 1 + (data[0] if data else 0)
    return [data[at : at + size] for at in range(0, len(data), size)]


def _read_records(data: bytes) -> None:
    reader = RecordReader()
    for piece in _pieces(data):
        reader.feed(piece)


def _stream(header: StreamHeader | None) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        machine = StreamMachine(PEER.node, _Nowhere(), ReceiveCredit(WindowBudget()), header)
        for piece in _pieces(data):
            machine.data_received(piece, end=False)
        machine.data_received(b"", end=True)

    return read


def _greet(data: bytes) -> None:
    greeting = Greeting(lambda written, end: None)
    for piece in _pieces(data):
        greeting.data_received(piece, end=False)
    greeting.data_received(b"", end=True)


# Admission


def _judge_proof(data: bytes) -> None:
    site = examples.owner_site()  # its book changes
    server = ServerAdmission(site, BINDING, CountingDice())
    judged = server.judge(data, NOW)
    if isinstance(judged, Asked):
        server.let_in(judged, NOW)


def _judge_hello(data: bytes) -> None:
    invite = parse_token(_TOKEN)
    ClientAdmission(JOINER_SITE, BINDING, CountingDice(), invite).receive(data, NOW)
    ClientAdmission(MEMBER_SITE, BINDING, CountingDice()).receive(data, NOW)


def _judge_finish(data: bytes) -> None:
    client = ClientAdmission(JOINER_SITE, BINDING, CountingDice(), parse_token(_TOKEN))
    client.receive(_HELLO, NOW)
    client.receive(data, NOW)


(_HELLO,) = (data for data in seeds_of("transport", "server_hello")[:1])
_TOKEN = seeds_of("transport", "token")[0].decode()


# Certificates and lists


def _verify(data: bytes) -> None:
    verify_certificate(data, Roots(ROOT.public), MESH_ID, DUE)


def _signed_by_the_root(data: bytes) -> None:
    verify_certificate(encode_signed(data, ROOT.sign(CERTIFICATE_DOMAIN + data), b""), ROOT.public, MESH_ID, NOW)


def _signed_by_a_delegate(data: bytes) -> None:
    delegate, encoded = examples.DELEGATE, examples.DELEGATE_CERTIFICATE
    signed = encode_signed(data, delegate.sign(CERTIFICATE_DOMAIN + data), encoded)
    verify_certificate(signed, ROOT.public, MESH_ID, NOW)


def _succeed(data: bytes) -> None:
    Roots(ROOT.public).extended(MESH_ID, [data])
    Roots.of(MESH_ID, NEXT_ROOT.public, [data])


def _revoke(data: bytes) -> None:
    Revocations(MESH_ID).receive(data, Roots(ROOT.public), NOW)


def _keep_tokens(data: bytes) -> None:
    book = TokenBook.from_bytes(data, OWNER, examples.membership(examples.OWNER_CERTIFICATE))
    book.list(NOW)


def _keep_membership(data: bytes) -> None:
    Membership.from_bytes(data).verified(NOW)


# Questions and answers


def _renew(data: bytes) -> None:
    Renewer(SECOND_SITE).answer(data, MEMBER.node, DUE, CountingDice())
    Renewer(SITE).answer(data, MEMBER.node, DUE, CountingDice())


def _renewed(data: bytes) -> None:
    attempt = Renewing(MEMBER, examples.membership(MEMBER_CERTIFICATE), frozenset(), DUE)
    attempt.receive(data, SECOND.node, DUE)


def _join(data: bytes) -> None:
    answer_forwarded(examples.owner_site(), PEER, data, NOW, CountingDice())


# Tunnels


def _tunnel_frames(data: bytes) -> None:
    """A whole stream of frames, as records, into one end of a tunnel."""
    machine = Resumption(0.0)
    machine.attach(Position(0, 0), 1 << 20, 0.0)
    machine.read(bytes(8192), 0.0)
    machine.next_frame(0.0)
    for record in RecordReader().feed(data):
        if record.kind in (RecordKind.MESSAGE, RecordKind.DATA):
            machine.received(read_frame(record, PEER.node), 0.0)


def _in_record(read: Callable[[Record, NodeId], object]) -> Callable[[bytes], object]:
    return lambda data: read(Record(RecordKind.MESSAGE, data), PEER.node)


def _frames() -> bytes:
    taken, ended = (seeds_of("transport", name)[0] for name in ("tunnel_taken", "tunnel_ended"))
    data = encode_record(RecordKind.DATA, b"bytes")
    return data + encode_record(RecordKind.MESSAGE, taken) + encode_record(RecordKind.MESSAGE, ended)


# Bulk lanes


class _NoConnection:
    """Of a lane that only listens."""

    bytes_sent = bytes_received = 0

    def write(self, *parts: bytes) -> None: ...
    def abort(self) -> None: ...


def _lane(data: bytes) -> None:
    """Frames as they arrive, into a lane that the peer opens streams on."""
    uses = LaneUses(lambda stream: None, Windows(), lambda lane, reason: None)
    lane = Lane(cast(LaneConnection, _NoConnection()), PEER, False, uses)
    reader = FrameReader()
    for piece in _pieces(data):
        reader.room()[: len(piece)] = piece
        lane.frames_received(reader.filled(len(piece)))
    lane.lost("the end of the test")


def _lane_frames() -> bytes:
    opening = encode_record(RecordKind.OPEN, seeds_of("transport", "stream_header")[0])
    data = encode_record(RecordKind.DATA, b"bytes")
    finish = encode_record(RecordKind.FINISH, b"")
    first = b"".join(record_prefix(0) + record for record in (opening, data, finish))
    return first + record_prefix(2) + opening + encode_reset(2, 1) + encode_end(0)


def _own_certificate() -> bytes:
    return LaneIdentity(MEMBER, NOW).certificate


# Pairing


def _pairing_hello(data: bytes) -> None:
    seen = read_hello(data, BINDING, NOW)
    AskingAdmission(JOINER_SITE, BINDING, CountingDice(), seen, "").receive(data, NOW)


def _pairing_finish(data: bytes) -> None:
    seen = read_hello(_HELLO, BINDING, NOW)
    asking = AskingAdmission(JOINER_SITE, BINDING, CountingDice(), seen, "")
    asking.receive(_HELLO, NOW)
    asking.receive(data, NOW)


# What strangers send


def _hear(data: bytes) -> None:
    parts = data.split(b"\n")
    text = dict(part.partition(b"=")[::2] for part in parts[:-1])
    hosts = (parts[-1].decode("latin-1"), "192.0.2.1")
    Sightings(MESH_ID, OWNER.node).heard(Heard("name", text, hosts, 7842), NOW)


def _advertised() -> bytes:
    said = examples.known_answers()["advertisement"]
    return "".join(f"{key}={value}\n" for key, value in said.items()).encode() + b"192.0.2.9"


def _meet(data: bytes) -> None:
    _destination_id(data)
    _first_packet(data)


def _first_flight() -> bytes:
    """The bytes in front of a first packet that are in the clear, padded to its size."""
    return (b"\xc3\x00\x00\x00\x01\x08" + b"d" * 8 + b"\x08" + b"s" * 8 + b"\x00\x44\x96").ljust(1200, b"\x5a")


_PROOFS = seeds_of("transport", "client_proof_member", "client_proof_joiner", "pairing_request", "refusal")
_CERTIFICATES = seeds_of("transport", "certificate", "certificate_owner", "certificate_delegated")
_COUNTERSIGNED = seeds_of("transport", "certificate_countersigned")
_BODY = seeds_of("transport", "certificate_body")
_RECORDS = seeds_of("transport", "records")
_OPENED = (_RECORDS[0][_RECORDS[0].index(b"\x00\x00\x00\x01\x02") :],)
_MEETING = (encode_record(RecordKind.MESSAGE, _PROOFS[0]), encode_record(RecordKind.MESSAGE, _HELLO))

DECODERS = (
    Decoder("records", _read_records, _RECORDS, STREAM_BYTES),
    Decoder("stream", _stream(None), _RECORDS, STREAM_BYTES, ()),
    Decoder("stream-opened-here", _stream(HEADER), _OPENED, STREAM_BYTES, ()),
    Decoder("credit", decode_grant, seeds_of("transport", "credit"), 64),
    Decoder("greeting", _greet, _MEETING, 16 << 10),
    Decoder("server-hello", _judge_hello, seeds_of("transport", "server_hello"), MAX_MESSAGE_BYTES, (Refused,)),
    Decoder("client-proof", _judge_proof, _PROOFS, MAX_MESSAGE_BYTES, (Refused,)),
    Decoder(
        "server-finish", _judge_finish, seeds_of("transport", "server_finish_joiner"), MAX_MESSAGE_BYTES, (Refused,)
    ),
    Decoder("pairing-hello", _pairing_hello, seeds_of("transport", "server_hello"), MAX_MESSAGE_BYTES, (Refused,)),
    Decoder(
        "pairing-finish", _pairing_finish, seeds_of("transport", "server_finish_joiner"), MAX_MESSAGE_BYTES, (Refused,)
    ),
    Decoder("certificate", _verify, _CERTIFICATES + _COUNTERSIGNED, MAX_CERTIFICATE_BYTES, (Refused,)),
    Decoder("certificate-body-by-root", _signed_by_the_root, _BODY, MAX_CERTIFICATE_BYTES, (Refused,)),
    Decoder("certificate-body-by-delegate", _signed_by_a_delegate, _BODY, MAX_CERTIFICATE_BYTES, (Refused,)),
    Decoder("certificate-names", names_in, _CERTIFICATES + _COUNTERSIGNED, MAX_CERTIFICATE_BYTES, (Refused,)),
    Decoder("succession", _succeed, seeds_of("transport", "succession"), 256, (Refused,)),
    Decoder("revocations", _revoke, seeds_of("transport", "revocations"), MAX_REVOCATION_BYTES, (Refused,)),
    Decoder(
        "token",
        lambda data: parse_token(data.decode("latin-1")),
        seeds_of("transport", "token"),
        8192,
        (BadToken,),
    ),
    Decoder("token-book", _keep_tokens, seeds_of("transport", "token_book"), 32 << 10, peak_bytes=40 << 20),
    Decoder("membership", _keep_membership, seeds_of("transport", "membership"), 8192, (ProtocolError, Refused)),
    Decoder(
        "renew-question",
        _renew,
        seeds_of("transport", "renew_request", "renew_request_signer"),
        MAX_MESSAGE_BYTES,
        (Refused,),
    ),
    Decoder(
        "renew-answer",
        _renewed,
        seeds_of("transport", "renewed", "renewed_after_rotation", "countersigned", "refusal"),
        MAX_MESSAGE_BYTES,
        (Refused,),
    ),
    Decoder("join-question", _join, seeds_of("transport", "forwarded_join"), MAX_FORWARD_BYTES, (Refused,)),
    Decoder(
        "join-answer",
        lambda data: read_answer(data, OWNER.node),
        seeds_of("transport", "join_granted", "refusal"),
        MAX_MESSAGE_BYTES,
        (Refused,),
    ),
    Decoder("tunnel-request", _in_record(read_request), seeds_of("transport", "tunnel_open", "tunnel_resume"), 1024),
    Decoder(
        "tunnel-answer", _in_record(read_tunnel_answer), seeds_of("transport", "tunnel_attached", "tunnel_denied"), 1024
    ),
    Decoder("tunnel-frames", _tunnel_frames, (_frames(),), STREAM_BYTES),
    Decoder("bulk-wish", _in_record(read_wish), seeds_of("transport", "bulk_want", "bulk_dialme"), 2048),
    Decoder("bulk-grant", _in_record(read_grant), seeds_of("transport", "bulk_grant"), 2048),
    Decoder("bulk-dialled", _in_record(read_dialled), seeds_of("transport", "bulk_dialled"), 2048),
    Decoder("bulk-lane", _lane, (_lane_frames(),), STREAM_BYTES, bent_bytes=3 << 20, peak_bytes=5 << 20),
    Decoder("blob-request", _in_record(blob_message.read_request), seeds_of("transport", "blob_get", "blob_put"), 256),
    Decoder(
        "blob-found", _in_record(blob_message.read_found), seeds_of("transport", "blob_found", "blob_missing"), 256
    ),
    Decoder(
        "blob-wanted",
        _in_record(blob_message.read_wanted),
        seeds_of("transport", "blob_wanted", "blob_full", "blob_stored"),
        256,
    ),
    Decoder("tls-certificate", certificate_node, (_own_certificate(),), 1024),
    Decoder("advertisement", _hear, (_advertised(),), 1024, ()),
    Decoder("first-packet", _meet, (_first_flight(),), 1452, ()),
    Decoder(
        "address", lambda data: parse_address(data.decode("latin-1")), (b"[2001:db8::7]:7842",), 300, (ValueError,)
    ),
    Decoder(
        "node-text",
        lambda data: parse_node_text(data.decode("latin-1")),
        (examples.known_answers()["node_id"]["text"].encode(),),
        60,
        (ValueError,),
    ),
)
