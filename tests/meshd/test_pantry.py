"""Models given to a node while it runs are served, remembered and removed; no engine is started here."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from llm.gguf import BadModelFile
from llm.models.shelf import ShelfDamaged
from llm.residency import Policy
from meshd.model_specs import parse_specs
from meshd.pantry import Refused
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.meshd.pantries import names, pantry


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "m.gguf")


async def test_a_file_is_offered_now_and_after_a_restart_with_its_policy(tmp_path: Path, file: Path) -> None:
    here = pantry(tmp_path)
    assert await here.add_file(file, None, loads=False) == "m"
    assert (names(here), here.host.offers()[0].file_bytes) == (["m"], file.stat().st_size)  # noqa: ASYNC240
    await here.load("m", Policy.PINNED, now=False)
    again = pantry(tmp_path)
    assert names(again) == ["m"]
    engine = again.resident("m")
    assert engine is not None and engine.policy is Policy.PINNED


async def test_a_file_that_was_pinned_at_the_start_stays_so_when_it_is_loaded_by_its_path(
    tmp_path: Path, file: Path
) -> None:
    here = pantry(tmp_path, *parse_specs((str(file),)))
    await here.add_file(file, None, loads=True)
    engine = here.resident("m")
    assert engine is not None and engine.policy is Policy.PINNED
    with pytest.raises(Refused, match="named when meshd started"):
        await here.remove("m")


async def test_of_two_at_once_one_is_taken(tmp_path: Path, file: Path) -> None:
    here = pantry(tmp_path)
    results = await asyncio.gather(*(here.add_file(file, None, loads=False) for _ in range(2)), return_exceptions=True)
    assert sorted(map(str, results)) == [
        "m",
        "this node has another model called 'm'; rename the file, or remove that one",
    ]
    assert names(here) == ["m"]


async def test_another_file_of_a_taken_name_is_refused(tmp_path: Path, file: Path) -> None:
    (tmp_path / "other").mkdir()
    here = pantry(tmp_path, *parse_specs(("echo:m",)))
    with pytest.raises(Refused, match="another model called 'm'"):
        await here.add_file(file, None, loads=False)
    assert names(pantry(tmp_path)) == []


async def test_the_command_line_goes_before_the_shelf(tmp_path: Path, file: Path) -> None:
    await pantry(tmp_path).add_file(file, None, loads=False)
    here = pantry(tmp_path, *parse_specs(("echo:m",)))
    assert [(offer.name, offer.kind) for offer in here.host.offers()] == [("m", "echo")]
    assert names(pantry(tmp_path)) == ["m"]


async def test_a_part_that_is_missing_is_named_and_nothing_is_kept(tmp_path: Path, file: Path) -> None:
    first = tmp_path / "big-00001-of-00002.gguf"
    file.rename(first)  # noqa: ASYNC240
    here = pantry(tmp_path)
    with pytest.raises(BadModelFile, match=r"part big-00002-of-00002\.gguf of 2 is missing"):
        await here.add_file(first, None, loads=False)
    assert names(here) == names(pantry(tmp_path)) == []


async def test_a_model_that_changes_while_it_is_hashed_is_hashed_all_the_same(tmp_path: Path, file: Path) -> None:
    here, digest = pantry(tmp_path), hashlib.sha256(file.read_bytes()).hexdigest()  # noqa: ASYNC240
    await here.add_file(file, None, loads=False)
    async with asyncio.TaskGroup() as group:
        hashing = group.create_task(here.run())
        await here.load("m", Policy.PINNED, now=False)
        async with asyncio.timeout(60):
            while not here.host.offers()[0].digest:
                await here.host.changed()
        hashing.cancel()
    assert here.host.offers()[0].digest == digest
    assert here.has("m", here.host.offers()[0].digest)
    with pytest.raises(Refused, match="another model"):
        here.has("m", "ab" * 32)


async def test_a_model_is_removed_once_and_its_file_stays(tmp_path: Path, file: Path) -> None:
    here = pantry(tmp_path)
    await here.add_file(file, None, loads=False)
    results = await asyncio.gather(here.remove("m"), here.remove("m"), return_exceptions=True)
    assert results[0] == ()
    assert isinstance(results[1], Refused)
    assert (names(here), names(pantry(tmp_path)), file.exists()) == ([], [], True)  # noqa: ASYNC240


async def test_a_model_in_memory_is_not_removed(tmp_path: Path, file: Path) -> None:
    here = pantry(tmp_path)
    await here.add_file(file, None, loads=True)
    with pytest.raises(Refused, match="in memory: `meshd models unload m` first"):
        await here.remove("m")


async def test_a_wish_is_remembered_until_it_is_dropped(tmp_path: Path) -> None:
    here = pantry(tmp_path)
    await here.note_wish("hf:o/r", Policy.PINNED)
    (wish,) = pantry(tmp_path).wishes
    assert (wish.wanted, wish.policy) == ("hf:o/r", "pinned")
    await here.drop_wish("hf:o/r")
    assert pantry(tmp_path).wishes == ()


def test_a_damaged_shelf_keeps_the_node_from_starting_in_words(tmp_path: Path) -> None:
    pantry(tmp_path)
    (tmp_path / "data" / "models.json").write_text("{")
    with pytest.raises(ShelfDamaged, match="delete it"):
        pantry(tmp_path)
