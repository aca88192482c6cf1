"""The catalogue: its data, and what status a form has by it."""

from __future__ import annotations

from forms.catalogue import shipped
from forms.survey.entries import Measured, Status, chosen, entries_of, make_entries, measured, seven, surveyed

SHAKE = "cuda-shake-fanout"
OURS = Measured(SHAKE, "20× host hashlib", "NVIDIA X", "2026-11-20", "meshd bench forms")


def test_the_survey_is_whole() -> None:
    assert len(surveyed()) == 62
    assert [sum(one.wave == wave for one in surveyed()) for wave in (1, 2, 3, 4)] == [7, 20, 15, 20]
    assert all(one.form.startswith("cuda-") and one.figure and one.reference for one in surveyed())
    assert len({one.form for one in surveyed()}) == 62


def test_the_seven_can_be_called_and_are_built_before_a_gpu_has_run_them() -> None:
    entries = {entry.name: entry for entry in entries_of(shipped())}
    assert len(seven()) == 7
    for one in seven():
        assert entries[one.form].status is (
            Status.LIVE if one.form in {other.form for other in measured()} else Status.BUILT
        )
        assert entries[one.form].figure == one.figure or entries[one.form].status is Status.LIVE


def test_all_others_are_surveyed_with_a_figure_of_somebody_else() -> None:
    entries = entries_of(shipped())
    rest = chosen(entries, Status.SURVEYED)
    assert len(rest) == 58, "four of the survey's are among the seven"
    assert all(entry.published is not None and entry.measured is None and not entry.magic for entry in rest)
    assert len({entry.name for entry in entries}) == len(entries)


def test_only_a_figure_on_record_makes_a_form_live() -> None:
    (built, *_), (live, *_) = make_entries({SHAKE: "BSHK"}, []), make_entries({SHAKE: "BSHK"}, [OURS])
    assert (built.status, live.status) == (Status.BUILT, Status.LIVE)
    assert "RTX 3090" in built.hardware and built.measured is None
    assert (live.figure, live.hardware) == (OURS.figure, "NVIDIA X, 2026-11-20")
    assert live.published == built.published, "what others published stays beside it"


def test_a_form_that_nobody_surveyed_is_built() -> None:
    mine, *_ = make_entries({"mine": ""}, [])
    assert (mine.status, mine.figure, mine.hardware, mine.reference) == (Status.BUILT, "", "", "")


def test_entries_are_chosen_by_status_wave_and_words() -> None:
    entries = entries_of(shipped())
    assert [entry.name for entry in chosen(entries, words="blake3")] == ["cuda-blake3-tree"]
    assert len(chosen(entries, wave=1)) == 7
    assert [entry.name for entry in chosen(entries, Status.SURVEYED, 1, "POLLARD")] == ["cuda-rho-pollard-walk"]
    assert chosen(entries, Status.SURVEYED, 0, "no such words") == []
