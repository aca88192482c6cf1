"""Measures form calls: what this node computed, and where calls went that might have gone anywhere, against what was
predicted. `forms.observer.Observer`.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from forms.choice import Decision
from forms.computed import Computed
from forms.here import Here
from meshd.activity import Activity, Deed
from meshd.logs import current_request

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
RATIOS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
LOST, ERROR, OK = "lost", "error", "ok"


class FormMeter:
    """Names of forms come from the catalogue, places from the mesh: nobody outside can make up a label."""

    def __init__(self, registry: CollectorRegistry, activity: Activity) -> None:
        self._activity = activity
        self._latest: dict[str, Deed] = {}
        self._me = ""
        self._queue = Gauge("meshd_form_queue_seconds", "How long a form call would wait here.", registry=registry)
        self._computed = Counter(
            "meshd_form_calls", "Form calls that this node computed, for itself or for others.",
            ("form", "backend", "outcome"), registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "meshd_form_seconds", "Of such a call, with waiting.", ("form",), buckets=SECONDS, registry=registry
        )
        self._bent = Counter(
            "meshd_form_bent", "Calls that might have run anywhere, by where they ran.", ("form", "place", "outcome"),
            registry=registry,
        )  # fmt: skip
        self._ratio = Histogram(
            "meshd_form_prediction_ratio", "What such a call took over what was predicted.", ("form",),
            buckets=RATIOS, registry=registry,
        )  # fmt: skip

    def attach(self, here: Here, name: str) -> None:
        """Measure what `here` does. name: this node's, as decisions call it."""
        self._me, here.observer = name, self
        self._queue.set_function(lambda: here.queue_s)

    def computed(self, form: str, done: Computed | None, seconds: float) -> None:
        """A call ended here."""
        backend = done.backend.value if done is not None and done.backend is not None else "none"
        outcome = LOST if done is None else ERROR if done.is_error else OK
        self._computed.labels(form, backend, outcome).inc()
        self._seconds.labels(form).observe(seconds)
        deed = self._activity.begin("form", form, time.time() - seconds, current_request())
        deed.where, deed.mode, deed.outcome, deed.seconds = self._me, backend, outcome, seconds
        self._latest[form] = deed
        self._activity.note()

    def decided(self, decision: Decision) -> None:
        """A call went somewhere."""
        outcome = LOST if decision.actual_s is None else OK
        self._bent.labels(decision.shape.form, decision.place, outcome).inc()
        if decision.predicted_s and decision.actual_s is not None:
            self._ratio.labels(decision.shape.form).observe(decision.actual_s / decision.predicted_s)
        self._deed_of(decision, outcome).predicted_s = decision.predicted_s
        self._activity.note()

    def _deed_of(self, decision: Decision, outcome: str) -> Deed:
        """What ran on this node has been told as computed."""
        form = decision.shape.form
        if decision.place == self._me and form in self._latest:
            return self._latest[form]
        deed = self._activity.begin("form", form, time.time() - (decision.actual_s or 0.0), current_request())
        deed.where, deed.mode, deed.outcome, deed.seconds = decision.place, "bend", outcome, decision.actual_s
        return deed
