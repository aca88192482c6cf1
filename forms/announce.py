"""Tells the mesh what forms cost here, when that has changed enough to matter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forms.forms_fact import FORMS_FACT, NOTHING, encode_fact, is_worth_telling
from forms.here import Here

INTERVAL_S = 2.0

Publish = Callable[[str, bytes], None]


async def announce(here: Here, publish: Publish) -> None:
    """Publish the fact `forms` until cancelled, at most every other second."""
    told = NOTHING
    while True:
        fact = here.fact()
        if is_worth_telling(told, fact):
            publish(FORMS_FACT, encode_fact(fact))
            told = fact
        await here.changed()
        await asyncio.sleep(INTERVAL_S)
