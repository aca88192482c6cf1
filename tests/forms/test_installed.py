"""Forms of others are taken in or left out with the reason, and what goes wrong with them stays theirs."""

from __future__ import annotations

import struct
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from forms.backend import HasFast, HasHostBytes, HasKernel, HasSample
from forms.blob_names import NamesBlobs
from forms.catalogue import Catalogue, shipped
from forms.errors import FormFailed
from forms.evaluate import Evaluator
from forms.form import Form
from forms.installed import GROUP, Fenced, find_installed
from forms.quick_text import HasTextRows
from forms.suite import FormSuite, arguments_of
from tests.forms.doors import doors
from tests.forms.strangers import Broken, Mirror, text_only


def point(name: str, module: str = "tests.forms.strangers") -> EntryPoint:
    return EntryPoint(name, f"{module}:{name}", GROUP)


def test_a_class_and_an_object_are_taken_in_frames_or_none() -> None:
    found = find_installed([point("Mirror"), point("text_only")], shipped())
    assert [(form.name, form.magic) for form in found.forms] == [("mirror", b"BMIR"), ("text-only", b"")]
    assert found.problems == ()
    assert isinstance(found.forms[0], HasFast) and not isinstance(found.forms[0], HasKernel)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SameMagic", "mirror has the magic BMIR already"),
        ("OtherMirror", "there is a form 'mirror' already"),
        ("BlobMagic", "expected magics"),
        ("LowerMagic", "expected magics"),
        ("Ping", "no operation's, got 'ping'"),
        ("OursAlready", "there is a form 'cuda-sim-axis' already"),
        ("NoWork", "it has no method work"),
        ("Raises", "RuntimeError: no such device"),
        ("HEAD", "expected a name"),
        ("missing", "AttributeError"),
    ],
)
def test_one_that_cannot_be_used_is_named_and_left_out(name: str, why: str) -> None:
    found = find_installed([point(name), point("Mirror")], [*shipped(), Fenced(Mirror())])
    assert found.forms == ()
    problem = next(one for one in found.problems if f"'{name}'" in one)
    assert why in problem
    assert f"tests.forms.strangers:{name}" in problem


@pytest.mark.parametrize("module", ["no_such_module", "tests.forms.exits"])
def test_a_module_that_cannot_be_imported_is_named_and_left_out(module: str) -> None:
    found = find_installed([point("Form", module), point("Mirror")], shipped())
    assert [form.name for form in found.forms] == ["mirror"]
    assert len(found.problems) == 1 and "it cannot be loaded" in found.problems[0]


class Rich(Mirror):
    """Has all that a form may have."""

    kernel = None
    read_text_rows = text_rows = sample = host_bytes = blobs = use_blobs = Mirror.work


@pytest.mark.parametrize("may_have", [HasFast, HasKernel, HasSample, HasHostBytes, HasTextRows, NamesBlobs])
def test_the_fence_hides_nothing_that_a_form_has_and_adds_nothing(may_have: type) -> None:
    assert isinstance(Fenced(Rich()), may_have)
    assert isinstance(Fenced(text_only), may_have) == (may_have is HasFast)


def test_what_it_raises_is_an_error_of_its_call() -> None:
    catalogue = Catalogue([Fenced(Broken())])
    said = Evaluator(catalogue).text(b"(broken)").reply.decode()
    assert said == '(error (internal "broken failed: RuntimeError: it never worked"))\n'


@pytest.mark.live
@pytest.mark.parametrize("kind", [0, 1, 2])
async def test_a_measure_that_makes_no_sense_ends_its_connection_and_no_other(kind: int) -> None:
    async with doors(more=[Fenced(Broken())]) as open_doors:
        client = await open_doors.connect()
        await client.send(struct.pack("<4sI", b"BBRK", kind) + b"(ping)")
        assert (await client.rest()).startswith(b"BERR\x08\x00\x00\x00")
        assert await (await open_doors.connect()).ask("(ping)") == "(ok pong)"


class TestMirror(FormSuite):
    """The suite takes a form of others, also behind its fence."""

    form: Form[Any, Any] = Fenced(Mirror())
    calls = ("(mirror ())", '(mirror \'("0102030405060708"))', '(mirror \'("01" "02" "0102030405060708"))')
    larger = ("(mirror ())", '(mirror \'("01"))', '(mirror \'("01" "02"))')

    def frame(self, text: str) -> bytes:
        rows = self.form.read_text(arguments_of(text))
        return struct.pack("<4sI", b"BMIR", len(rows)) + b"".join(rows)


class TestTextOnly(FormSuite):
    """One without frames."""

    form: Form[Any, Any]
    calls = TestMirror.calls
    larger = TestMirror.larger

    @pytest.fixture(autouse=True)
    def _form(self) -> None:
        (self.form,) = find_installed([point("text_only")], shipped()).forms


def test_the_suite_sees_a_faster_way_that_is_wrong() -> None:
    class Wrong(Mirror):
        def fast(self, call: list[bytes]) -> list[bytes]:
            return call

    class Suite(TestMirror):
        form = Wrong()

    with pytest.raises(AssertionError, match="mirror"):
        Suite().test_its_faster_way_says_the_same()


def test_the_suite_sees_work_that_does_not_grow() -> None:
    class Flat(Mirror):
        def work(self, call: list[bytes]) -> float:
            return 1.0

    class Suite(TestMirror):
        form = Flat()

    with pytest.raises(AssertionError):
        Suite().test_work_grows()


def test_errors_of_ours_pass_the_fence_as_they_are() -> None:
    with pytest.raises(FormFailed, match="expected 1 arguments"):
        Fenced(Mirror()).read_text([])
