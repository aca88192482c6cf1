"""One example of every message of `transport`, made with fixed keys and dice; `tools/vectors.py` writes them down.

The keys are Ed25519 seeds of one repeated byte: root 01, owner 02, member 03, client 04, joiner 05, delegate 06,
second member 07, next root 08. Dice count up from 0. It is NOW, and the mesh id is sixteen bytes of 0xa1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgpack

from tests.golden import OWNER_SEED, Example
from transport import wire
from transport.admission import ClientAdmission, ServerAdmission, Site, refusal_message
from transport.advertisement import advertise, discovery_tag
from transport.blob_message import Found, Full, Get, Missing, Put, Stored, Wanted
from transport.bulk.frame import encode_end, encode_reset, record_prefix
from transport.bulk.message import Dialled, DialMe, Grant, Want
from transport.certificate import Membership, verify_certificate
from transport.countersigned import Span, Vouch, assemble, countersign
from transport.credit import encode_grant
from transport.errors import RefusalCode, Refused
from transport.forwarding import answer_forwarded, ask_issuer
from transport.handshake import (
    channel_binding,
    client_transcript,
    finish_transcript,
    pairing_code,
    server_transcript,
)
from transport.identity import NodeKey, node_text
from transport.interface import Address, Peer, RecordKind, Role, StreamHeader
from transport.invite import Invite, format_token, join_proof, parse_token, root_fingerprint
from transport.issuance import LIFETIME_S, Capability, MemberCertificate, Signer, issue, read_issued
from transport.pairing import AskingAdmission, read_hello
from transport.record import encode_record
from transport.renewal import Proposal, Renewed, Renewer, RenewRequest
from transport.revocation import Names, sign_revocations
from transport.rotation import succeed
from transport.site import Forward
from transport.token_book import TokenBook
from transport.tunnel_message import Attached, Denial, Denied, Ended, Open, Position, Resume, Taken

NOW = 1_800_000_000
DAY_S = 86_400
DUE = NOW + 20 * DAY_S
MESH_ID = b"\xa1" * 16
BINDING = b"\xcb" * 32
SPAN = Span(DUE, DUE + LIFETIME_S)
TUNNEL = bytes(range(16))

ROOT, OWNER, MEMBER, CLIENT, JOINER, DELEGATE, SECOND, NEXT_ROOT = (NodeKey(bytes([n]) * 32) for n in range(1, 9))
assert OWNER.seed == OWNER_SEED


class CountingDice:
    """Bytes 0, 1, 2, … and so on, over and over."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, count: int) -> bytes:
        start, self._next = self._next, self._next + count
        return bytes((start + offset) % 256 for offset in range(count))


def certificate(key: NodeKey, role: Role, caps: tuple[Capability, ...] = (), signer: Signer | None = None) -> bytes:
    return issue(signer or Signer(ROOT), MESH_ID, key.public, role, caps, NOW, CountingDice())


def verified(encoded: bytes, now: float = NOW) -> MemberCertificate:
    return verify_certificate(encoded, ROOT.public, MESH_ID, now)


OWNER_CERTIFICATE = certificate(OWNER, Role.OWNER, ("can_invite",))
MEMBER_CERTIFICATE = certificate(MEMBER, Role.MEMBER)
DELEGATE_CERTIFICATE = certificate(DELEGATE, Role.MEMBER, ("can_invite",))
SECOND_CERTIFICATE = certificate(SECOND, Role.MEMBER, signer=Signer(DELEGATE, verified(DELEGATE_CERTIFICATE)))
SUCCESSION = succeed(ROOT, NEXT_ROOT, MESH_ID, NOW)
REVOCATIONS = sign_revocations(
    ROOT, MESH_ID, 2, Names(frozenset({CLIENT.node}), frozenset({b"s" * 12}), frozenset({b"t" * 8})), NOW
)


def membership(encoded: bytes) -> Membership:
    return Membership(MESH_ID, "attic", ROOT.public, encoded)


def issued_token() -> tuple[TokenBook, Invite]:
    """The owner's book with one token, which nobody has used, and that token."""
    book = TokenBook(OWNER, membership(OWNER_CERTIFICATE), b"\x0c" * 32)
    addresses = (Address("192.0.2.7", 7842), Address("2001:db8::7", 7842), Address("gpu-box.lan", 7842))
    return book, parse_token(book.create(Role.MEMBER, DAY_S, 1, addresses, NOW, CountingDice()))


def invite() -> Invite:
    return issued_token()[1]


def owner_site() -> Site:
    book, _ = issued_token()
    return Site(OWNER, "owner", 3, membership(OWNER_CERTIFICATE), Role.OWNER, book, signer=Signer(ROOT))


def member_site() -> Site:
    return Site(MEMBER, "member", 2, membership(MEMBER_CERTIFICATE), Role.MEMBER)


def joiner_site() -> Site:
    return Site(JOINER, "joiner", 1, None, Role.MEMBER)


def handshake(server: Site, client: Site, invitation: Invite | None = None) -> tuple[bytes, bytes, bytes]:
    """The three messages that pass between the two, over a session whose binding is BINDING."""
    server_end = ServerAdmission(server, BINDING, CountingDice())
    client_end = ClientAdmission(client, BINDING, CountingDice(), invitation)
    hello = server_end.start()
    proof = client_end.receive(hello, NOW)
    assert isinstance(proof, bytes)
    return hello, proof, server_end.receive(proof, NOW).reply


def asking() -> bytes:
    """How the joiner asks the owner, without a token and not for the first time."""
    hello = ServerAdmission(owner_site(), BINDING, CountingDice()).start()
    asker = AskingAdmission(joiner_site(), BINDING, CountingDice(), read_hello(hello, BINDING, NOW), "K7QD2M4AWX3F")
    request = asker.receive(hello, NOW)
    assert isinstance(request, bytes)
    return request


def countersigned_certificate() -> bytes:
    """Of the member, by its second and its delegate."""
    renews = verified(MEMBER_CERTIFICATE)
    vouches = [
        Vouch(verified(encoded), countersign(key, renews, SPAN))
        for key, encoded in ((SECOND, SECOND_CERTIFICATE), (DELEGATE, DELEGATE_CERTIFICATE))
    ]
    return assemble(renews, SPAN, vouches)


def forwarding() -> tuple[bytes, bytes]:
    """What the member asks the owner about the joiner, and the answer."""
    server_end = ServerAdmission(member_site(), BINDING, CountingDice())
    client_end = ClientAdmission(joiner_site(), BINDING, CountingDice(), invite())
    proof = client_end.receive(server_end.start(), NOW)
    assert isinstance(proof, bytes)
    forward = server_end.judge(proof, NOW)
    assert isinstance(forward, Forward)
    question = ask_issuer(forward, member_site())
    asker = Peer(MEMBER.node, Role.MEMBER, 2, "member", MEMBER_CERTIFICATE)
    return question, answer_forwarded(owner_site(), asker, question, NOW, CountingDice()).reply


def renewal() -> tuple[bytes, bytes, bytes]:
    """The member's question, the owner's answer, and another member's."""
    question = wire.encode(RenewRequest(MEMBER_CERTIFICATE, Proposal(*SPAN)))
    renewed = Renewer(owner_site()).answer(question, MEMBER.node, DUE, CountingDice())
    other = Site(SECOND, "second", 1, membership(SECOND_CERTIFICATE), Role.MEMBER)
    return question, renewed, Renewer(other).answer(question, MEMBER.node, DUE, CountingDice())


def _streams() -> Iterator[tuple[str, Example]]:
    header = StreamHeader("chat/1", "req-7", 30_000)
    records = (
        encode_record(RecordKind.OPEN, wire.encode(header))
        + encode_record(RecordKind.MESSAGE, b"\x80")
        + encode_record(RecordKind.DATA, b"raw bytes")
        + encode_record(RecordKind.CREDIT, encode_grant(65_536))
        + encode_record(RecordKind.FINISH, b"")
    )
    yield "records", Example("One direction of a stream: a record of every kind", "records", records)
    yield "credit", Example("The payload of a CREDIT record", "credit", encode_grant(65_536))
    yield (
        "stream_header",
        Example("The payload of an OPEN record", "transport.interface.StreamHeader", wire.encode(header)),
    )


def _certificates() -> Iterator[tuple[str, Example]]:
    signed, _ = read_issued(MEMBER_CERTIFICATE)
    path = "transport.issuance."
    yield "certificate_body", Example("What the root signed for the member", path + "CertificateBody", signed.body)
    yield "certificate", Example("The member's, by the root", path + "SignedCertificate", MEMBER_CERTIFICATE)
    yield "certificate_owner", Example("The owner's, by the root", path + "SignedCertificate", OWNER_CERTIFICATE)
    yield "certificate_delegated", Example("By a delegate", path + "SignedCertificate", SECOND_CERTIFICATE)
    yield (
        "certificate_countersigned",
        Example("By two members", "transport.countersigned._Countersigned", countersigned_certificate()),
    )
    yield "succession", Example("Of the root key", "transport.rotation._CrossSigned", SUCCESSION)
    yield "succession_body", Example("What both roots sign", "transport.rotation._Body", _body_of(SUCCESSION))
    yield "revocations", Example("One name of each kind", "transport.revocation._Signed", REVOCATIONS)
    yield "revocations_body", Example("What the root signs", "transport.revocation._Body", _body_of(REVOCATIONS))


def _body_of(signed: bytes) -> bytes:
    body: bytes = msgpack.unpackb(signed)[0]
    return body


def _handshakes() -> Iterator[tuple[str, Example]]:
    path = "transport.handshake."
    hello, proof, finish = handshake(owner_site(), member_site())
    _, join, welcome = handshake(owner_site(), joiner_site(), invite())
    yield "server_hello", Example("Message 1, from the owner", path + "ServerHello", hello)
    yield "client_proof_member", Example("Message 2, from the member", path + "ClientProof", proof)
    yield "client_proof_joiner", Example("Message 2, from a joiner", path + "ClientProof", join)
    yield "server_finish_member", Example("Message 3, to the member", path + "ServerFinish", finish)
    yield "server_finish_joiner", Example("Message 3, with the joiner's certificate", path + "ServerFinish", welcome)
    yield "pairing_request", Example("Message 2, from an asker", path + "PairingRequest", asking())
    refusal = refusal_message(Refused(RefusalCode.TOKEN_SPENT, "this token has been used once"))
    yield "refusal", Example("In place of any message of a handshake, renew/1 or join/1", path + "Refusal", refusal)


def _services() -> Iterator[tuple[str, Example]]:
    question, answer = forwarding()
    yield "forwarded_join", Example("join/1, question", "transport.forwarding.ForwardedJoin", question)
    yield "join_granted", Example("join/1, answer", "transport.forwarding.JoinGranted", answer)
    asked, renewed, countersigned = renewal()
    alone = wire.encode(RenewRequest(MEMBER_CERTIFICATE))
    yield "renew_request", Example("To anybody", "transport.renewal.RenewRequest", asked)
    yield "renew_request_signer", Example("To root or delegate only", "transport.renewal.RenewRequest", alone)
    yield "renewed", Example("By the owner", "transport.renewal.Renewed", renewed)
    rotated = wire.encode(Renewed(MEMBER_CERTIFICATE, (SUCCESSION,)))
    yield "renewed_after_rotation", Example("With news of a root", "transport.renewal.Renewed", rotated)
    yield "countersigned", Example("By another member", "transport.renewal.Countersigned", countersigned)


def _tunnels() -> Iterator[tuple[str, Example]]:
    position = Position(5_000, 4_096)
    for message in (
        Open(TUNNEL, "rpc", "host/tiny", 1 << 20, 4),
        Resume(TUNNEL, position),
        Attached(position, 1 << 20),
        Denied(Denial.NO_LEASE, "term 3 is over, 4 holds"),
        Taken(4_096),
        Ended(),
    ):
        name = type(message).__name__
        yield f"tunnel_{name.lower()}", Example("tunnel/1", f"transport.tunnel_message.{name}", wire.encode(message))


def _bulk() -> Iterator[tuple[str, Example]]:
    shown = bytes(range(250))  # opaque here: a DER certificate is not the same twice
    for message in (Want(shown), Grant(bytes(range(32)), 7842, shown), DialMe(), Dialled()):
        name = type(message).__name__
        yield f"bulk_{name.lower()}", Example("bulk/1", f"transport.bulk.message.{name}", wire.encode(message))
    frames = record_prefix(0) + encode_record(RecordKind.MESSAGE, b"\x80") + encode_end(0) + encode_reset(3, 1)
    yield "bulk_frames", Example("On a bulk lane: a record, an end, a reset", "frames", frames)


def _blobs() -> Iterator[tuple[str, Example]]:
    digest = bytes(range(32))
    for message in (
        Get(digest, 1 << 20),
        Found(5 << 30),
        Missing(),
        Put(digest, 5 << 30),
        Wanted(1 << 20),
        Full(),
        Stored(),
    ):
        name = type(message).__name__
        yield f"blob_{name.lower()}", Example("blob/1", f"transport.blob_message.{name}", wire.encode(message))


def _kept() -> Iterator[tuple[str, Example]]:
    text = format_token(invite(), OWNER)
    yield "invite", Example("What a token says, as it is signed", "transport.invite.Invite", wire.encode(invite()))
    yield "token", Example("The text that people paste", "token", text.encode())
    book, token = issued_token()
    proof = join_proof(token.secret, BINDING, JOINER.public)
    book.redeem(token.token_id, proof, BINDING, JOINER.public, Role.MEMBER, NOW)
    yield "token_book", Example("The issuer's file, one use taken", "transport.token_book._Book", book.to_bytes())
    kept = membership(MEMBER_CERTIFICATE).to_bytes()
    yield "membership", Example("The file of a member", "transport.certificate.Membership", kept)


_GROUPS: tuple[Callable[[], Iterator[tuple[str, Example]]], ...] = (
    _streams,
    _certificates,
    _handshakes,
    _services,
    _tunnels,
    _bulk,
    _blobs,
    _kept,
)


def examples() -> dict[str, Example]:
    """By file name."""
    return {name: example for group in _GROUPS for name, example in group()}


def known_answers() -> dict[str, dict[str, str]]:
    """What is derived rather than sent, all in hex: inputs and result."""
    client_secret, server_secret, nonce = b"\xc1" * 48, b"\x51" * 48, b"\x0e" * 32
    other_nonce, secret, day = b"\x0f" * 32, b"\x5e" * 16, NOW // DAY_S
    servers, clients = OWNER.public, MEMBER.public
    binding = channel_binding(client_secret, server_secret)
    answers: dict[str, dict[str, bytes | str]] = {
        "node_id": {"seed": OWNER.seed, "public": OWNER.public, "node": OWNER.node, "text": node_text(OWNER.node)},
        "channel_binding": {"client_secret": client_secret, "server_secret": server_secret, "binding": binding},
        "server_transcript": {
            "server_nonce": nonce,
            "signature": OWNER.sign(server_transcript(binding, MESH_ID, servers, nonce)),
        },
        "client_transcript": {
            "server_nonce": nonce,
            "client_nonce": other_nonce,
            "signature": MEMBER.sign(client_transcript(binding, MESH_ID, clients, servers, nonce, other_nonce)),
        },
        "finish_transcript": {
            "client_nonce": other_nonce,
            "signature": OWNER.sign(finish_transcript(binding, clients, servers, other_nonce)),
        },
        "pairing_code": {
            "root_public": ROOT.public,
            "code": pairing_code(binding, MESH_ID, ROOT.public, servers, JOINER.public),
        },
        "join_proof": {"secret": secret, "public": JOINER.public, "proof": join_proof(secret, binding, JOINER.public)},
        "root_fingerprint": {"root_public": ROOT.public, "fingerprint": root_fingerprint(ROOT.public)},
        "countersigned_serial": {"serial": verified(countersigned_certificate(), DUE).serial},
        "discovery_tag": {"mesh_id": MESH_ID, "day": str(day), "tag": discovery_tag(MESH_ID, day)},
        "advertisement": {key: value.decode() for key, value in advertise(MESH_ID, MEMBER.node, 7842, day).items()},
    }
    return {
        name: {key: value if isinstance(value, str) else value.hex() for key, value in parts.items()}
        for name, parts in answers.items()
    }
