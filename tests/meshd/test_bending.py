"""A host has a worker for each GPU that it can compute with, else one for its processor."""

from __future__ import annotations

import pytest

from meshd.bending import form_devices


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
