"""How the block of a transport ends when something in it fails."""

from __future__ import annotations

import pytest

from transport import virtual_time
from transport.errors import RefusalCode, Refused
from transport.interface import NodeId
from transport.memory import MemoryNetwork


def test_an_error_leaves_the_block_as_itself_and_not_in_a_group() -> None:
    async def scenario() -> None:
        async with MemoryNetwork().transport(NodeId(b"n" * 32)):
            raise Refused(RefusalCode.TOKEN_SPENT, "spent")

    with pytest.raises(Refused, match="spent"):
        virtual_time.run(scenario())
