"""Who gives way when a blob needs room."""

from __future__ import annotations

from transport.blob_message import BlobDigest
from transport.blob_room import Droppable, choose_dropped

OLD_COPY = Droppable(BlobDigest(b"old copy"), 100, False, 1.0)
NEW_COPY = Droppable(BlobDigest(b"new copy"), 100, False, 2.0)
BEGUN = Droppable(BlobDigest(b"begun"), 50, True, 3.0)
ALL = (NEW_COPY, OLD_COPY, BEGUN)


def test_what_was_begun_goes_before_copies_and_older_copies_before_newer() -> None:
    assert choose_dropped(ALL, 1) == (b"begun",)
    assert choose_dropped(ALL, 51) == (b"begun", b"old copy")
    assert choose_dropped(ALL, 250) == (b"begun", b"old copy", b"new copy")


def test_nothing_goes_where_nothing_is_missing_or_all_would_not_do() -> None:
    assert choose_dropped(ALL, 0) == ()
    assert choose_dropped(ALL, 251) is None
    assert choose_dropped((), 1) is None
