"""One end of a tunnel decides by being called: what is sent again after cuts, what is kept, when it gives up."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import ProtocolError
from transport.resumption import CHUNK_BYTES, Patience, Resumption, Verdict
from transport.tunnel_message import Ended, Frame, Position, Taken

WINDOW = 1000
PATIENCE = Patience()
GIVE_UP_S = PATIENCE.cut_s + PATIENCE.mend_s


@dataclass
class Side:
    """One end with everything around it: what its pipe will give, what its pipe got, what is on its way to it."""

    source: bytes
    window: int = WINDOW
    given: int = 0
    has_given_end: bool = False
    got: bytearray = field(default_factory=bytearray)
    has_got_end: bool = False
    on_the_way: deque[bytes | Frame] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.machine = Resumption(0.0, self.window)

    def give(self, count: int, now: float) -> None:
        replay = self.machine.replay
        piece = self.source[self.given : self.given + min(count, replay.room_bytes)]
        if piece:
            self.given += len(piece)
            self.machine.read(piece, now)
        elif self.given == len(self.source) and not self.has_given_end:
            self.has_given_end = True
            self.machine.read_end(now)

    def write(self, count: int, now: float) -> None:
        match self.machine.arrivals.next():
            case Ended():
                self.has_got_end = True
                self.machine.took_end(now)
            case bytes() as data:
                self.got += data[:count]
                self.machine.took(len(data[:count]), now)
            case None:
                pass


class Both:
    """Two ends and the stream between them."""

    def __init__(self, one: Side, other: Side) -> None:
        self.one, self.other = one, other
        self.now = 0.0
        self.reconnect()

    def send(self, side: Side) -> None:
        frame = side.machine.next_frame(self.now)
        if frame is not None:
            self.far(side).on_the_way.append(frame)

    def deliver(self, side: Side) -> None:
        if side.on_the_way:
            side.machine.received(side.on_the_way.popleft(), self.now)

    def cut(self) -> None:
        for side in (self.one, self.other):
            side.on_the_way.clear()
            side.machine.detach(self.now)

    def reconnect(self) -> None:
        for side in (self.one, self.other):
            far = self.far(side).machine
            side.machine.attach(far.position(), far.arrivals.window_bytes, self.now)

    def far(self, side: Side) -> Side:
        return self.other if side is self.one else self.one

    def settle(self) -> None:
        """Let everything happen that still can."""
        for _ in range(20_000):
            if self.one.machine.is_done and self.other.machine.is_done:
                return
            self.now += 0.01
            for side in (self.one, self.other):
                side.give(CHUNK_BYTES, self.now)
                self.send(side)
                self.deliver(side)
                side.write(CHUNK_BYTES, self.now)
        raise AssertionError("the tunnel does not come to its end")


def connected(one: bytes = b"", other: bytes = b"", window: int = WINDOW) -> Both:
    return Both(Side(one, window), Side(other, window))


ACTIONS = st.tuples(st.sampled_from(["give", "send", "deliver", "write", "cut"]), st.booleans(), st.integers(1, 700))


@given(
    st.lists(ACTIONS, max_size=300),
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.integers(64, 3000),
    st.integers(64, 3000),
)
def test_any_cuts_and_any_chunks_lose_and_double_nothing(
    actions: list[tuple[str, bool, int]], here: int, there: int, window_here: int, window_there: int
) -> None:
    dice = random.Random(here * 7919 + there)
    both = Both(Side(dice.randbytes(here), window_here), Side(dice.randbytes(there), window_there))
    for action, is_here, count in actions:
        side = both.one if is_here else both.other
        both.now += 0.01
        match action:
            case "give":
                side.give(count, both.now)
            case "send":
                both.send(side)
            case "deliver":
                both.deliver(side)
            case "write":
                side.write(count, both.now)
            case _:
                both.cut()
                both.reconnect()
        for end in (both.one, both.other):
            assert end.machine.replay.kept_bytes <= end.window
            assert end.machine.arrivals.kept_bytes <= min(end.window, both.far(end).window)
            assert both.far(end).source.startswith(end.got)
    both.settle()
    for end in (both.one, both.other):
        assert end.got == both.far(end).source and end.has_got_end
        assert end.machine.replay.kept_bytes == end.machine.arrivals.kept_bytes == 0


# Resending


def test_resumes_where_the_far_end_stopped_hearing() -> None:
    both = connected(b"abcdef")
    both.one.give(3, 0.0)
    both.send(both.one)
    both.deliver(both.other)
    both.one.give(3, 0.0)
    both.send(both.one)
    both.cut()
    assert both.one.machine.next_frame(0.0) is None
    both.reconnect()
    assert both.one.machine.next_frame(0.0) == b"def"


def test_lost_end_is_sent_again_and_an_arrived_one_is_not() -> None:
    both = connected(b"")
    both.one.give(1, 0.0)
    both.send(both.one)
    both.cut()
    both.reconnect()
    assert both.one.machine.next_frame(0.0) == Ended()
    both.other.machine.received(Ended(), 0.0)
    both.cut()
    both.reconnect()
    assert both.one.machine.next_frame(0.0) is None


def test_lost_acknowledgement_is_made_good_by_the_next_stream() -> None:
    both = connected(b"x" * 500)
    both.one.give(500, 0.0)
    both.send(both.one)
    both.deliver(both.other)
    both.other.write(500, 0.0)
    assert both.other.machine.next_frame(0.0) == Taken(500)
    both.cut()
    assert both.one.machine.replay.kept_bytes == 500
    both.reconnect()
    assert both.one.machine.replay.kept_bytes == 0


# Back-pressure


def test_pipe_is_not_read_past_the_window_while_the_far_pipe_takes_nothing() -> None:
    both = connected(b"x" * 5000)
    for _ in range(20):
        both.one.give(700, 0.0)
        both.send(both.one)
        both.deliver(both.other)
    assert both.one.given == WINDOW and both.one.machine.replay.room_bytes == 0
    both.other.write(400, 0.0)
    both.send(both.other)
    both.deliver(both.one)
    assert both.one.machine.replay.room_bytes == 400


def test_smaller_window_of_the_far_end_holds_the_sender() -> None:
    both = Both(Side(b"x" * 900, 1000), Side(b"", 300))
    both.one.give(900, 0.0)
    assert both.one.machine.next_frame(0.0) == b"x" * 300
    assert both.one.machine.next_frame(0.0) is None


def test_small_exchanges_are_acknowledged_once_a_second_at_most() -> None:
    both = connected(b"x" * 20)
    said = []
    for step in range(20):
        now = both.now = step * 0.1
        both.one.give(1, now)
        both.send(both.one)
        both.deliver(both.other)
        both.other.write(1, now)
        frame = both.other.machine.next_frame(now)
        if frame is not None:
            said.append((now, frame))
    assert said == [(1.0, Taken(11))]


def test_acknowledgement_after_a_long_rest_is_not_hurried() -> None:
    both = connected(b"x")
    both.now = 100.0
    both.one.give(1, 100.0)
    both.send(both.one)
    both.deliver(both.other)
    both.other.write(1, 100.0)
    assert both.other.machine.next_frame(100.5) is None
    assert both.other.machine.next_frame(101.0) == Taken(1)


# Giving up


def test_silence_ends_the_tunnel_though_no_link_was_reported_lost() -> None:
    both = connected(b"x")
    both.one.give(1, 5.0)
    both.one.machine.next_frame(5.0)
    assert both.one.machine.check(5.0 + PATIENCE.cut_s) is Verdict.FINE
    assert both.one.machine.check(5.1 + GIVE_UP_S) is Verdict.CUT


def test_silence_counts_from_the_last_word_when_the_window_was_full() -> None:
    both = connected(b"x" * 5000)
    both.one.give(1000, 0.0)
    both.one.machine.next_frame(0.0)
    both.one.machine.received(Taken(250), 3.0)
    assert both.one.machine.check(3.0 + PATIENCE.cut_s) is Verdict.FINE
    assert both.one.machine.check(3.1 + GIVE_UP_S) is Verdict.CUT


def test_word_that_comes_too_late_does_not_save_the_tunnel() -> None:
    both = connected(b"x")
    both.one.give(1, 0.0)
    both.one.machine.next_frame(0.0)
    both.one.machine.received(Taken(1), 11.0)
    assert both.one.machine.check(11.0) is Verdict.CUT


def test_return_within_ten_seconds_saves_it_and_after_eleven_does_not() -> None:
    for cut_s, verdict in ((10.0, Verdict.FINE), (11.0, Verdict.CUT)):
        both = connected(b"xy")
        both.one.give(1, 0.0)
        both.send(both.one)
        both.now = 4.0
        both.cut()
        both.now = cut_s
        both.reconnect()
        assert both.one.machine.check(cut_s) is verdict


def test_idle_tunnel_lives_for_ever_while_attached_and_not_while_detached() -> None:
    both = connected()
    assert both.one.machine.check(1e6) is Verdict.FINE
    both.now = 1e6
    both.cut()
    assert both.one.machine.check(1e6 + PATIENCE.cut_s) is Verdict.FINE
    assert both.one.machine.check(1e6 + GIVE_UP_S + 0.1) is Verdict.CUT


def test_reader_that_takes_nothing_for_a_minute_stalls_both_ends() -> None:
    both = connected(b"x" * 5000)
    stalled: dict[str, float] = {}
    for step in range(140):
        both.now = step * 0.5
        for name, side in (("one", both.one), ("other", both.other)):
            if side.machine.check(both.now) is Verdict.STALLED:
                stalled.setdefault(name, both.now)
            both.one.give(700, both.now)
            both.send(side)
            both.deliver(side)
    assert set(stalled) == {"one", "other"}
    assert all(60.0 <= when <= 62.0 for when in stalled.values())


def test_slow_reader_is_neither_cut_nor_stalled() -> None:
    both = connected(b"x" * 5000)
    for step in range(600):
        both.now = step * 0.5
        for side in (both.one, both.other):
            assert side.machine.check(both.now) is Verdict.FINE
            both.one.give(700, both.now)
            both.send(side)
            both.deliver(side)
        if step % 100 == 0:
            both.other.write(1, both.now)


def test_pipe_here_that_takes_a_little_now_and_then_is_not_a_stall() -> None:
    both = connected(b"x" * 100)
    both.one.give(100, 0.0)
    both.send(both.one)
    both.deliver(both.other)
    for now in (50.0, 100.0, 150.0):
        assert both.other.machine.check(now) is Verdict.FINE
        both.other.write(1, now)
    assert both.other.machine.check(211.0) is Verdict.STALLED


def test_stall_is_counted_from_the_first_byte_that_waits() -> None:
    both = connected(b"x")
    both.one.give(1, 500.0)
    assert both.one.machine.check(500.0) is Verdict.FINE


def test_done_end_does_not_wait_for_ever_for_the_last_word() -> None:
    both = connected(b"x", b"y")
    both.settle()
    machine = both.one.machine
    assert machine.check(both.now) is Verdict.FINE
    machine.received(Taken(2), both.now + 9.0)
    assert machine.check(both.now + GIVE_UP_S + 0.1) is Verdict.CUT and machine.is_done


def test_end_that_its_own_pipe_made_done_waits_no_longer_either() -> None:
    machine = connected().one.machine
    machine.read_end(0.0)
    assert machine.next_frame(0.0) == Ended()
    machine.received(Taken(1), 1.0)
    machine.received(Ended(), 2.0)
    machine.took_end(3.0)
    assert machine.is_done and machine.check(50.0) is Verdict.FINE
    assert machine.check(50.1 + GIVE_UP_S) is Verdict.CUT


# Peers that do not keep to it


def test_bytes_past_the_window_or_after_the_end_or_none_are_refused() -> None:
    cases: list[list[bytes | Frame]] = [
        [b"x" * WINDOW, b"x"],
        [b"x" * (WINDOW + 1)],
        [Ended(), b"x"],
        [b""],
        [Ended(), Ended()],
    ]
    for frames in cases:
        machine = connected().one.machine
        with pytest.raises(ProtocolError):
            for frame in frames:
                machine.received(frame, 0.0)
        assert machine.arrivals.kept_bytes <= WINDOW


@pytest.mark.parametrize("offset", [4, 1 << 52])
def test_acknowledging_what_was_never_sent_is_refused(offset: int) -> None:
    both = connected(b"abc")
    both.one.give(3, 0.0)
    both.send(both.one)
    with pytest.raises(ProtocolError, match=r"0 to 3 bytes taken"):
        both.one.machine.received(Taken(offset), 0.0)


def test_acknowledgement_that_goes_back_is_refused() -> None:
    both = connected(b"abc")
    both.one.give(3, 0.0)
    both.send(both.one)
    both.one.machine.received(Taken(2), 0.0)
    with pytest.raises(ProtocolError):
        both.one.machine.received(Taken(1), 0.0)


@pytest.mark.parametrize("position", [Position(4, 0), Position(1, 2), Position(1, 1)])
def test_resuming_from_where_one_cannot_be_is_refused(position: Position) -> None:
    both = connected(b"abc")
    both.one.give(3, 0.0)
    both.send(both.one)
    both.one.machine.received(Taken(2), 0.0)
    both.cut()
    with pytest.raises(ProtocolError):
        both.one.machine.attach(position, WINDOW, 0.0)
