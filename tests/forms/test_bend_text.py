"""`(bend …)` taken apart, and the shape of what is in it, unread or read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from forms.bend_text import calls_in, is_bend
from forms.catalogue import shipped
from forms.circuits.calls import circuit_forms
from forms.circuits.generator.generate import Algorithm, Arithmetic, generate
from forms.errors import BadArgument, BadSyntax, NotFound
from forms.evaluate import head_of
from forms.probes import probes
from forms.reader import read_datum
from forms.request import Request
from forms.shape import operations_of, shape_of


def no_circuits(name: str) -> int:
    raise NotFound(name)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (b"(bend (f))", [b"(f)"]),
        (b' ( bend\n(f ")" 1)(g (h))  )', [b'(f ")" 1)', b"(g (h))"]),
        (b"(bend)", []),
        (b"(bend (f " + b"1 " * 10_000 + b"))", [b"(f " + b"1 " * 10_000 + b")"]),
    ],
)
def test_calls_stand_there_as_they_came(text: bytes, calls: list[bytes]) -> None:
    assert is_bend(text)
    assert calls_in(text) == calls


@pytest.mark.parametrize("text", [b"(bend 5)", b"(bend '(f))", b'(bend "f")', b"(bend (f) g)", b"(bend (f"])
def test_what_is_no_call_is_refused(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        calls_in(text)


@pytest.mark.parametrize("text", [b"(bender (f))", b"(ping)", b"bend"])
def test_other_heads_are_no_bend(text: bytes) -> None:
    assert not is_bend(text)


def test_a_shape_says_what_the_worker_will_say() -> None:
    catalogue = shipped()
    for probe in probes(catalogue):
        shape = shape_of(catalogue, probe, no_circuits)
        form = catalogue.named(shape.form)
        assert shape.bytes_in == len(probe.payload)
        assert shape.work > 0
        if not probe.is_text:
            call = form.read_frame(probe.payload)
            assert shape.bytes_out == len(form.write_frame(form.reference(call)))


def test_probes_are_frames_of_their_length() -> None:
    catalogue = shipped()
    frames = [probe for probe in probes(catalogue) if not probe.is_text]
    assert {catalogue.of_magic(probe.payload[:4]).name for probe in frames} == {form.name for form in catalogue}
    for probe in frames:
        measure = catalogue.of_magic(probe.payload[:4]).measure(1 << 30)
        assert measure.advance(bytearray(probe.payload)) == len(probe.payload)


def test_circuits_are_not_loaded_to_know_their_work(tmp_path: Path) -> None:
    circuit = generate(Arithmetic.ADDER, 5, Algorithm())
    (tmp_path / "adder").write_bytes(circuit)
    (tmp_path / "other").write_bytes(circuit)
    catalogue = shipped(circuit_forms(tmp_path))
    for text in ('(cuda-sim-ops-bin "adder" 3 (check adder))', '(cuda-sim-axis \'("adder" "other") 100)'):
        request = Request(True, text.encode())
        shape = shape_of(shipped(), request, lambda name: operations_of(tmp_path / name))
        name = request.head
        form = catalogue.named(name)
        assert shape.work == form.work(form.read_text(head_of(read_datum(text))[1]))
    with pytest.raises(BadArgument):
        shape_of(shipped(), Request(True, b"(cuda-sim-axis 5 5)"), no_circuits)


def test_a_frame_that_is_cut_is_no_shape() -> None:
    with pytest.raises((BadArgument, struct.error)):
        shape_of(shipped(), Request(False, struct.pack("<4sIQ", b"BSRT", 9, 1)), no_circuits)
