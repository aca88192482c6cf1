"""Fuzz one decoder for as long as one likes: `python -m tools.fuzz DECODER [SECONDS]`; without a name, list them.

With Atheris (`uv run --with atheris python -m tools.fuzz packet 600`) libFuzzer looks for inputs that reach new code;
without it the vectors are bent blindly. What breaks a decoder is kept as build/fuzz/<decoder>/crash-…: add it, in hex,
to tests/corpus/<decoder>.hex with the fix, and the tests hold the decoder to it from then on.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzzing import Decoder

PACKAGES = ("transport", "gossip", "llm", "forms", "meshd")
CRASHES = Path(__file__).parents[1] / "build" / "fuzz"
DEFAULT_S = 60


def main() -> None:
    """Run, or list what there is to run."""
    arguments = sys.argv[1:]
    atheris = _atheris()
    with _instrumented(atheris):
        decoders = {one.name: one for one in _decoders()}
    if not arguments or arguments[0] not in decoders:
        raise SystemExit("usage: python -m tools.fuzz DECODER [SECONDS]\n" + " ".join(sorted(decoders)))
    seconds = int(arguments[1]) if len(arguments) > 1 else DEFAULT_S
    decoder = decoders[arguments[0]]
    (CRASHES / decoder.name).mkdir(parents=True, exist_ok=True)
    if atheris is None:
        print("Atheris is not installed: bending the vectors blindly")
        bend_for(decoder, seconds)
    else:
        _run_atheris(atheris, decoder, seconds)


def bend_for(decoder: Decoder, seconds: float) -> int:
    """Feed bent seeds for a while; how many. What breaks the decoder is kept and raised."""
    from tests.fuzzing import bend, corpus

    seed = random.randrange(1 << 32)
    print(f"{decoder.name}: seed {seed}")
    dice = random.Random(seed)
    seeds = [*decoder.seeds, *corpus(decoder)]
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        data = bend(dice.choice(seeds), decoder.seeds, dice.randrange(1, 6), dice)
        try:
            decoder.try_read(data)
        except BaseException:
            path = CRASHES / decoder.name / f"crash-{seed}-{count}"
            path.write_bytes(data)
            print(f"{decoder.name}: {len(data)} bytes broke it, kept in {path}")
            raise
    print(f"{decoder.name}: {count} inputs")
    return count


def _decoders() -> Iterator[Decoder]:
    for package in PACKAGES:
        yield from importlib.import_module(f"tests.{package}.decoders").DECODERS


def _atheris() -> Any:
    try:
        return importlib.import_module("atheris")
    except ModuleNotFoundError:
        return None


@contextmanager
def _instrumented(atheris: Any) -> Iterator[None]:
    """Have what is imported inside report which branches it takes."""
    if atheris is None:
        yield
        return
    with atheris.instrument_imports(include=list(PACKAGES)):
        yield


def _run_atheris(atheris: Any, decoder: Decoder, seconds: int) -> None:
    from tests.fuzzing import bend, corpus

    folder = CRASHES / decoder.name / "corpus"
    folder.mkdir(exist_ok=True)
    seeds = [*decoder.seeds, *corpus(decoder)]
    for number, data in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if dice.randrange(2):
            return bytes(atheris.Mutate(data, max_size))
        return bend(data, decoder.seeds, 1, dice)[:max_size]

    def read(data: bytes) -> None:
        decoder.try_read(data)

    options = [f"-max_total_time={seconds}", f"-max_len={decoder.max_bytes}", "-rss_limit_mb=1024", "-timeout=10"]
    options += [f"-artifact_prefix={CRASHES / decoder.name}/", "-print_final_stats=1", str(folder)]
    atheris.Setup([sys.argv[0], *options], read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
