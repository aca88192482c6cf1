"""Who makes room: idle lazy models, those used longest ago first, and no more of them than it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.residency import Loaded, Policy, idle_until, to_displace


def lazy(name: str, held: int, last_used: float = 0.0, in_flight: int = 0) -> Loaded:
    return Loaded(name, held, Policy.LAZY, in_flight, last_used)


def pinned(name: str, held: int) -> Loaded:
    return Loaded(name, held, Policy.PINNED, 0, 0.0)


@pytest.mark.parametrize(
    ("missing", "loaded", "going"),
    [
        (5, [lazy("old", 5, 1.0), lazy("new", 5, 2.0)], ("old",)),
        (6, [lazy("old", 5, 1.0), lazy("new", 5, 2.0)], ("old", "new")),
        (5, [pinned("stays", 50), lazy("goes", 5)], ("goes",)),
        (5, [pinned("stays", 50)], None),
        (5, [lazy("answering", 50, in_flight=1)], None),
        # The small one alone would not do, and with the large one it is not needed.
        (8, [lazy("small", 2, 1.0), lazy("large", 8, 2.0)], ("large",)),
        (0, [lazy("any", 5)], ()),
    ],
)
def test_who_goes(missing: int, loaded: list[Loaded], going: tuple[str, ...] | None) -> None:
    assert to_displace(missing, loaded) == going


MODELS = st.lists(
    st.builds(
        Loaded,
        st.uuids().map(str),
        st.integers(1, 50),
        st.sampled_from(Policy),
        st.integers(0, 1),
        st.floats(0, 100),
    ),
    max_size=8,
)


@given(st.integers(0, 200), MODELS)
def test_enough_goes_and_never_one_too_many_nor_one_that_may_not(missing: int, loaded: list[Loaded]) -> None:
    going = to_displace(missing, loaded)
    able = {model.name: model.held_bytes for model in loaded if model.may_go}
    if going is None:
        assert sum(able.values()) < missing
        return
    freed = sum(able[name] for name in going)
    assert freed >= missing
    assert all(freed - able[name] < missing for name in going)


def test_only_idle_lazy_models_leave_by_themselves() -> None:
    assert idle_until(Policy.LAZY, 0, 100.0, 60.0) == 160.0
    assert idle_until(Policy.LAZY, 1, 100.0, 60.0) is None
    assert idle_until(Policy.PINNED, 0, 100.0, 60.0) is None
    assert idle_until(Policy.LAZY, 0, 100.0, 0.0) is None
