"""Coming in without a token: what waits for a person, what the code protects from, and what one host may take."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.transport.meshes import BINDING, NOW, Mesh
from transport import wire
from transport.admission import MAX_MESSAGE_BYTES, Accepted, Asked, ServerAdmission, Site, refusal_message
from transport.errors import RefusalCode, Refused
from transport.handshake import PairingRequest, pairing_code
from transport.interface import Role
from transport.pairing import (
    ASKING,
    KEPT_S,
    MAX_REQUESTS,
    MAX_WAITING_PER_HOST,
    AskingAdmission,
    PairingDesk,
    SeenMesh,
    code_text,
    read_hello,
)
from transport.site import Admitted

HOST = "10.0.0.9"
OTHER_BINDING = b"\x08" * 32


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def seen(mesh: Mesh, server: Site) -> SeenMesh:
    return read_hello(ServerAdmission(server, BINDING, mesh.dice).start(), BINDING, NOW)


class Visit(NamedTuple):
    """One question of an asker: what came of it, and the code that it shows afterwards."""

    result: Accepted | Refused
    admitted: Admitted | None
    code: str


def visit(
    mesh: Mesh,
    desk: PairingDesk,
    asker: Site,
    code: str = "",
    *,
    server: Site | None = None,
    binding: bytes = BINDING,
    now: float = NOW,
    host: str = HOST,
) -> Visit:
    server = server or mesh.owner_site()
    inside = ServerAdmission(server, binding, mesh.dice)
    outside = AskingAdmission(asker, binding, mesh.dice, seen(mesh, server), code)
    message = outside.receive(inside.start(), now)
    assert isinstance(message, bytes)
    asked = inside.judge(message, now)
    assert isinstance(asked, Asked)
    try:
        desk.ask(asked, host, now)
        accepted = inside.let_in(asked, now)
    except Refused as refused:
        with pytest.raises(Refused) as heard:
            outside.receive(refusal_message(refused), now)
        return Visit(heard.value, None, outside.code)
    admitted = outside.receive(accepted.reply, now)
    assert isinstance(admitted, Admitted)
    return Visit(accepted, admitted, outside.code)


def refusal(result: Accepted | Refused) -> RefusalCode:
    assert isinstance(result, Refused), result
    assert str(result).isprintable()
    return result.code


# A person decides


@pytest.mark.parametrize("role", [Role.MEMBER, Role.CLIENT])
def test_an_asker_comes_in_once_somebody_typed_its_code(mesh: Mesh, role: Role) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site(role)
    first = visit(mesh, desk, asker)
    assert refusal(first.result) is RefusalCode.PAIRING_PENDING

    (request,) = desk.list(NOW)
    assert (request.node, request.role, request.name, request.host) == (asker.key.node, role, "joiner", HOST)
    assert request.code == first.code
    assert desk.decide(code_text(first.code).lower(), "accepted", NOW) == replace(request, decision="accepted")

    second = visit(mesh, desk, asker, first.code, binding=OTHER_BINDING)
    assert isinstance(second.result, Accepted) and second.admitted is not None
    assert (second.result.peer.node, second.result.peer.role, second.result.redeemed) == (asker.key.node, role, None)
    membership = second.admitted.membership
    assert membership is not None and membership.mesh_name == "attic"
    own = membership.verified(NOW)
    assert (own.node, own.role, own.caps) == (asker.key.node, role, frozenset())


def test_who_was_let_in_and_did_not_hear_it_is_told_again(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    code = visit(mesh, desk, asker).code
    desk.decide(code, "accepted", NOW)
    visit(mesh, desk, asker, code)

    assert isinstance(visit(mesh, desk, asker, code).result, Accepted)


def test_a_no_is_a_no_also_to_one_who_asks_anew(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    code = visit(mesh, desk, asker).code
    desk.decide(code, "refused", NOW)

    for again in (code, ""):
        assert refusal(visit(mesh, desk, asker, again).result) is RefusalCode.PAIRING_REFUSED


def test_a_code_that_nobody_shows_lets_nobody_in(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    code = visit(mesh, desk, asker).code

    for typed in ("", "AAAA-AAAA", code[:4], code + "A"):
        assert desk.decide(typed, "accepted", NOW) is None
    assert refusal(visit(mesh, desk, asker, code).result) is RefusalCode.PAIRING_PENDING


# What the code protects from


def test_the_code_names_session_mesh_and_keys(mesh: Mesh) -> None:
    parts = [bytes([number]) * 32 for number in range(1, 5)]
    codes = {pairing_code(parts[0], mesh_id * 16, *parts[1:]) for mesh_id in (b"m", b"n")}
    for changed in range(4):
        other = [*parts[:changed], b"\xff" * 32, *parts[changed + 1 :]]
        codes.add(pairing_code(other[0], b"m" * 16, *other[1:]))

    assert len(codes) == 6
    assert all(len(code) == 12 and code.isalnum() and code == code.upper() for code in codes)


def test_somebody_in_the_middle_shows_each_side_another_code(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    middle = Mesh(seed=7, name="attic")
    shown_to_the_asker = visit(middle, PairingDesk(), asker).code

    shown_to_the_owner = visit(mesh, desk, middle.joiner_site(), binding=OTHER_BINDING).code

    assert shown_to_the_asker != shown_to_the_owner
    assert desk.decide(shown_to_the_asker, "accepted", NOW) is None


def test_another_node_cannot_repeat_an_askers_code(mesh: Mesh) -> None:
    desk = PairingDesk()
    code = visit(mesh, desk, mesh.joiner_site()).code
    desk.decide(code, "accepted", NOW)

    assert refusal(visit(mesh, desk, mesh.joiner_site(), code).result) is RefusalCode.PAIRING_UNKNOWN


def test_who_asks_anew_shows_a_new_code_and_the_old_one_is_void(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    old = visit(mesh, desk, asker).code
    new = visit(mesh, desk, asker, binding=OTHER_BINDING).code

    assert [request.code for request in desk.list(NOW)] == [new] != [old]
    assert refusal(visit(mesh, desk, asker, old).result) is RefusalCode.PAIRING_UNKNOWN


def test_an_asker_goes_on_with_nobody_but_the_one_it_saw(mesh: Mesh) -> None:
    impostor = Mesh(seed=7, name="attic")
    for other in (impostor.owner_site(), mesh.member_site()):
        outside = AskingAdmission(mesh.joiner_site(), BINDING, mesh.dice, seen(mesh, mesh.owner_site()), "")
        with pytest.raises(Refused, match="got another one"):
            outside.receive(ServerAdmission(other, BINDING, mesh.dice).start(), NOW)


def test_the_certificate_has_to_be_the_askers_own(mesh: Mesh) -> None:
    asker, server = mesh.joiner_site(), mesh.owner_site()
    inside = ServerAdmission(server, BINDING, mesh.dice)
    outside = AskingAdmission(asker, BINDING, mesh.dice, seen(mesh, server), "")
    message = outside.receive(inside.start(), NOW)
    assert isinstance(message, bytes)
    asked = inside.judge(message, NOW)
    assert isinstance(asked, Asked)
    wrong = replace(asked, request=_as(asked.request, role=Role.CLIENT))

    with pytest.raises(Refused, match="expected a member's certificate"):
        outside.receive(inside.let_in(wrong, NOW).reply, NOW)


def _as(request: PairingRequest, **changed: object) -> PairingRequest:
    fields = {name: getattr(request, name) for name in request.__struct_fields__} | changed
    return PairingRequest(**fields)


# Who may be asked, and for what


def asked_at(mesh: Mesh, server: Site, asker: Site) -> Asked:
    inside = ServerAdmission(server, BINDING, mesh.dice)
    outside = AskingAdmission(asker, BINDING, mesh.dice, seen(mesh, server), "")
    message = outside.receive(inside.start(), NOW)
    assert isinstance(message, bytes)
    asked = inside.judge(message, NOW)
    assert isinstance(asked, Asked)
    return asked


def test_a_member_that_may_not_invite_takes_no_requests(mesh: Mesh) -> None:
    with pytest.raises(Refused, match="may let nobody in") as refused:
        asked_at(mesh, mesh.member_site(), mesh.joiner_site())
    assert refused.value.code is RefusalCode.NOT_ISSUER


def test_a_delegate_may_let_somebody_in(mesh: Mesh) -> None:
    desk, asker, server = PairingDesk(), mesh.joiner_site(), mesh.delegate_site()
    code = visit(mesh, desk, asker, server=server).code
    desk.decide(code, "accepted", NOW)

    assert isinstance(visit(mesh, desk, asker, code, server=server).result, Accepted)


def test_nobody_asks_to_be_an_owner(mesh: Mesh) -> None:
    with pytest.raises(Refused, match="got an owner"):
        asked_at(mesh, mesh.owner_site(), mesh.joiner_site(Role.OWNER))


def test_the_revoked_need_not_ask(mesh: Mesh) -> None:
    asker = mesh.joiner_site()
    with pytest.raises(Refused) as refused:
        asked_at(mesh, mesh.owner_site(revoked=frozenset({asker.key.node})), asker)
    assert refused.value.code is RefusalCode.REVOKED


def test_a_request_of_another_session_is_refused(mesh: Mesh) -> None:
    server = mesh.owner_site()
    outside = AskingAdmission(mesh.joiner_site(), BINDING, mesh.dice, seen(mesh, server), "")
    message = outside.receive(ServerAdmission(server, BINDING, mesh.dice).start(), NOW)
    assert isinstance(message, bytes)

    with pytest.raises(Refused) as refused:
        ServerAdmission(server, BINDING, mesh.dice).judge(message, NOW)
    assert refused.value.code is RefusalCode.BAD_PROOF
    assert isinstance(wire.decode(message, PairingRequest, peer=None, max_bytes=MAX_MESSAGE_BYTES), PairingRequest)


# Bounds


def test_requests_are_forgotten_after_ten_minutes(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    code = visit(mesh, desk, asker).code
    desk.decide(code, "accepted", NOW)

    assert desk.list(NOW + KEPT_S - 1) and not desk.list(NOW + KEPT_S)
    assert desk.decide(code, "accepted", NOW + KEPT_S) is None
    assert refusal(visit(mesh, desk, asker, code, now=NOW + KEPT_S).result) is RefusalCode.PAIRING_UNKNOWN


def test_one_address_may_not_fill_the_desk(mesh: Mesh) -> None:
    desk = PairingDesk()
    for number in range(MAX_WAITING_PER_HOST):
        assert refusal(visit(mesh, desk, mesh.joiner_site(), now=NOW + number).result) is RefusalCode.PAIRING_PENDING

    assert refusal(visit(mesh, desk, mesh.joiner_site(), now=NOW + 9).result) is RefusalCode.BUSY
    elsewhere = visit(mesh, desk, mesh.joiner_site(), now=NOW + 9, host="10.0.0.10")
    assert refusal(elsewhere.result) is RefusalCode.PAIRING_PENDING


def test_addresses_of_one_ipv6_network_count_as_one(mesh: Mesh) -> None:
    desk = PairingDesk()
    for number in range(MAX_WAITING_PER_HOST):
        visit(mesh, desk, mesh.joiner_site(), now=NOW + number, host=f"2001:db8::{number}")

    assert refusal(visit(mesh, desk, mesh.joiner_site(), now=NOW + 9, host="2001:db8::ffff").result) is RefusalCode.BUSY


def test_a_full_desk_puts_nobody_out(mesh: Mesh) -> None:
    desk = PairingDesk()
    for number in range(MAX_REQUESTS):
        visit(mesh, desk, mesh.joiner_site(), host=f"10.0.1.{number}")
    before = desk.list(NOW)
    assert len(before) == MAX_REQUESTS

    assert refusal(visit(mesh, desk, mesh.joiner_site()).result) is RefusalCode.BUSY
    assert desk.list(NOW) == before


def test_one_address_may_not_ask_without_end(mesh: Mesh) -> None:
    desk, asker = PairingDesk(), mesh.joiner_site()
    code = visit(mesh, desk, asker).code
    for _ in range(ASKING.burst - 1):
        assert refusal(visit(mesh, desk, asker, code).result) is RefusalCode.PAIRING_PENDING

    assert refusal(visit(mesh, desk, asker, code).result) is RefusalCode.BUSY
    assert refusal(visit(mesh, desk, asker, code, now=NOW + 3).result) is RefusalCode.PAIRING_PENDING
