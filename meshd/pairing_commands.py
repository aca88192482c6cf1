"""What the control door can be asked about nodes that want to come in without a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshd.control import Command, CommandFailed
from transport.identity import node_text
from transport.pairing import Decision, PairingDesk, Request, code_text


@dataclass(frozen=True, slots=True)
class PairingCommands:
    """may_invite: whether this node can let anybody in now.  unix_time: the wall clock."""

    desk: PairingDesk
    may_invite: Callable[[], bool]
    unix_time: Callable[[], float]

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {
            "token_requests": self._requests,
            "token_accept": lambda arguments: self._decide(arguments, "accepted"),
            "token_refuse": lambda arguments: self._decide(arguments, "refused"),
        }

    async def _requests(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._check()
        now = self.unix_time()
        return {"requests": [_shown(request, now) for request in self.desk.list(now)]}

    async def _decide(self, arguments: dict[str, Any], decision: Decision) -> dict[str, Any]:
        self._check()
        now, code = self.unix_time(), arguments.get("id")
        request = self.desk.decide(code if isinstance(code, str) else "", decision, now)
        if request is None:
            raise CommandFailed(
                f"nobody here asks with the code {code!r}: compare it with what the asking host shows. If that host "
                "shows another code than `meshd token requests` here, somebody is between the two: do not accept"
            )
        return _shown(request, now)

    def _check(self) -> None:
        if not self.may_invite():
            raise CommandFailed("this node may let nobody in: run this on the founder of the mesh")


def _shown(request: Request, now: float) -> dict[str, Any]:
    return {
        "id": code_text(request.code),
        "node": node_text(request.node),
        "name": request.name,
        "role": request.role.value,
        "address": request.host,
        "state": request.decision,
        "age_s": round(now - request.since),
    }
