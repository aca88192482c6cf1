"""Which blobs a call names, so that they are here before it computes.

Circuits are known by their text, since the agent has no more of those forms than their names; a form of others says it
of each call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from forms.arguments import shown
from forms.catalogue import CIRCUIT_FORMS, Catalogue
from forms.errors import BadArgument, BeyondLimit
from forms.request import Request
from forms.shape import MOST_READ_BYTES, SMALL_BYTES, read_call
from transport.blob_message import BlobDigest

NAMED = re.compile(rb'"([0-9a-f]{64})"')
HEX = re.compile(r"[0-9a-f]{64}")
MOST_NAMED = 1024
"""Blobs of one call."""

FindBlob = Callable[[str], Path]
"""The file of a blob by its SHA-256 in lower-case hex. Raises NotFound."""


@runtime_checkable
class NamesBlobs(Protocol):
    """A form whose calls name blobs: the node that computes has them in files before `work` and `reference` run."""

    def blobs(self, call: Any) -> Iterable[str]:
        """The SHA-256 of each, in lower-case hex."""

    def use_blobs(self, find: FindBlob) -> None:
        """Keep `find`; said once, before the first call."""


def blobs_of(form: NamesBlobs, call: Any) -> tuple[BlobDigest, ...]:
    """The blobs of a call, each once, in order. Raises BadArgument."""
    names = list(dict.fromkeys(form.blobs(call)))
    if len(names) > MOST_NAMED:
        raise BadArgument(f"expected at most {MOST_NAMED} blobs in a call, got {len(names)}")
    for name in names:
        if not isinstance(name, str) or not HEX.fullmatch(name):
            raise BadArgument(f"expected the SHA-256 of a blob in hex, got {shown(name)}")
    return tuple(BlobDigest(bytes.fromhex(name)) for name in names)


def digests_in(text: bytes) -> tuple[BlobDigest, ...]:
    """The strings of 64 lower-case hex digits in a text, each once, in order."""
    return tuple(BlobDigest(bytes.fromhex(found.decode())) for found in dict.fromkeys(NAMED.findall(text)))


class BlobNames:
    """For the forms of a catalogue; found out once, since Python takes 10 µs to look at a form."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._naming = {form.name: form for form in catalogue if isinstance(form, NamesBlobs)}

    def takes_long(self, form: str, request: Request) -> bool:
        """Whether `named` reads so much that nobody should wait for it."""
        return form in self._naming and len(request.payload) > SMALL_BYTES

    def named(self, form: str, request: Request) -> tuple[BlobDigest, ...]:
        """The blobs that a call of that form names. Raises FormFailed for a call that cannot be read."""
        if form in CIRCUIT_FORMS:
            return digests_in(request.payload)
        if form not in self._naming:
            return ()
        if request.is_text and len(request.payload) > MOST_READ_BYTES:
            raise BeyondLimit(f"{form}: a call in text that names blobs has at most {MOST_READ_BYTES} bytes")
        _, call = read_call(self._catalogue, request)
        return blobs_of(self._naming[form], call)
