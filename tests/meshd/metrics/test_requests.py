"""What is counted of requests, and that nobody outside can make up labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from llm.errors import NoHost, QueueFull, UnknownModel
from meshd.activity import KEPT, Activity
from meshd.metrics.requests import RequestMeter, RequestMetrics

CHAT = "/v1/chat/completions"


def meter() -> tuple[RequestMeter, CollectorRegistry]:
    registry = CollectorRegistry()
    return RequestMeter(RequestMetrics(registry), Activity()), registry


def test_an_answered_request_is_counted_once_with_its_times_and_tokens() -> None:
    requests, registry = meter()
    measured = requests.begin("tiny", CHAT, "req-1")
    assert registry.get_sample_value("meshd_requests_running") == 1
    measured.answered(200, "host", "solo", is_stream=True)
    for chunk in (b"data: 1\n\n", b"data: 2\n\n", b'data: {"usage": {"completion_tokens": 2}}\n\n'):
        measured.piece(chunk)
    measured.end()
    labels = {"model": "tiny", "path": CHAT, "status": "200", "mode": "solo"}
    assert registry.get_sample_value("meshd_requests_total", labels) == 1
    assert registry.get_sample_value("meshd_requests_running") == 0
    for name, count in (("ttft", 1), ("inter_token", 2), ("request", 1)):
        assert registry.get_sample_value(f"meshd_{name}_seconds_count", {"model": "tiny"}) == count, name
    assert registry.get_sample_value("meshd_tokens_total", {"model": "tiny", "kind": "completion"}) == 2
    (deed,) = requests.activity.as_json()
    assert (deed["what"], deed["where"], deed["outcome"], deed["tokens"]) == ("tiny", "host", "200", 2)
    assert 0 <= deed["first_s"] <= deed["seconds"]


def test_what_clients_make_up_becomes_no_label() -> None:
    requests, registry = meter()
    for number in range(5):
        measured = requests.begin(f"made-up-{number}", f"/v1/made-up-{number}", "req")
        measured.failed(UnknownModel(f"made-up-{number}", []))
        measured.end()
    labels = {"model": "other", "path": "other", "status": "404", "mode": "none"}
    assert registry.get_sample_value("meshd_requests_total", labels) == 5
    assert b"made-up" not in generate_latest(registry)


def test_a_model_that_cannot_answer_now_keeps_its_name() -> None:
    requests, registry = meter()
    measured = requests.begin("tiny", CHAT, "req-1")
    measured.failed(NoHost("none now"))
    measured.end()
    labels = {"model": "tiny", "path": CHAT, "status": "503", "mode": "none"}
    assert registry.get_sample_value("meshd_requests_total", labels) == 1


def test_a_client_that_left_is_told_apart() -> None:
    requests, registry = meter()
    requests.begin("tiny", CHAT, "req-1").end()
    labels = {"model": "other", "path": CHAT, "status": "499", "mode": "none"}
    assert registry.get_sample_value("meshd_requests_total", labels) == 1


def test_errors_are_counted_by_code() -> None:
    requests, registry = meter()
    requests.refused(QueueFull("full"))
    assert registry.get_sample_value("meshd_request_errors_total", {"status": "429", "code": "queue_full"}) == 1


def test_only_the_last_deeds_are_kept() -> None:
    requests, _ = meter()
    for number in range(KEPT + 10):
        requests.begin("tiny", CHAT, f"req-{number}").end()
    deeds = requests.activity.as_json()
    assert len(deeds) == KEPT
    assert deeds[0]["request_id"] == f"req-{KEPT + 9}"
