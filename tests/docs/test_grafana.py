"""The dashboard asks for metrics that exist, and is what its generator writes."""

from __future__ import annotations

import re
from pathlib import Path

from tools import grafana

NAMES = set(re.findall(r"^\| `(meshd_\w+)`", (grafana.PAGE.parent / "metrics.md").read_text(), re.MULTILINE))


def test_the_file_is_what_its_generator_writes() -> None:
    assert Path(grafana.PAGE).read_text() == grafana.text(), "run python -m tools.grafana"


def test_every_query_asks_for_metrics_that_the_page_lists() -> None:
    asked = set()
    for panel in grafana.dashboard()["panels"]:
        for target in panel["targets"]:
            found = set(re.findall(r"meshd_\w+", target["expr"]))
            assert found, target
            asked |= {name.removesuffix("_bucket") for name in found}
    assert asked <= NAMES
    assert len(asked) >= 12


def test_panels_do_not_lie_on_one_another() -> None:
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in grafana.dashboard()["panels"]]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) + grafana.WIDTH <= 24
