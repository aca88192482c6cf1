"""A host has a worker for each GPU that it can compute with, else one for its processor; and those it was told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from forms.foreign import ForeignWorker
from meshd.bending import form_devices, parse_workers, workers_of
from meshd.config import resolve
from transport.interface import Address


@pytest.mark.parametrize(
    ("kinds", "has_cupy", "devices"),
    [
        (["cpu"], True, ["cpu"]),
        (["cuda", "cuda"], True, ["cuda:0", "cuda:1"]),
        (["cuda", "cuda"], False, ["cpu"]),
        ([], True, ["cpu"]),
    ],
)
def test_workers_are_for_gpus_where_cupy_is_there_to_use_them(
    kinds: list[str], has_cupy: bool, devices: list[str]
) -> None:
    assert form_devices(kinds, has_cupy) == devices


NEAR, FAR = "10.0.0.7:8320", "[fd00::9]:8400"
KEY = "cq3-9wz-open"


@pytest.mark.parametrize("said", ["flag", "environment", "document"])
def test_a_worker_outside_the_mesh_has_the_key_of_its_line(tmp_path: Path, said: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# lab\n\n{FAR} {KEY}\n")
    flags: dict[str, object] = {"bend_worker": [NEAR, FAR]}
    environment, document = {}, {}
    match said:
        case "flag":
            flags["bend_worker_key_file"] = str(file)
        case "environment":
            environment["MESHD_BEND_WORKER_KEY_FILE"] = str(file)
        case _:
            document["bend_worker_key_file"] = str(file)
    workers = workers_of(resolve(flags, environment, document).config)
    assert workers == (ForeignWorker(Address("10.0.0.7", 8320)), ForeignWorker(Address("fd00::9", 8400), KEY))
    assert KEY not in repr(workers)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (f"{KEY}", "line 1: expected HOST:PORT and a key"),
        (f"\n{NEAR}", "line 2: expected HOST:PORT and a key"),
        (f"{NEAR} two {KEY}", "line 1: expected HOST:PORT and a key"),
        (f"{KEY} {NEAR}", "line 1: it begins with no HOST:PORT"),
        (f"10.0.0.8:8320 {KEY}", "a key for 10.0.0.8:8320, which no --bend-worker names"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_said_without_a_key(lines: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        parse_workers([NEAR], lines)
    assert KEY not in str(raised.value)
