"""What a person gave a node while it ran is on disk, by name and by wish."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm.models.shelf import Shelf, ShelfDamaged, Shelved, read_shelf, write_shelf

WISH = Shelved("", (), "hf:o/r:Q4_0", "pinned")
HERE = Shelved("m-Q4_0", ("/models/m-Q4_0.gguf",), "hf:o/r:Q4_0", "pinned", is_ours=True)
FILE = Shelved("other", ("/home/x/other.gguf",))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    assert read_shelf(path) == Shelf()
    write_shelf(path, Shelf((HERE, FILE)))
    assert read_shelf(path) == Shelf((HERE, FILE))


def test_a_wish_that_came_true_takes_the_wish_s_place() -> None:
    shelf = Shelf().put(WISH).put(FILE).put(HERE)
    assert shelf.models == (FILE, HERE)
    assert shelf.find("m-Q4_0") is shelf.find("hf:o/r:Q4_0") is HERE


def test_nothing_is_found_by_no_name() -> None:
    assert Shelf((WISH, FILE)).find("") is None


def test_what_is_taken_is_gone_and_nothing_else() -> None:
    assert Shelf((HERE, FILE)).without(HERE).models == (FILE,)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"models": [{"name": 1}]}', b'{"version": 2}'])
def test_a_damaged_shelf_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "models.json"
    path.write_bytes(content)
    with pytest.raises(ShelfDamaged, match=r"models\.json .*delete it"):
        read_shelf(path)
