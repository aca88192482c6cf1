from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from pathlib import Path

import numpy
import psutil
import pytest

from bench.recall import LENGTHS, remembered
from llm.errors import BadRequest
from llm.sessions.batch import Row
from llm.sessions.context import Context, ContextFailed, ContextSettings
from llm.sessions.drafter import NGRAM, Drafter, Recalling
from llm.sessions.names import SessionGone
from llm.sessions.session import Session, Wish
from llm.sessions.sessions import Sessions
from llm.sessions.tiers import Limits, SessionBusy, TooManyActive, TooManySessions
from llm.sessions.window import Bounds
from tests.llm.architectures import MAMBA, write_architecture
from tests.llm.sessions.conftest import Heard, Make
from tests.llm.sessions.recall_model import END, FIRST_WORD

KEYS, VALUES, FILLERS = range(100), range(100, 300), range(300, 768)


def story(dice: random.Random, length: int, *pairs: tuple[int, int]) -> list[int]:
    """Filler words with each key and its value at a place of its own, as tokens."""
    words = [dice.choice(FILLERS) for _ in range(length)]
    for place, (key, value) in zip(dice.sample(range(2, length // 2), len(pairs)), pairs, strict=True):
        words[2 * place : 2 * place + 2] = [key, value]
    return [FIRST_WORD + word for word in words]


def pairs(dice: random.Random, count: int) -> list[tuple[int, int]]:
    return list(zip(dice.sample(KEYS, count), dice.sample(VALUES, count), strict=True))


def told_each(sessions: Sessions, dice: random.Random, count: int) -> list[tuple[Session, tuple[int, int]]]:
    """New sessions, and what each is going to be told."""
    return [(sessions.create("me", None), pair) for _ in range(count) for pair in pairs(dice, 1)]


def answer(sessions: Sessions, session: Session, wish: Wish, drafter: Drafter = NGRAM) -> list[int]:
    """Its tokens, once everything that was begun has ended."""
    before = len(session.tokens)
    sessions.begin(session, wish, Heard(), drafter)
    finish(sessions)
    return session.tokens[before:]


def finish(sessions: Sessions) -> None:
    steps = 0
    while sessions.has_work:
        sessions.step()
        steps += 1
        assert steps < 20_000


def ask(sessions: Sessions, session: Session, key: int) -> int:
    """The word that the session says follows `key`."""
    sessions.append(session, [FIRST_WORD + key])
    return answer(sessions, session, Wish(most_tokens=1))[0] - FIRST_WORD


def test_each_session_recalls_its_own(make: Make) -> None:
    sessions, dice = make(), random.Random(1)
    told = told_each(sessions, dice, 6)
    for session, pair in told:
        sessions.append(session, story(dice, 150, pair))
    heard = []
    for session, (key, _) in told:
        sessions.append(session, [FIRST_WORD + key])
        heard.append(Heard())
        sessions.begin(session, Wish(most_tokens=4), heard[-1])
    finish(sessions)
    assert [session.tokens[-4] - FIRST_WORD for session, _ in told] == [value for _, (_, value) in told]
    assert all(one.finish == "length" and one.text.startswith(" w") for one in heard)


def test_many_more_sessions_than_sequences_and_cells(make: Make) -> None:
    sessions, dice = make(cells=1024, sequences=4), random.Random(2)
    told = told_each(sessions, dice, 24)
    for session, pair in told:
        sessions.append(session, story(dice, 200, pair))
    for session, (key, _) in told:
        sessions.append(session, [FIRST_WORD + key])
        sessions.begin(session, Wish(most_tokens=1), Heard())
    finish(sessions)
    assert [session.tokens[-1] - FIRST_WORD for session, _ in told] == [value for _, (_, value) in told]
    totals = sessions.totals()
    assert totals["resident"] <= 4
    assert totals["used_cells"] <= 1024
    assert totals["parkings"] >= 20
    # The second question finds the parked state: nothing is read but the question itself.
    session, (key, value) = told[0]
    assert sessions.describe(session)["tier"] == "parked"
    sessions.append(session, [FIRST_WORD + key])
    turn = sessions.begin(session, Wish(most_tokens=1), Heard())
    finish(sessions)
    assert session.tokens[-1] - FIRST_WORD == value
    assert (turn.reused, turn.read) == (201, 2)
    assert sessions.totals()["resumptions"] == 1


def test_answers_are_what_they_were_alone_however_they_interleave(make: Make) -> None:
    alone = []
    for seed in range(5):
        dice = random.Random(seed)
        sessions = make(f"alone{seed}", cells=2048)
        session = sessions.create("me", None)
        sessions.append(session, story(dice, 120, *pairs(dice, 3)))
        alone.append(answer(sessions, session, Wish(most_tokens=40)))
    # Five of 161 tokens do not fit: some are put out half-way and go on later.
    sessions = make("together", cells=512, sequences=4)
    together = []
    for seed in range(5):
        dice = random.Random(seed)
        session = sessions.create("me", None)
        sessions.append(session, story(dice, 120, *pairs(dice, 3)))
        sessions.begin(session, Wish(most_tokens=40), Heard())
        together.append(session)
    finish(sessions)
    assert sessions.totals()["parkings"] > 0
    assert [session.tokens[120:] for session in together] == alone


def test_more_at_a_time_than_one_call_has_say_what_each_says_alone(make: Make) -> None:
    sessions = make(cells=80 * 64, sequences=80)
    sessions.context.most_mixed_rows = 63  # on a GPU, too
    # No word has two that follow it: see the sixty prompts.
    cycles = [[FIRST_WORD + word for word in random.Random(seed).sample(FILLERS, 19)] for seed in range(80)]
    prompts = [(cycle * 20)[: 300 if place == 0 else 40] for place, cycle in enumerate(cycles)]

    def begun(prompt: list[int]) -> Session:
        session = sessions.create("me", None)
        sessions.append(session, prompt)
        sessions.begin(session, Wish(most_tokens=12), Heard())
        return session

    alone = []
    for prompt in prompts:
        session = begun(prompt)
        finish(sessions)
        alone.append(session.tokens)
        sessions.delete(session)
    together = [begun(prompt) for prompt in prompts]
    finish(sessions)
    assert [session.tokens for session in together] == alone


def test_a_parked_session_goes_on_in_another_process_and_a_larger_context(make: Make) -> None:
    dice = random.Random(3)
    (key, value), *_ = told = pairs(dice, 3)
    first = make()
    session = first.create("me", None)
    first.append(session, story(dice, 300, *told))
    answer(first, session, Wish(most_tokens=5))
    state = first.context.save(session.sequence or 0)
    first.park_all()
    second = make(cells=4096)
    again = second.find(session.id, "me")
    assert again.tokens == session.tokens
    assert ask(second, again, key) == value
    assert second.totals()["resumptions"] == 1
    assert again.sequence is not None
    second.context.cut(again.sequence, 304)
    assert second.context.save(again.sequence) == state


@pytest.mark.parametrize("other", [{"kv_type": "q8_0"}, {"flash_attention": False}])
def test_a_state_of_another_kind_is_refused_and_the_session_read_again(make: Make, other: dict[str, object]) -> None:
    dice = random.Random(4)
    ((key, value),) = told = pairs(dice, 1)
    first = make()
    session = first.create("me", None)
    first.append(session, story(dice, 100, *told))
    answer(first, session, Wish(most_tokens=1))
    first.park_all()
    second = make(**other)
    again = second.find(session.id, "me")
    assert second.describe(again)["parked_bytes"] == 0
    assert ask(second, again, key) == value


def test_a_damaged_state_is_noticed(make: Make, tmp_path: Path) -> None:
    dice = random.Random(5)
    ((key, value),) = told = pairs(dice, 1)
    sessions = make()
    session = sessions.create("me", None)
    sessions.append(session, story(dice, 100, *told))
    answer(sessions, session, Wish(most_tokens=1))
    sessions.park_all()
    (file,) = (tmp_path / "shelf").glob("*.state")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert ask(sessions, session, key) == value
    assert (sessions.totals()["resumptions"], sessions.totals()["rereads"]) == (0, 1)


def test_parked_states_have_a_quota_and_lose_no_session(make: Make) -> None:
    sessions, dice = make(cells=512, sequences=2, limits=Limits(parked_bytes=600_000)), random.Random(6)
    told = told_each(sessions, dice, 8)
    for session, pair in told:
        sessions.append(session, story(dice, 200, pair))
        answer(sessions, session, Wish(most_tokens=1))
    assert 0 < sessions.totals()["parked_bytes"] <= 600_000
    assert [ask(sessions, session, key) for session, (key, _) in told] == [value for _, (_, value) in told]
    assert sessions.totals()["rereads"] > 0


def test_a_session_is_its_owners_alone(make: Make) -> None:
    sessions = make()
    session = sessions.create("me", None)
    with pytest.raises(SessionGone):
        sessions.find(session.id, "you")
    assert sessions.owned_by("you") == []
    sessions.delete(session)
    with pytest.raises(SessionGone):
        sessions.find(session.id, "me")


def test_limits_refuse_in_words_that_say_when_to_come_back(make: Make) -> None:
    sessions = make(limits=Limits(sessions=3, of_owner=2, active=1, tokens=50))
    mine = [sessions.create("me", None) for _ in range(2)]
    with pytest.raises(TooManySessions) as of_owner:
        sessions.create("me", None)
    assert of_owner.value.status == 429
    assert of_owner.value.retry_after_s
    sessions.create("you", None)
    with pytest.raises(TooManySessions):
        sessions.create("they", None)
    with pytest.raises(BadRequest):
        sessions.append(mine[0], [FIRST_WORD] * 51)
    for session in mine:
        sessions.append(session, [FIRST_WORD] * 5)
    sessions.begin(mine[0], Wish(most_tokens=3), Heard())
    with pytest.raises(SessionBusy):
        sessions.append(mine[0], [FIRST_WORD])
    with pytest.raises(TooManyActive) as active:
        sessions.begin(mine[1], Wish(), Heard())
    assert (active.value.status, active.value.retry_after_s) == (429, 2)


def test_a_slow_reader_makes_its_own_answer_wait_and_no_other(make: Make) -> None:
    sessions = make()
    slow, quick = Heard(has_room=False), Heard()
    for heard in (slow, quick):
        session = sessions.create("me", None)
        sessions.append(session, [FIRST_WORD + 1, FIRST_WORD + 2])
        sessions.begin(session, Wish(most_tokens=5), heard)
    for _ in range(8):
        sessions.step()
    assert (len(slow.said), quick.finish) == (0, "length")
    slow.has_room = True
    finish(sessions)
    assert slow.finish == "length"


def test_cancelling_half_way_leaves_the_conversation_usable(make: Make) -> None:
    sessions, dice = make(), random.Random(7)
    ((key, value),) = told = pairs(dice, 1)
    session = sessions.create("me", None)
    sessions.append(session, story(dice, 100, *told))
    turn = sessions.begin(session, Wish(most_tokens=100), Heard())
    for _ in range(5):
        sessions.step()
    sessions.cancel(turn)
    assert not sessions.has_work
    assert ask(sessions, session, key) == value


def perfect(plain: list[int]) -> Drafter:
    """Knows what is going to be said."""
    return Recalling(lambda tokens, count: plain[len(tokens) - 60 :][:count], "perfect")


def adversary(plain: list[int]) -> Drafter:
    """Right enough to be drafted again, and wrong at every third token."""

    def draft(tokens: Sequence[int], count: int) -> list[int]:
        known = plain[len(tokens) - 60 :][:count]
        return [token - (len(tokens) + place) % 3 // 2 for place, token in enumerate(known)]

    return Recalling(draft, "adversary")


def by_chance(seed: int) -> Drafter:
    dice = random.Random(seed)
    return Recalling(lambda tokens, count: [dice.randrange(1000) for _ in range(count)], "chance")


def test_sixty_prompts_say_the_same_with_any_draft(make: Make) -> None:
    sessions = make(cells=1024, sequences=8)
    prompts = []
    for seed in range(60):
        dice = random.Random(seed)
        # A cycle, so that n-grams come again. No word has two that follow it: this model would weigh them alike, and
        # the last bit, which depends on where in the cache they lie, would decide.
        prompts.append(([FIRST_WORD + word for word in dice.sample(FILLERS, 29)] * 3)[:60])

    def run(drafts: list[Drafter] | None) -> tuple[list[list[int]], int, int]:
        # Whatever the drafts before were worth.
        sessions.proposals.chances |= dict.fromkeys(("perfect", "adversary", "chance", "ngram"), 0.9)
        turns = []
        for index, prompt in enumerate(prompts):
            session = sessions.create("me", None)
            sessions.append(session, prompt)
            drafter = drafts[index] if drafts else NGRAM
            turns.append(sessions.begin(session, Wish(most_tokens=64, drafts=drafts is not None), Heard(), drafter))
        finish(sessions)
        said = [turn.session.tokens[60:] for turn in turns]
        assert all(turn.accepted <= turn.drafted for turn in turns)
        for turn in turns:
            sessions.delete(turn.session)
        return said, sum(turn.drafted for turn in turns), sum(turn.accepted for turn in turns)

    plain, drafted, _ = run(None)
    assert drafted == 0
    assert len({tuple(said) for said in plain}) > 50
    kinds: dict[str, list[Drafter]] = {
        "perfect": [perfect(said) for said in plain],
        "ngram": [NGRAM] * 60,
        "random": [by_chance(seed) for seed in range(60)],
        "adversarial": [adversary(said) for said in plain],
    }
    shares = {}
    for kind, drafts in kinds.items():
        said, drafted, accepted = run(drafts)
        assert said == plain, kind
        assert drafted
        shares[kind] = accepted / drafted
    assert shares["perfect"] == 1.0
    assert shares["random"] < 0.05
    assert shares["random"] < shares["adversarial"] < 1.0
    assert shares["ngram"] > 0.5


def test_an_answer_ends_where_the_model_says_so(make: Make) -> None:
    sessions = make()
    session = sessions.create("me", None)
    first, second = FIRST_WORD + 5, FIRST_WORD + 6
    sessions.append(session, [first, second, END, FIRST_WORD + 400, first])
    heard = Heard()
    draft = [END, FIRST_WORD + 400, first]
    drafter = Recalling(lambda tokens, count: draft[:count])
    turn = sessions.begin(session, Wish(most_tokens=20, drafts=True), heard, drafter)
    finish(sessions)
    assert session.tokens[5:] == [second, END]
    assert (heard.finish, heard.text, turn.said) == ("stop", " w6", 2)
    # What was drafted behind the end is not part of the conversation.
    sessions.append(session, [FIRST_WORD + 400])
    assert answer(sessions, session, Wish(most_tokens=1)) == [first]


@pytest.mark.parametrize("words", LENGTHS)
def test_each_tier_remembers_what_it_says_it_does(make: Make, words: int) -> None:
    sessions = make(cells=4352, sequences=1)
    full, resumed, window, found = [
        remembered(sessions, tier, words) for tier in ("full", "resumed", "window", "retrieved")
    ]
    assert min(full.right, resumed.right) >= 0.97
    assert sessions.totals()["resumptions"] >= 40
    assert window.right == pytest.approx(window.expected, abs=0.02)
    assert found.right >= 0.95
    assert window.live_bytes < found.live_bytes < 110_000
    # In other words, which the model takes for the same: a search that knows the words alone finds nothing.
    full, found = [remembered(sessions, tier, words, is_paraphrased=True) for tier in ("full", "retrieved")]
    assert full.right >= 0.97
    assert found.right == pytest.approx(found.expected, abs=0.03)


def test_a_bounded_session_says_that_it_is_one(make: Make) -> None:
    sessions = make()
    session = sessions.create("me", Bounds(4, 64, 4))
    sessions.append(session, story(random.Random(8), 300))
    answer(sessions, session, Wish(most_tokens=1))
    about = sessions.describe(session)
    assert about["tier"] == "bounded"
    assert about["cells"] <= Bounds(4, 64, 4).most_cells
    assert "not full attention" in about["note"]


def test_a_full_window_slides_and_stays_as_large(make: Make) -> None:
    sessions = make()
    session = sessions.create("me", Bounds(4, 64, 0))
    sessions.append(session, story(random.Random(10), 100))
    sizes = []
    for _ in range(4):
        answer(sessions, session, Wish(most_tokens=50))
        sizes.append(sessions.describe(session)["live_bytes"])
    assert max(sizes) - min(sizes) <= 0.02 * max(sizes)
    assert len(session.tokens) == 300


def test_ten_thousand_tokens_from_a_bounded_session_take_no_more_memory(make: Make) -> None:
    # A wide window slides by several tokens at a time: a quick way to stream many.
    sessions = make(cells=1024, sequences=2)
    session, whole = sessions.create("me", Bounds(4, 512, 0)), sessions.create("me", None)
    sessions.append(whole, story(random.Random(12), 200))
    sessions.append(session, story(random.Random(12), 600))
    answer(sessions, whole, Wish(most_tokens=1))
    bytes_per_token = sessions.describe(whole)["live_bytes"] / len(whole.tokens)
    answer(sessions, session, Wish(most_tokens=1000))
    sizes, resident = [sessions.describe(session)["live_bytes"]], process_bytes()
    for _ in range(5):
        answer(sessions, session, Wish(most_tokens=2000))
        sizes.append(sessions.describe(session)["live_bytes"])
    # It slides by so many at a time.
    assert max(sizes) - min(sizes) <= Bounds(4, 512, 0).slide_tokens * bytes_per_token
    # What is left is the tokens' ids, and noise.
    assert (process_bytes() - resident) / 10_000 < bytes_per_token / 4


def test_a_window_that_cannot_slide_is_read_anew(make: Make) -> None:
    sessions, dice = make(), random.Random(13)
    sessions.context.can_shift = False  # as with rotary embeddings of several dimensions: llama.cpp would abort
    session = sessions.create("me", Bounds(4, 64, 0))
    sessions.append(session, story(dice, 200))
    assert len(answer(sessions, session, Wish(most_tokens=150))) == 150
    assert sessions.describe(session)["cells"] <= Bounds(4, 64, 0).most_cells
    key, value = FIRST_WORD + 7, FIRST_WORD + 107
    sessions.append(session, [key, value, *story(dice, 20)])
    assert ask(sessions, session, 7) == 107
    with pytest.raises(ContextFailed, match="cannot be shifted"):
        sessions.context.slide(0, 4, 1)


def test_each_tier_tells_its_bytes(make: Make, tmp_path: Path) -> None:
    sessions = make()
    session = sessions.create("me", None)
    sessions.append(session, story(random.Random(14), 300))
    answer(sessions, session, Wish(most_tokens=1))
    about, sequence = sessions.describe(session), session.sequence
    assert sequence is not None
    assert (about["tier"], about["tokens"], about["cells"], about["parked_bytes"]) == ("resident", 301, 300, 0)
    assert about["live_bytes"] == len(sessions.context.save(sequence))
    # Cells are shared: nobody has any in reserve, and all together never take more than there are.
    assert about["resident_bytes"] == about["live_bytes"]
    totals = sessions.totals()
    assert totals["context_bytes"] == about["live_bytes"] * 2048 // 300
    assert totals["resident_bytes"] == about["live_bytes"]
    assert about["host_bytes"] == 4 * 301
    sessions.park_all()
    about = sessions.describe(session)
    (file,) = (tmp_path / "shelf").glob("*.state")
    assert (about["tier"], about["cells"], about["live_bytes"], about["resident_bytes"]) == ("parked", 0, 0, 0)
    assert about["parked_bytes"] == file.stat().st_size == sessions.totals()["parked_bytes"]


def test_what_is_live_never_is_more_than_the_context_has(make: Make) -> None:
    sessions = make(cells=512, sequences=4)
    long = sessions.create("me", None)
    sessions.append(long, story(random.Random(15), 400))
    answer(sessions, long, Wish(most_tokens=1))
    assert sessions.totals()["live_bytes"] == sessions.describe(long)["live_bytes"]
    reserved = sessions.totals()["context_bytes"]
    # It goes on with a quarter of its text, which frees cells for another, before its state is measured again.
    sessions.replace(long, [*long.tokens[:100], FIRST_WORD])
    sessions.begin(long, Wish(most_tokens=50), Heard())
    other = sessions.create("me", None)
    sessions.append(other, story(random.Random(16), 300))
    sessions.begin(other, Wish(most_tokens=50), Heard())
    while sessions.has_work:
        sessions.step()
        totals = sessions.totals()
        assert totals["used_cells"] <= totals["cells"]
        assert totals["context_bytes"] == pytest.approx(reserved, rel=0.02)
        assert totals["live_bytes"] <= 1.02 * reserved


def test_what_llama_cpp_would_die_of_is_refused(make: Make, recall_model: Path) -> None:
    context = make().context
    with pytest.raises(ContextFailed, match="expected 1 to 512 rows in a batch, got 513"):
        context.decode([Row(0, FIRST_WORD, place, False) for place in range(513)])
    with pytest.raises(ContextFailed, match="expected 1 to 256 sequences, got 257"):
        Context(ContextSettings(recall_model, sequences=257))


def test_a_piece_may_be_longer_than_expected(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make().context
    expected = context.piece(FIRST_WORD + 700)
    monkeypatch.setattr("llm.sessions.context.FIRST_PIECE_BYTES", 2)
    assert context.piece(FIRST_WORD + 700) == expected == b" w700"


def process_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def test_margins_send_close_calls_to_be_decoded_alone(make: Make) -> None:
    sessions, dice = make(), random.Random(11)
    prompt = story(dice, 60, *pairs(dice, 4))
    plain = sessions.create("me", None)
    sessions.append(plain, prompt)
    said = answer(sessions, plain, Wish(most_tokens=40))
    guarded = sessions.create("me", None)
    sessions.append(guarded, prompt)
    # No margin is that wide, so that every drafted row is decoded again.
    wish = Wish(most_tokens=40, drafts=True, least_margin=float(numpy.inf))
    assert answer(sessions, guarded, wish, perfect(said)) == said


def test_a_model_that_folds_its_tokens_into_one_state_has_whole_sessions(make: Make, tmp_path: Path) -> None:
    model = write_architecture(tmp_path / "mamba.gguf", MAMBA)
    sessions = make(model=model, cells=512, sequences=2)
    with pytest.raises(BadRequest, match="no window"):
        sessions.create("me", Bounds())
    three = [sessions.create("me", None) for _ in range(3)]
    for _ in range(2):
        for session in three:
            sessions.append(session, [300, 301, 302] * 5)
            assert len(answer(sessions, session, Wish(most_tokens=4, drafts=True))) == 4
    assert sessions.totals()["resumptions"] == 3
    # A conversation that became another one is read from its start.
    sessions.replace(three[0], [300, 305, 301])
    turn = sessions.begin(three[0], Wish(most_tokens=2), Heard())
    finish(sessions)
    assert (turn.reused, turn.read) == (0, 3)
