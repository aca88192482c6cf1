"""What is measured of form calls, and that the same call is shown once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from forms.backend import Backend
from forms.choice import Decision, Shape
from forms.computed import Computed
from meshd.activity import Activity
from meshd.bender import why
from meshd.metrics.forms import FormMeter

SORT = "cuda-radix-sort"
SHAPE = Shape(SORT, True, 100.0, 10, 10)


def meter() -> tuple[FormMeter, CollectorRegistry, Activity]:
    registry, activity = CollectorRegistry(), Activity()
    made = FormMeter(registry, activity)
    made._me = "me"
    return made, registry, activity


def done(backend: Backend | None = Backend.CPU) -> Computed:
    return Computed(b"(ok)", SORT, backend, 100.0, 0.5)


def test_calls_that_were_computed_here_are_counted_by_backend_and_outcome() -> None:
    forms, registry, _ = meter()
    forms.computed(SORT, done(), 0.6)
    forms.computed(SORT, done(None), 0.1)
    forms.computed(SORT, None, 2.0)
    for backend, outcome in (("cpu", "ok"), ("none", "error"), ("none", "lost")):
        labels = {"form": SORT, "backend": backend, "outcome": outcome}
        assert registry.get_sample_value("meshd_form_calls_total", labels) == 1
    assert registry.get_sample_value("meshd_form_seconds_count", {"form": SORT}) == 3


def test_predictions_are_held_against_what_calls_took() -> None:
    forms, registry, activity = meter()
    forms.decided(Decision(SHAPE, "far", 1.0, {"me": 3.0}, 1.2))
    forms.decided(Decision(SHAPE, "far", 1.0, {}, None))
    assert registry.get_sample_value("meshd_form_prediction_ratio_sum", {"form": SORT}) == 1.2
    bent = {"form": SORT, "place": "far"}
    assert registry.get_sample_value("meshd_form_bent_total", bent | {"outcome": "ok"}) == 1
    assert registry.get_sample_value("meshd_form_bent_total", bent | {"outcome": "lost"}) == 1
    assert [deed["where"] for deed in activity.as_json()] == ["far", "far"]


def test_a_call_that_ran_here_is_shown_once_with_its_prediction() -> None:
    forms, _, activity = meter()
    forms.computed(SORT, done(), 0.6)
    forms.decided(Decision(SHAPE, "me", 0.5, {"far": 0.9}, 0.6))
    (deed,) = activity.as_json()
    assert (deed["where"], deed["mode"], deed["predicted_s"]) == ("me", "cpu", 0.5)


def test_why_a_call_went_where_it_did() -> None:
    assert why(Decision(SHAPE, "far", 0.001, {"me": 0.003, "new": None}, 0.002)) == (
        "1.0 ms predicted, against me 3.0 ms, new of which nothing is known"
    )
    assert "nobody knew" in why(Decision(SHAPE, "far", None, {}, 0.002))
