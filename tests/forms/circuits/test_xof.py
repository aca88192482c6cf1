"""The seed and the two sources of words, against their definitions."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import numpy as np
import pytest

from forms.circuits.circuit import load_circuit
from forms.circuits.kinds import NONE, Kind, Operation
from forms.circuits.sponge import CompiledSponge, OpenSslSponge, Sponge
from forms.circuits.words import WordSource
from forms.circuits.xof import (
    LFSR_SEED_FOR_ZERO,
    RngMode,
    Seed,
    SeedVersion,
    fill_from_all,
    lfsr_leap,
    lfsr_leapt,
    lfsr_next,
)
from tests.forms.circuits.files import loaded, raw_file


@pytest.mark.parametrize(("version", "id_bytes"), [(SeedVersion.V2, 8), (SeedVersion.V1, 4)])
def test_the_seed_is_over_the_domain_the_count_and_every_operation(version: SeedVersion, id_bytes: int) -> None:
    file = raw_file([Operation(Kind.HMR, q_target=3, c_target=4), Operation(Kind.NEG)], padding=9)
    hashed = f"quantum_ecc-fiat-shamir-{version}".encode() + (2).to_bytes(8, "little")
    for kind, ids in ((12, [NONE, NONE, 3, 4, NONE, NONE]), (0, [NONE] * 6)):
        hashed += bytes([kind]) + b"".join(value.to_bytes(8, "little")[:id_bytes] for value in ids)
    seed = load_circuit(file, seed_version=version).seed
    assert seed.stream().take(100) == hashlib.shake_256(hashed).digest(100)


def test_a_stream_goes_on_where_it_stopped_and_every_stream_begins_anew() -> None:
    seed = Seed(0)
    stream = seed.stream()
    pieces = stream.take(3) + stream.take(0) + stream.take(200)
    assert (stream.position, seed.stream().take(203)) == (203, pieces)


@pytest.mark.parametrize("sponge", [OpenSslSponge, CompiledSponge])
@pytest.mark.parametrize("lengths", [(0,), (135,), (136,), (137,), (1, 135, 300), (49, 49, 49), (272, 0, 136)])
def test_a_sponge_takes_and_gives_in_pieces(sponge: Callable[[], Sponge], lengths: tuple[int, ...]) -> None:
    if sponge is CompiledSponge:
        pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    dice, filled, data = random.Random(3), sponge(), b""
    for length in lengths:
        piece = dice.randbytes(length)
        filled.update(np.frombuffer(piece, np.uint8))
        data += piece
    stream, words = filled.squeezed(), np.empty(41, np.uint64)
    taken = stream.take(8) + stream.take(136) + stream.take(3)
    stream.fill(words)
    taken += words.astype("<u8").tobytes() + stream.take(5)
    stream.fill(words)
    assert taken + words.astype("<u8").tobytes() == hashlib.shake_256(data).digest(len(taken) + 8 * 41)


@pytest.mark.parametrize("count", [2, 8, 11])
def test_streams_together_give_what_each_gives_alone(count: int) -> None:
    seeds = [Seed(number) for number in range(count)]
    together, alone = [seed.stream() for seed in seeds], [seed.stream() for seed in seeds]
    for number, (one, other) in enumerate(zip(together, alone, strict=True)):
        # They stand at different places of their blocks, one at an end.
        assert one.take(8 * 3 * number) == other.take(8 * 3 * number)
    for counts in ([17 * number % 40 for number in range(count)], [300 + number for number in range(count)]):
        words = np.empty(sum(counts) + 2, np.uint64)
        fill_from_all(together, words, counts)
        wanted = b"".join(one.take(8 * length) for one, length in zip(alone, counts, strict=True))
        assert words[:-2].astype("<u8").tobytes() == wanted
    assert [one.position for one in together] == [one.position for one in alone]


def test_a_stream_amid_a_word_is_squeezed_with_others_too() -> None:
    together, alone = [Seed(0).stream(), Seed(1).stream()], [Seed(0).stream(), Seed(1).stream()]
    assert together[0].take(3) == alone[0].take(3)
    words = np.empty(9, np.uint64)
    fill_from_all(together, words, [4, 5])
    assert words.astype("<u8").tobytes() == alone[0].take(32) + alone[1].take(40)


def test_words_are_little_endian_batch_after_batch() -> None:
    circuit = loaded(*[Operation(Kind.R, q_target=0), Operation(Kind.HMR, q_target=0, c_target=0)] * 2)
    words = WordSource(circuit, RngMode.SHAKE, circuit.seed.stream())
    wanted = circuit.seed.stream().take(3 * 32)
    assert np.concatenate([words.take(2), words.take(1)]).astype("<u8").tobytes() == wanted


def test_lfsr_mode_is_xorshift64_star_from_the_streams_first_eight_bytes() -> None:
    circuit = loaded(*[Operation(Kind.R, q_target=0)] * 5)
    words = WordSource(circuit, RngMode.LFSR, circuit.seed.stream())
    state = int.from_bytes(circuit.seed.stream().take(8), "little")
    wanted = []
    for _ in range(15):
        state, word = lfsr_next(state)
        wanted.append(word)
    assert [*words.take(2).flatten().tolist(), *words.take(1).flatten().tolist()] == wanted


def test_a_leap_is_that_many_steps() -> None:
    for steps in (0, 1, 2, 63, 1000):
        state = 0x0123456789ABCDEF
        leapt = lfsr_leapt(lfsr_leap(steps), state)
        for _ in range(steps):
            state, _ = lfsr_next(state)
        assert leapt == state


def test_every_batchs_first_state_is_known_without_its_words() -> None:
    circuit = loaded(*[Operation(Kind.R, q_target=0)] * 7)
    by_words, by_leaps = (WordSource(circuit, RngMode.LFSR, circuit.seed.stream()) for _ in range(2))
    words = by_words.take(5)
    states = [*by_leaps.lfsr_states(3).tolist(), *by_leaps.lfsr_states(2).tolist()]
    assert [lfsr_next(state)[1] for state in states] == words[:, 0].tolist()


def test_xorshift64_star_of_one() -> None:
    # By hand: 1 → 1 ^ 1 << 25 = 0x2000001, its own shift by 27 being 0.
    assert lfsr_next(1) == (0x2000001, 0x2000001 * 0x2545F4914F6CDD1D % 2**64)
    assert lfsr_next(LFSR_SEED_FOR_ZERO)[0] != 0
