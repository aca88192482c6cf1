"""Run circuits on a device by `simulate.cu`, to the CPU's numbers: many batches of one, or many variants of few each.

The words of SHAKE-256 can only be squeezed in order, on the host, and take longer than the device does: it runs one
launch while the words of the next are drawn. xorshift64* is stepped on the device.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from forms.circuits.circuit import Circuit
from forms.circuits.device_runner import DeviceRunner, Subject, words_a_batch
from forms.circuits.judging import Batch
from forms.circuits.lanes import batches_of
from forms.circuits.launch_plan import Need, Room, Share, device_bytes, plan_launches
from forms.circuits.packing import ENDS_BYTES, RECORD_BYTES, records_of, rows_of
from forms.circuits.program import lower
from forms.circuits.runners import circuit_program
from forms.circuits.simulation import Draw, Options, Result, draw
from forms.circuits.words import WordSource
from forms.circuits.xof import RngMode
from forms.cuda.device import Device

# Two launches' words may be in the host's memory at a time, one launch on the device.
ROOM = Room(device_bytes=2**31, word_bytes=2**29)


def simulate_on_device(
    device: Device, circuits: Sequence[Circuit], options: Options, room: Room = ROOM
) -> list[Result]:
    """Run every circuit with the same options; results in the order of `circuits`, `seconds` those of all together.

    Raises what `simulate` raises, for the first circuit at fault, and DeviceFailed.
    """
    started = time.perf_counter()
    draws = [draw(circuit, options) for circuit in circuits]
    judged: list[list[Batch]] = [[] for _ in circuits]
    for index, batches in _launched(device, _subjects(circuits, options), draws, room):
        judged[index] += batches
    seconds = time.perf_counter() - started
    return [run.result(batches, seconds, "cuda") for run, batches in zip(draws, judged, strict=True)]


def most_device_bytes(circuits: Sequence[Circuit], options: Options, room: Room = ROOM) -> int:
    """The most that any launch of such a run takes of the device. Lowers the circuits."""
    needs = _needs(_subjects(circuits, options), options.rng, [batches_of(options.attempts)] * len(circuits))
    return max((device_bytes(launch, needs) for launch in plan_launches(needs, room)), default=0)


def _subjects(circuits: Sequence[Circuit], options: Options) -> list[Subject]:
    """Lower all of them; a circuit that is named twice is lowered once."""
    if not options.digests:
        return [Subject(circuit, circuit_program(circuit)) for circuit in circuits]
    apart = {id(circuit): lower(circuit, keep_bits=True) for circuit in circuits}
    return [Subject(circuit, apart[id(circuit)]) for circuit in circuits]


def _needs(subjects: Sequence[Subject], rng: RngMode, batches: Sequence[int]) -> list[Need]:
    return [
        Need(
            code=id(subject.program),
            code_bytes=RECORD_BYTES * records_of(len(subject.program.code[0])),
            # Twice: a block's last lanes may be without a batch.
            state_bytes=2 * 8 * rows_of(subject.program) + ENDS_BYTES,
            word_bytes=8 * words_a_batch(subject.circuit, rng),
            batches=count,
        )
        for subject, count in zip(subjects, batches, strict=True)
    ]


def _launched(
    device: Device, subjects: Sequence[Subject], draws: Sequence[Draw], room: Room
) -> Iterator[tuple[int, list[Batch]]]:
    """Run all batches; yields a circuit's next ones. The device stays with this thread, words are drawn in another."""
    runner = DeviceRunner(device, subjects, draws)
    rng = draws[0].options.rng if draws else RngMode.SHAKE
    launches = plan_launches(_needs(subjects, rng, [run.batches for run in draws]), room)
    with ThreadPoolExecutor(1, thread_name_prefix="words") as pool:
        drawn = pool.map(lambda launch: _words(launch, draws), launches[:1])
        for number, launch in enumerate(launches):
            starts, words = next(drawn)
            drawn = pool.map(lambda launch: _words(launch, draws), launches[number + 1 : number + 2])
            for share, start, finals in zip(launch, starts, runner.run(launch, words), strict=True):
                yield share.index, draws[share.index].judged(share.first, finals, start)


def _words(launch: Sequence[Share], draws: Sequence[Draw]) -> tuple[list[int], NDArray[np.uint64]]:
    """Where each circuit's stream stood, and what the launch takes of it; one more word, which the kernel looks at."""
    rng = draws[launch[0].index].options.rng
    sources = [draws[share.index].words for share in launch]
    starts = [source.position for source in sources]
    counts = [share.count * words_a_batch(draws[share.index].circuit, rng) for share in launch]
    words = np.zeros(sum(counts) + 1, np.uint64)
    if rng is RngMode.LFSR:
        words[:-1] = np.concatenate([source.lfsr_states(count) for source, count in zip(sources, counts, strict=True)])
    else:
        WordSource.fill_all(sources, words, counts)
    return starts, words
