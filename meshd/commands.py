"""What the control door can be asked to do, on behalf of the command line."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from meshd.control import Command, CommandFailed
from meshd.standing import Standing
from meshd.status import Situation, build_status
from transport.interface import Address, Role
from transport.token_book import TokenBook

DEFAULT_TTL_S = 86400


@dataclass(frozen=True, slots=True)
class Commands:
    """situation: the mesh as it is now.  addresses: where a joiner can enter, for tokens.
    leave: says goodbye to the mesh and stops the agent.  deeds: what this node did lately, newest first.
    """

    standing: Standing
    situation: Callable[[], Situation]
    addresses: Callable[[], Sequence[Address]]
    leave: Callable[[], Awaitable[None]]
    deeds: Callable[[], list[dict[str, Any]]] = list

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {
            "status": self._status,
            "activity": self._activity,
            "token_create": self._token_create,
            "token_list": self._token_list,
            "token_revoke": self._token_revoke,
            "leave": self._leave,
        }

    async def _status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return build_status(self.situation())

    async def _activity(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"deeds": self.deeds()}

    async def _token_create(self, arguments: dict[str, Any]) -> dict[str, Any]:
        role, ttl_s = arguments.get("role", "member"), arguments.get("ttl_s", DEFAULT_TTL_S)
        uses = arguments.get("uses", 1)
        if role not in ("member", "client") or not isinstance(ttl_s, int) or not isinstance(uses, int):
            raise CommandFailed("expected role member or client, ttl_s and uses as whole numbers")
        return {"token": self.new_token(Role(role), ttl_s, uses), "role": role, "ttl_s": ttl_s, "uses": uses}

    def new_token(self, role: Role, ttl_s: int, uses: int) -> str:
        """A token that is in the book on disk before anyone sees it. Raises CommandFailed."""
        book = self._book()
        try:
            token = book.create(role, ttl_s, uses, self.addresses(), self.standing.unix_time(), os.urandom)
        except ValueError as error:
            raise CommandFailed(str(error)) from error
        self.standing.belonging.save_tokens()
        return token

    async def _token_list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "tokens": [
                {
                    "id": entry.text,
                    "role": entry.role.value,
                    "state": entry.state.value,
                    "uses": entry.uses,
                    "uses_left": entry.uses_left,
                    "expires": entry.expires,
                }
                for entry in self._book().list(self.standing.unix_time())
            ]
        }

    async def _token_revoke(self, arguments: dict[str, Any]) -> dict[str, Any]:
        text = arguments.get("id")
        try:
            known = self._book().revoke(bytes.fromhex(text if isinstance(text, str) else "?"))
        except ValueError:
            known = False
        if not known:
            raise CommandFailed(f"no token has the id {text!r}; `meshd token list` shows them")
        self.standing.belonging.save_tokens()
        return {"revoked": text}

    async def _leave(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.standing.belonging.root is not None and arguments.get("force") is not True:
            raise CommandFailed(
                "this node holds the mesh's root key, and leaving deletes it: back it up with "
                "`meshd mesh export-root FILE`, then `meshd leave --force`"
            )
        mesh_name = self.situation().mesh_name
        await self.leave()
        return {"mesh": mesh_name}

    def _book(self) -> TokenBook:
        belonging = self.standing.belonging
        if belonging.tokens is None or belonging.signer(self.standing.unix_time()) is None:
            raise CommandFailed(
                "this node may not invite: run `meshd token …` on the founder of the mesh, "
                "or there `meshd mesh delegate` with this node's name"
            )
        return belonging.tokens
