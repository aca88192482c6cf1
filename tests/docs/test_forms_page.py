"""docs/forms.md shows the catalogue as its data has it."""

from __future__ import annotations

from forms.survey.entries import surveyed
from tools import catalogue

PAGE = catalogue.PAGE.read_text("utf-8")


def test_every_table_is_what_the_data_says() -> None:
    assert catalogue.refreshed(PAGE) == PAGE, "run just docs, and read what changed"


def test_every_surveyed_row_is_on_the_page() -> None:
    assert catalogue.waves_on(PAGE) == {1, 2, 3, 4}
    for one in surveyed():
        assert f"| `{one.form}` |" in PAGE


def test_a_table_follows_its_data() -> None:
    page = "before\n<!-- catalogue wave 1 -->\nold\n<!-- end -->\nafter\n"
    refreshed = catalogue.refreshed(page)
    assert refreshed.startswith("before\n<!-- catalogue wave 1 -->\n| form | status |")
    assert refreshed.endswith("<!-- end -->\nafter\n")
    assert "old" not in refreshed
