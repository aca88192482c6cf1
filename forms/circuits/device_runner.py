"""Launches of `simulate.cu`: programs, words and states onto the device, and the final states back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forms.circuits.circuit import Circuit
from forms.circuits.kernels import ALL_ONES_SLOT
from forms.circuits.launch_plan import Share
from forms.circuits.packing import END_FIELDS, Part, groups_of, pack, records_of, rows_of
from forms.circuits.program import Program
from forms.circuits.simulation import Draw
from forms.circuits.state import Final, final_of, load_rows
from forms.circuits.xof import RngMode
from forms.cuda.device import Buffer, Device

SOURCE = Path(__file__).with_name("simulate.cu")

# As the kernel has it: state that fits a block's shared memory.
NEAR_WORDS = 6144
# One warp.
MOST_LANES = 32
# Until there are so many blocks, each has one batch: more than any GPU of today has multiprocessors is not needed.
_BLOCKS = 128


@dataclass(frozen=True, slots=True)
class Subject:
    """A circuit, and the program that it is run by."""

    circuit: Circuit
    program: Program


def lanes_for(batches: Sequence[int], rows: int) -> int:
    """Batches that share a block. batches: of each circuit in a launch.  rows: of the largest of their states.

    A power of two, and no more than the least of `batches`, so that at least half of all lanes have a batch.
    """
    wanted = min(MOST_LANES, -(-sum(batches) // _BLOCKS), *batches)
    lanes = 1 << (wanted.bit_length() - 1)
    while lanes > 1 and lanes * rows > NEAR_WORDS >= rows:
        lanes //= 2
    return lanes


def words_a_batch(circuit: Circuit, rng: RngMode) -> int:
    """Words that a batch is given: all, or xorshift64*'s first state alone."""
    return circuit.words_per_batch if rng is RngMode.SHAKE else 1


class DeviceRunner:
    """Runs shares of circuits on a device, one launch after the other, from one thread at a time."""

    def __init__(self, device: Device, subjects: Sequence[Subject], draws: Sequence[Draw]) -> None:
        self._device = device
        self._subjects = subjects
        self._draws = draws
        self._rng = draws[0].options.rng if draws else RngMode.SHAKE
        # The programs that lie on the device, which the next launch may want again.
        self._code: tuple[dict[int, int], Buffer] | None = None

    def run(self, launch: Sequence[Share], words: NDArray[np.uint64]) -> list[list[Final]]:
        """The ends of all batches of each share. words: those of all batches, in order, and one more."""
        subjects = [self._subjects[share.index] for share in launch]
        rows = max(rows_of(subject.program) for subject in subjects)
        lanes = lanes_for([share.count for share in launch], rows)
        starts, code = self._programs([subject.program for subject in subjects])
        groups = groups_of(list(self._parts(launch, starts)), lanes)
        state = self._device.upload(np.concatenate([self._begin(share, lanes) for share in launch]))
        ends = self._device.empty(8 * END_FIELDS * len(groups) * lanes)
        threads = np.uint64(len(groups) * lanes)
        self._device.launch(
            SOURCE,
            "simulate_near" if rows * lanes <= NEAR_WORDS else "simulate_far",
            int(threads),
            (
                self._device.upload(groups),
                code,
                self._device.upload(words),
                state,
                ends,
                np.uint32(lanes),
                threads,
                np.uint32(self._rng is RngMode.LFSR),
            ),
            block=lanes,
        )
        return self._finals(launch, self._words_of(state), self._words_of(ends).reshape(-1, END_FIELDS), lanes)

    def _words_of(self, buffer: Buffer) -> NDArray[np.uint64]:
        return self._device.download(buffer).view(np.uint64)

    def _programs(self, programs: Sequence[Program]) -> tuple[dict[int, int], Buffer]:
        """Where each program's records begin on the device, by the program's id; each lies there once."""
        distinct = {id(program): program for program in programs}
        if self._code is None or list(self._code[0]) != list(distinct):
            # What lay there goes first: there may be no room for both.
            self._code = None
            counts = [records_of(len(program.code[0])) for program in distinct.values()]
            starts = dict(zip(distinct, accumulate(counts, initial=0), strict=False))
            self._code = starts, self._device.upload(np.concatenate([pack(one) for one in distinct.values()]))
        return self._code

    def _parts(self, launch: Sequence[Share], starts: dict[int, int]) -> Iterator[Part]:
        words = 0
        for share in launch:
            subject = self._subjects[share.index]
            each = words_a_batch(subject.circuit, self._rng)
            yield Part(subject.program, starts[id(subject.program)], words, each, share.count)
            words += share.count * each

    def _begin(self, share: Share, lanes: int) -> NDArray[np.uint64]:
        """The states of a share's batches as they lie on the device, flat: [group][row][lane]."""
        subject, cases = self._subjects[share.index], self._draws[share.index].cases
        program, width = subject.program, -(-share.count // lanes) * lanes
        qubits, bits = load_rows(subject.circuit, program, cases, range(share.first, share.first + share.count), width)
        bits[ALL_ONES_SLOT] = ~np.uint64(0)
        rows = np.concatenate([qubits, bits, np.zeros((program.stack_depth, width), np.uint64)])
        return rows.reshape(len(rows), -1, lanes).transpose(1, 0, 2).reshape(-1)

    def _finals(
        self, launch: Sequence[Share], state: NDArray[np.uint64], ends: NDArray[np.uint64], lanes: int
    ) -> list[list[Final]]:
        finals: list[list[Final]] = []
        group = at = 0
        for share in launch:
            program = self._subjects[share.index].program
            groups, rows = -(-share.count // lanes), rows_of(program)
            own = state[at : at + groups * rows * lanes].reshape(groups, rows, lanes).transpose(1, 0, 2)
            told = ends[group * lanes : group * lanes + share.count]
            finals.append(self._share(share, own.reshape(rows, -1), told))
            group, at = group + groups, at + groups * rows * lanes
        return finals

    def _share(self, share: Share, rows: NDArray[np.uint64], ends: NDArray[np.uint64]) -> list[Final]:
        subject = self._subjects[share.index]
        places = len(subject.program.qubits)
        qubits, bits = rows[:places], rows[places : places + subject.program.slots]
        return [
            final_of(subject.circuit, subject.program, (qubits[:, batch], bits[:, batch]), phase, (toffoli, clifford))
            for batch, (phase, toffoli, clifford) in enumerate(ends.tolist())
        ]
