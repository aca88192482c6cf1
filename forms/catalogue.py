"""Which forms there are, by the names and the magics that calls use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from forms.errors import UnknownOperation
from forms.form import Form
from forms.live.bignum import BignumCgbn
from forms.live.blake3_tree import Blake3Tree
from forms.live.radix_sort import RadixSort
from forms.live.secp256k1 import Secp256k1BatchedMul
from forms.live.shake import ShakeFanout

AnyForm = Form[Any, Any]


CIRCUIT_FORMS = ("cuda-sim-ops-bin", "cuda-sim-axis", "cuda-sim-axis-flip")
"""Text only, so that the worker alone has to know more of them than their names: what they need takes 20 MB."""


class Catalogue:
    """Forms by name and by magic. Raises ValueError for two of one name or one magic."""

    def __init__(self, forms: Iterable[AnyForm]) -> None:
        self._by_name: dict[str, AnyForm] = {}
        self._by_magic: dict[bytes, AnyForm] = {}
        for form in forms:
            if form.name in self._by_name or form.magic in self._by_magic:
                raise ValueError(f"two forms are called {form.name!r} or have the magic {form.magic!r}")
            self._by_name[form.name] = form
            if form.magic:
                self._by_magic[form.magic] = form

    def __iter__(self) -> Iterator[AnyForm]:
        return iter(self._by_name.values())

    def named(self, name: str) -> AnyForm:
        """Raises UnknownOperation."""
        if name not in self._by_name:
            raise UnknownOperation(name)
        return self._by_name[name]

    def find(self, name: str) -> AnyForm | None:
        return self._by_name.get(name)

    def of_magic(self, magic: bytes) -> AnyForm:
        """Raises UnknownOperation."""
        if magic not in self._by_magic:
            raise UnknownOperation(magic.decode("latin-1"))
        return self._by_magic[magic]


def shipped(more: Iterable[AnyForm] = ()) -> Catalogue:
    """The forms with frames that ship with meshd, and `more`."""
    return Catalogue([ShakeFanout(), Blake3Tree(), RadixSort(), BignumCgbn(), Secp256k1BatchedMul(), *more])
