"""What a nonce feeds the network, how its output is shuffled, and what that is held against. Pure."""

from __future__ import annotations

from types import ModuleType

import numpy

from forms.poc.philox import LANES, Array, blocks, words
from forms.poc.profile import FAMILY, Profile
from forms.poc.seeds import derive_key
from forms.poc.weights import centred_bytes, scale


def make_inputs(profile: Profile, key: int, nonces: Array, xp: ModuleType = numpy) -> Array:
    """(nonces, sequence, width) float32, exact in half precision. nonces: uint64."""
    count = profile.sequence * profile.width
    values = centred_bytes(per_nonce(key, nonces, count, xp), xp).astype(xp.float32) * xp.float32(scale(1))
    return values.reshape(len(nonces), profile.sequence, profile.width)


def make_permutations(profile: Profile, key: int, nonces: Array, xp: ModuleType = numpy) -> Array:
    """(nonces, outputs): an order of the outputs for each."""
    random_words = per_nonce(derive_key("permutation", key), nonces, profile.outputs, xp).astype(xp.uint64)
    # With the place in the low bits no two are equal, so that every sort gives the same order.
    places = xp.arange(profile.outputs, dtype=xp.uint64)
    return xp.argsort((random_words << xp.uint64(32)) | places, axis=1)


def make_target(profile: Profile, seed: bytes, xp: ModuleType = numpy) -> Array:
    """The direction that an epoch's outputs are held against: (outputs,) float64 of length 1."""
    key = derive_key("target", FAMILY, profile.name, seed)
    # On the host in any case: a sum's order would show in the last bits.
    values = centred_bytes(words(key, 0, profile.outputs)).astype(numpy.float64)
    return xp.asarray(values / numpy.sqrt(numpy.sum(values**2)))


def per_nonce(key: int, nonces: Array, count: int, xp: ModuleType) -> Array:
    """(nonces, count) words, a stream of its own for each nonce."""
    numbers = xp.arange(-(-count // LANES), dtype=xp.uint64)
    streams = xp.asarray(nonces, dtype=xp.uint64)
    return blocks(key, numbers[None, :], streams[:, None], xp).reshape(len(streams), -1)[:, :count]
