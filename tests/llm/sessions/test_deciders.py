"""What decides about sessions, called as it is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from llm.errors import BadRequest
from llm.sessions.accept import Verdict, accept, settle
from llm.sessions.batch import LONG_ROWS, Work, calls_of
from llm.sessions.names import NotASession, SessionGone, SessionName, in_path, model_of, model_tag, path_of, read_name
from llm.sessions.ngram import propose
from llm.sessions.pieces import Pieces
from llm.sessions.session import Session, Turn, Wish
from llm.sessions.shares import share_rows
from llm.sessions.tiers import Limits, Place, TooManySessions, check_room, to_forget, to_park
from llm.sessions.window import SPAN_TOKENS, Bounds, common, find_spans, view

NAME = SessionName("0123456789abcdef", model_tag("toy"), "a" * 24)


@given(some.lists(some.integers(0, 3), max_size=8), some.lists(some.integers(0, 3), min_size=9, max_size=9))
def test_accepted_is_the_longest_beginning_that_plain_decoding_would_say(draft: list[int], argmax: list[int]) -> None:
    count = accept(draft, argmax)
    assert draft[:count] == argmax[:count]
    assert count == len(draft) or draft[count] != argmax[count]


def test_a_close_call_ends_a_block_before_it() -> None:
    draft, argmax = [1, 2, 3], [1, 2, 3, 4]
    assert settle(draft, argmax, [9.0] * 4, 0.1) == Verdict(3, 4)
    assert settle(draft, argmax, [9.0, 9.0, 0.01, 9.0], 0.1) == Verdict(2, None)
    assert settle(draft, argmax, [0.01, 9.0, 9.0, 9.0], 0.1) == Verdict(0, None)
    assert settle(draft, [1, 7, 0, 0], [9.0, 9.0, 0.0, 0.0], 0.1) == Verdict(1, 7)
    assert settle([], [5], [0.0], 0.1) == Verdict(0, 5)


def test_ngrams_are_taken_from_the_latest_place() -> None:
    assert propose([1, 2, 3, 9, 1, 2, 4, 8, 1, 2], 3) == [4, 8, 1]
    assert propose([1, 2, 3], 3) == []
    assert propose([], 3) == []


@given(some.lists(some.integers(0, 500), max_size=40), some.integers(0, 600))
def test_rows_are_shared_fairly_and_never_more_than_there_are(needs: list[int], room: int) -> None:
    shares = share_rows(needs, room)
    assert sum(shares) == min(sum(needs), room)
    assert all(share <= need for share, need in zip(shares, needs, strict=True))
    cut = [share for share, need in zip(shares, needs, strict=True) if share < need]
    assert not cut or max(cut) - min(cut) <= 1
    assert not cut or all(share <= max(cut) + 1 for share in shares)


class Nobody:
    has_room = True

    def tell(self, said: object) -> None:
        """Nobody listens."""


@given(some.lists(some.integers(1, 200), min_size=1, max_size=40), some.sampled_from([LONG_ROWS - 1, 63, 4096]))
def test_long_texts_share_a_call_and_single_tokens_others_of_few_rows(rows: list[int], most_mixed: int) -> None:
    works = [Work(Turn(Session(str(place), "me"), Wish(), Nobody()), count) for place, count in enumerate(rows)]
    calls = calls_of(works, most_mixed)
    assert sorted(work.turn.session.id for call in calls for work in call) == sorted(map(str, range(len(rows))))
    if sum(rows) <= most_mixed:
        assert len(calls) == 1
        return
    mixed = [call for call in calls if call[0].rows < LONG_ROWS]
    assert len(calls) - len(mixed) <= 1
    assert all(work.rows >= LONG_ROWS for call in calls if call not in mixed for work in call)
    assert all(sum(work.rows for work in call) <= most_mixed for call in mixed)
    # None is left half empty: two of them are more than one may have.
    assert all(sum(work.rows for work in [*one, other[0]]) > most_mixed for one, other in pairwise(mixed))


@given(some.text(max_size=30))
def test_pieces_give_the_text_whatever_the_cuts(text: str) -> None:
    pieces = Pieces()
    raw = text.encode()
    assert "".join(pieces.feed(raw[index : index + 1]) for index in range(len(raw))) + pieces.end() == text


def test_an_unfinished_character_waits_and_a_stop_word_is_held_back() -> None:
    pieces = Pieces()
    assert (pieces.feed("é".encode()[:1]), pieces.end()) == ("", "�")
    stopped = Pieces(["END"])
    assert [stopped.feed(part) for part in (b"the E", b"N", b"X EN", b"D more")] == ["the ", "", "ENX ", ""]
    assert stopped.is_stopped
    assert stopped.end() == ""
    left = Pieces(["END"])
    assert left.feed(b"a EN") + left.end() == "a EN"


def place(name: str, last_used: float, *, cells: int = 0, size: int = 0, owner: str = "", busy: bool = False) -> Place:
    return Place(name, owner, busy, last_used, cells, size)


def test_who_was_idle_longest_is_parked_and_who_is_busy_never() -> None:
    resident = [place("a", 3, cells=10), place("b", 1, cells=10), place("c", 0, cells=99, busy=True)]
    assert to_park(5, 0, resident) == ("b",)
    assert to_park(11, 0, resident) == ("b", "a")
    assert to_park(0, 1, resident) == ("b",)
    assert to_park(0, 0, resident) == ()
    assert to_park(21, 0, resident) is None


def test_beyond_the_quota_the_greediest_lose_their_oldest_states() -> None:
    parked = [place(f"a{age}", age, size=10, owner="a") for age in range(4)] + [place("b", -1, size=10, owner="b")]
    assert to_forget(parked, 50) == ()
    assert to_forget(parked, 30) == ("a0", "a1")
    assert set(to_forget(parked, 0)) == {one.session for one in parked}


def test_no_owner_takes_all_the_sessions() -> None:
    limits = Limits(sessions=3, of_owner=2)
    check_room(limits, "a", Counter(a=1))
    with pytest.raises(TooManySessions, match="your key"):
        check_room(limits, "a", Counter(a=2))
    check_room(limits, "b", Counter(a=2))
    with pytest.raises(TooManySessions):
        check_room(limits, "b", Counter(a=2, b=1))


def test_a_view_is_everything_or_sink_passages_and_tail() -> None:
    tokens = list(range(1000))
    assert view(tokens, 3, None) == tokens
    plain = view(tokens, 3, Bounds(4, 64, 0))
    assert plain == [*range(4), *range(936, 1000)]
    tokens[500:502] = [7777, 8888]
    asked = [*tokens, 7777]
    seen = view(asked, 1, Bounds(4, 64, 2))
    assert {7777, 8888} <= set(seen[4:-64])
    assert len(seen) <= Bounds(4, 64, 2).most_cells
    assert seen[:4] == asked[:4]
    assert seen[-64:] == asked[-64:]


def test_a_paraphrase_finds_nothing() -> None:
    """The search knows the words, not what they mean: a question in others gets no passage."""
    middle = list(range(1000, 2000))
    assert find_spans(middle, [5, 6, 7], 4) == []
    (start,) = find_spans(middle, [1500], 4)[:1]
    assert start <= 500 < start + SPAN_TOKENS


def test_what_is_rare_counts_for_more_than_what_is_frequent() -> None:
    middle = [1] * 640
    middle[320] = 2
    starts = find_spans(middle, [1, 2], 1)
    assert all(start <= 320 < start + SPAN_TOKENS for start in starts)


def test_common_beginnings() -> None:
    assert common([], [1]) == 0
    assert common([1, 2, 3], [1, 2]) == 2
    assert common([1, 2, 3], [1, 5, 3]) == 1


def test_a_name_says_where_and_of_which_model() -> None:
    assert read_name(str(NAME)) == NAME
    assert model_of(NAME, ["other", "toy"]) == "toy"
    with pytest.raises(SessionGone):
        model_of(NAME, ["other"])
    for text in ("", "sess-1", str(NAME).upper(), str(NAME) + "0", "../" + str(NAME)):
        with pytest.raises(NotASession):
            read_name(text)


def test_the_path_of_a_request_that_names_a_session() -> None:
    own = f"/v1/sessions/{NAME}/append"
    assert (in_path(own), in_path("/v1/sessions"), in_path("/v1/chat/completions")) == (str(NAME), None, None)
    assert path_of(NAME, own, None, "toy") == own
    assert path_of(NAME, "/v1/chat/completions", "toy", "toy") == f"/v1/sessions/{NAME}/chat/completions"
    with pytest.raises(BadRequest, match="is of model"):
        path_of(NAME, "/v1/chat/completions", "other", "toy")
    with pytest.raises(BadRequest, match="goes with a chat"):
        path_of(NAME, "/v1/embeddings", "toy", "toy")
