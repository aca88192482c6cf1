"""Measures the API's requests: how many, how long until the first byte, between tokens, and in all.

Labels are bounded: a model's name counts only where a node of the mesh offers it, a path only where it is known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llm.errors import BadRequest, RequestFailed, UnknownModel
from meshd.activity import Activity, Deed
from meshd.metrics.answer_usage import UsageReader

PATHS = frozenset(
    f"/v1/{name}" for name in ("chat/completions", "completions", "embeddings", "responses", "messages", "rerank")
)
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BETWEEN_TOKENS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)


class RequestMetrics:
    """The metrics themselves, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        model = ("model",)
        self.ended = Counter(
            "meshd_requests", "Requests by model, path, HTTP status and mode of the model.",
            ("model", "path", "status", "mode"), registry=registry,
        )  # fmt: skip
        self.errors = Counter(
            "meshd_request_errors", "Requests that ended with an error of ours, by code.", ("status", "code"),
            registry=registry,
        )  # fmt: skip
        self.running = Gauge("meshd_requests_running", "Requests that this node's API is answering.", registry=registry)
        self.seconds = Histogram("meshd_request_seconds", "Whole requests.", model, buckets=SECONDS, registry=registry)
        self.first = Histogram(
            "meshd_ttft_seconds", "Until the first piece of an answer.", model, buckets=SECONDS, registry=registry
        )
        self.between = Histogram(
            "meshd_inter_token_seconds", "Between pieces of a streamed answer, of which each is about a token.", model,
            buckets=BETWEEN_TOKENS_S, registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "meshd_tokens", "Tokens that answers said they took.", ("model", "kind"), registry=registry
        )


@dataclass(slots=True)
class RequestMeter:
    """Measures requests and shows them in `activity`."""

    metrics: RequestMetrics
    activity: Activity

    def refused(self, error: RequestFailed) -> None:
        """A request ended with an error that the client was told."""
        self.metrics.errors.labels(str(error.status), error.code or OTHER).inc()

    def begin(self, model: str, path: str, request_id: str) -> Measured:
        """A request begins. Tell what is returned of its answer, and of its end whatever happens."""
        deed = self.activity.begin("request", model, time.time(), request_id)
        self.metrics.running.inc()
        return Measured(self, deed, path if path in PATHS else OTHER)


def unread_meter() -> RequestMeter:
    """A meter whose figures nobody reads."""
    return RequestMeter(RequestMetrics(CollectorRegistry()), Activity())


@dataclass(slots=True)
class Measured:
    """One request. Its times are of the steady clock."""

    meter: RequestMeter
    deed: Deed
    path: str
    _began: float = field(default_factory=time.perf_counter)
    _last: float | None = None
    _status: int = 0
    _is_known: bool = False
    _reader: UsageReader | None = None

    def answered(self, status: int, node: str, mode: str, *, is_stream: bool) -> None:
        """The head of the answer is there."""
        self._status, self._is_known = status, True
        self._reader = UsageReader(is_stream=is_stream)
        self.deed.where, self.deed.mode = node, mode
        self.meter.activity.note()

    def failed(self, error: RequestFailed) -> None:
        """There is no answer, or no whole one."""
        self._status = error.status
        # The name of a model that nobody has is whatever a client wrote.
        self._is_known = self._is_known or not isinstance(error, UnknownModel | BadRequest)

    def piece(self, chunk: bytes) -> None:
        """The next piece of the answer's body."""
        now, metrics = time.perf_counter(), self.meter.metrics
        if self._last is None:
            self.deed.first_s = now - self._began
            metrics.first.labels(self._model).observe(self.deed.first_s)
        else:
            metrics.between.labels(self._model).observe(now - self._last)
        self._last = now
        if self._reader is not None:
            self._reader.feed(chunk)

    def end(self) -> None:
        """The request is over, however it ended: 499 (nginx's) when the client left before anything came of it."""
        metrics, seconds = self.meter.metrics, time.perf_counter() - self._began
        status = self._status or 499
        metrics.running.dec()
        metrics.ended.labels(self._model, self.path, str(status), self.deed.mode or "none").inc()
        metrics.seconds.labels(self._model).observe(seconds)
        self.deed.outcome, self.deed.seconds = str(status), seconds
        if self._reader is not None:
            usage = self._reader.end()
            for kind in ("prompt", "completion", "drafted", "accepted"):
                if count := getattr(usage, kind):
                    metrics.tokens.labels(self._model, kind).inc(count)
            self.deed.tokens = usage.completion
        self.meter.activity.note()

    @property
    def _model(self) -> str:
        return self.deed.what if self._is_known else OTHER
