"""bend's forms beside what is bare and what others use, in one run: `python -m bench.forms [--json]`.

The wire table of SHAKE-256 (100 to a million inputs of 16 bytes, binary and text) through the wire door of a real
agent, beside a bare TCP server that takes and sends as many bytes, hashlib itself on one core, and the same fan-out by
dask.distributed and ray where `--others PYTHON` names an environment that has them
(`uv venv others; uv pip install --python others/bin/python distributed ray`). Then the million through another agent
of a mesh, the other forms beside their truths, and the public circuit where MESHD_CIRCUITS names the folder it lies in.
Times are medians in milliseconds of rounds taken in turns; everything is on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bench.forms_others import CORES, WIDTH, hashed
from bench.forms_wire import LOOPBACK, Exchange, Wire, bare_server
from bench.row import Row
from forms.installed import catalogue
from forms.quick_text import read_rows_call
from meshd.control import ControlClient
from meshd.local_agents import LocalAgent, local_agents

COUNTS = {"100": 100, "1k": 1000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}
PAGE_MS = {
    "shake-binary-100": 0.74,
    "shake-binary-1k": 0.76,
    "shake-binary-10k": 1.27,
    "shake-binary-100k": 10.18,
    "shake-binary-1M": 159.0,
    "shake-text-100": 3.43,
    "shake-text-1k": 23.24,
    "shake-text-10k": 218.82,
    "shake-text-100k": 2219.0,
    "shake-text-1M": 23_811.0,
}
"""The bend page's own, its Python worker on an RTX 3090: another machine."""
SMALL_TARGET, LARGE_TARGET = 1 / 5, 1 / 1.5
"""Of what the slower of dask and ray takes; without them, of hashlib, in calls large enough to be worth a door."""
HASHLIB_TARGET = 1 / 2
MESH_TARGET, SMALL_MESH_TARGET = 3.0, 15.0
"""What another node may cost, of what a call costs here: a small one there is a command, two agents and a stream."""
EVALUATOR_MS = 50_000.0
"""The public evaluator on one core of machine A, for the stock circuit."""
WARM_UP_S = 10.0
STOCK_REPLY = b"(ok (toffoli 15999651264) (clifford 77100095947) "
DICE = random.Random(6)

Call = Callable[[], object]


def medians(count: int, calls: Mapping[str, Call]) -> dict[str, float]:
    """Milliseconds of each for calls of `count` rows, taken in turns, after one turn that does not count.

    Small calls come ten to a turn: what dask and ray still do after a call of theirs meets the first alone. A call may
    say itself what it took.
    """
    turns, times = (10, 10) if count <= 1000 else (3, 10) if count <= 10_000 else (5, 1)
    took: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            for _ in range(times if turn else 1):
                began = time.perf_counter()
                said = call()
                if turn:
                    took[name].append(said if isinstance(said, float) else 1e3 * (time.perf_counter() - began))
    return {name: statistics.median(all_of_it) for name, all_of_it in took.items()}


class Other:
    """dask or ray in a process and an environment of its own."""

    def __init__(self, python: str, name: str) -> None:
        self.name = name
        argv = [python, str(Path(__file__).with_name("forms_others.py")), name]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, text=True, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._parts: dict[int, int] = {}

    def call_ms(self, count: int) -> float:
        """One call, as one part or as one for each core, whichever was faster of three."""
        if count not in self._parts:
            tried = {parts: min(self._once(count, parts) for _ in range(3)) for parts in {1, CORES}}
            self._parts[count] = min(tried, key=lambda parts: tried[parts])
        return self._once(count, self._parts[count])

    def _once(self, count: int, parts: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, parts, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=60)


def warm_up(wire: Wire) -> None:
    """Let the worker begin, load what it computes with, and measure itself."""
    wire.ask(Exchange.binary(1_000).request, Exchange.binary(1_000).reply_bytes)
    time.sleep(WARM_UP_S)


def wire_rows(wire: Wire, others: Sequence[Other]) -> Iterator[dict[str, Any]]:
    """The wire table."""
    with bare_server() as bare:
        for kind, make in (("binary", Exchange.binary), ("text", Exchange.text)):
            for name, count in COUNTS.items():
                yield one_size(f"shake-{kind}-{name}", make(count), wire, bare, others)


def one_size(case: str, exchange: Exchange, wire: Wire, bare: Wire, others: Sequence[Other]) -> dict[str, Any]:
    """One line of it."""
    request, reply_bytes, count = exchange.request, exchange.reply_bytes, len(exchange.data) // WIDTH
    reply = bytes(wire.ask(request, reply_bytes))
    digests = hashed(exchange.data)
    assert reply[12:] == digests or bytes.fromhex(reply.decode("latin-1")[4:-2].translate(PLAIN)) == digests, reply[:99]
    calls: dict[str, Call] = {
        "ours": lambda: wire.ask(request, reply_bytes),
        "tcp": lambda: bare.echo(request, reply_bytes),
        "hashlib": lambda: hashed(exchange.data),
    }
    got = medians(count, calls | {other.name: partial(other.call_ms, count) for other in others})
    slower = max((other.name for other in others), key=lambda name: got[name], default="")
    baseline, name = (got[slower], slower) if slower else (got["hashlib"], "hashlib")
    target = (SMALL_TARGET if count <= 10_000 else LARGE_TARGET) if slower else HASHLIB_TARGET
    row = Row(case, got["ours"], baseline, name, got["ours"] / baseline, "ms", "lower", target)
    beside = {f"{name}_ms": took for name, took in got.items() if name != "ours"}
    return asdict(row) | beside | {"page_ms": PAGE_MS[case]}


PLAIN = {ord(mark): None for mark in '()" '}


def text_row() -> dict[str, Any]:
    """Reading alone, in CPU time a byte, beside the page's whole calls in text."""
    request = Exchange.text(1_000_000).request
    took = []
    for _ in range(5):
        began = time.process_time()
        assert read_rows_call(request) is not None
        took.append(1e9 * (time.process_time() - began) / len(request))
    ours, page = statistics.median(took), 1e6 * PAGE_MS["shake-text-1M"] / len(request)
    return asdict(Row("text-read-1M", ours, page, "the page's text", ours / page, "ns/byte", "lower", 1 / 20))


def form_frames() -> dict[str, bytes]:
    """A call of each other form with a frame, of a size where it is worth a worker."""
    blake = b"".join(struct.pack("<I", 64) + DICE.randbytes(64) for _ in range(100_000))
    modulus = DICE.getrandbits(256) | 1
    return {
        "cuda-blake3-tree": struct.pack("<4sII", b"BSB3", 32, 100_000) + blake,
        "cuda-radix-sort": struct.pack("<4sIQ", b"BSRT", 0, 1_000_000) + DICE.randbytes(8_000_000),
        "cuda-bignum-cgbn": struct.pack("<4sIII", b"BCGB", 5, 256, 100_000)
        + modulus.to_bytes(32, "little")
        + DICE.randbytes(64 * 100_000),
        "cuda-secp256k1-batched-mul": struct.pack("<4sI", b"BSCP", 5_000) + bytes(64) + DICE.randbytes(32 * 5_000),
    }


def form_rows(wire: Wire) -> Iterator[dict[str, Any]]:
    """Each form through the door, beside its truth in one process without any door."""
    forms = catalogue()
    for name, frame in form_frames().items():
        form = forms.named(name)
        truth = form.write_frame(form.reference(form.read_frame(frame)))
        assert bytes(wire.ask(frame, len(truth))) == truth, name

        def alone(form: Any = form, frame: bytes = frame) -> bytes:
            return bytes(form.write_frame(form.reference(form.read_frame(frame))))

        def through(frame: bytes = frame, length: int = len(truth)) -> bytearray:
            return wire.ask(frame, length)

        got = medians(1_000_000, {"ours": through, "truth": alone})
        row = Row(name, got["ours"], got["truth"], "its truth", got["ours"] / got["truth"], "ms", "lower", 1.1)
        yield asdict(row)


def mesh_rows(near: LocalAgent, far: str, wire: Wire) -> Iterator[dict[str, Any]]:
    """The table through this host's agent to another one, beside the same on this host's wire door."""
    client = ControlClient(near.directory / "control.sock", 600)
    for kind, make in (("", Exchange.binary), ("text-", Exchange.text)):
        for name, count in COUNTS.items():
            exchange = make(count)
            there, _ = client.post("form_call", exchange.request, on=far)
            assert there == bytes(wire.ask(exchange.request, exchange.reply_bytes))

            def ask_there(request: bytes = exchange.request) -> object:
                return client.post("form_call", request, on=far)

            def ask_here(exchange: Exchange = exchange) -> object:
                return wire.ask(exchange.request, exchange.reply_bytes)

            got = medians(count, {"ours": ask_there, "here": ask_here})
            ratio = got["ours"] / got["here"]
            target = MESH_TARGET if count >= 100_000 else SMALL_MESH_TARGET
            yield asdict(
                Row(f"mesh-shake-{kind}{name}", got["ours"], got["here"], "here", ratio, "ms", "lower", target)
            )


def stock_row(near: LocalAgent, wire: Wire, circuit: Path) -> dict[str, Any]:
    """The public point addition over 9,024 shots, asked for by text."""
    blobs = near.directory / "blobs"
    blobs.mkdir(exist_ok=True)
    shutil.copyfile(circuit, blobs / circuit.name)
    began = time.perf_counter()
    reply = wire.ask(f'(cuda-sim-ops-bin "{circuit.name}" 141)'.encode(), len(STOCK_REPLY))
    took = 1e3 * (time.perf_counter() - began)
    assert bytes(reply) == STOCK_REPLY, reply
    return asdict(
        Row("stock-circuit", took, EVALUATOR_MS, "the public evaluator", took / EVALUATOR_MS, "ms", "lower", 1.0)
    )


@asynccontextmanager
async def mesh() -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:
    """Two agents of one mesh."""
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
        agents = local_agents(Path(folder))
        async with agents.start("near") as near:
            joins = ["--join", await near.token("member")]
            async with agents.start("far", joins) as far:
                await near.until(lambda status: len(status["peers"]) == 1, 30)
                yield near, far


async def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    others = [Other(options.others, name) for name in ("dask", "ray")] if options.others else []
    async with mesh() as (near, _):
        address = str((await near.status())["doors"]["bend"])
        wire = Wire(LOOPBACK, int(address.rpartition(":")[2]))
        return await asyncio.to_thread(lambda: list(rows(near, wire, others, options)))


def rows(
    near: LocalAgent, wire: Wire, others: Sequence[Other], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """All of them, each printed as it comes where a person looks."""
    circuit = Path(os.environ.get("MESHD_CIRCUITS", "../shared/data/circuits")) / "stock.ops.zst"
    for row in all_rows(near, wire, others, circuit if circuit.exists() and not options.no_circuit else None):
        if not options.json:
            print(described(row), flush=True)
        yield row


def all_rows(near: LocalAgent, wire: Wire, others: Sequence[Other], circuit: Path | None) -> Iterator[dict[str, Any]]:
    """In the order of the docs."""
    warm_up(wire)
    yield from wire_rows(wire, others)
    for other in others:
        other.end()
    yield text_row()
    yield from mesh_rows(near, "far", wire)
    yield from form_rows(wire)
    if circuit is not None:
        yield stock_row(near, wire, circuit)


def described(row: dict[str, Any]) -> str:
    words = [f"{row['case']:27} {row['ours']:10.2f} {row['unit']}  {row['baseline_name']} {row['baseline']:.2f}"]
    words.append(f"ratio {row['ratio']:.3f} (target ≤ {row['target']:.2f})")
    return "  ".join(words + [f"{key} {value:.2f}" for key, value in row.items() if key not in Row.__slots__])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--others", metavar="PYTHON", default="", help="of an environment with distributed and ray")
    parser.add_argument("--no-circuit", action="store_true", help="without the public circuit's half minute")
    options = parser.parse_args()
    found = asyncio.run(run_all(options))
    if options.json:
        print(json.dumps({"name": "forms", "machine": platform.node(), "rows": found}))


if __name__ == "__main__":
    main()
