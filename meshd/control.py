"""The control door as the command line sees it: JSON over HTTP on a Unix socket in the data directory.

What answers behind it is `meshd.control_app`: every command that talks to an agent loads this module, and shall not
load a web server with it.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class CommandFailed(Exception):
    """A control command that the agent understood and could not carry out; the message says why."""


class NotRunning(Exception):
    """No agent answers on the data directory's control socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ControlClient:
    """Talks to the agent of one data directory. Blocking: for the command line only."""

    def __init__(self, socket_path: Path, timeout_s: float = 10.0) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send one command. Raises NotRunning, CommandFailed."""
        status, body, _ = self._exchange(command, json.dumps(arguments).encode(), "application/json")
        return _result(command, status, body)

    def post(self, command: str, body: bytes, **arguments: str) -> tuple[bytes, Mapping[str, str]]:
        """Send what is no JSON, and get what is none, with its headers. Raises NotRunning, CommandFailed."""
        status, reply, headers = self._exchange(f"{command}?{urlencode(arguments)}", body, "application/octet-stream")
        if status != 200:
            raise CommandFailed(f"{command}: status {status}: {reply[:500].decode('utf-8', 'replace').strip()}")
        return reply, headers

    def _exchange(self, path: str, body: bytes, kind: str) -> tuple[int, bytes, Mapping[str, str]]:
        connection = _UnixConnection(self._path, self._timeout_s)
        try:
            connection.request("POST", f"/{path}", body, {"content-type": kind})
            response = connection.getresponse()
            return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(f"no meshd runs on {self._path.parent}; start one with `meshd`") from None
        except PermissionError:
            raise CommandFailed(
                f"the agent on {self._path.parent} is another user's: ask as that user, or as root with --data-dir"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailed(f"the agent did not answer {path!r}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def _result(command: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    if isinstance(answer, dict) and "error" in answer:
        raise CommandFailed(str(answer["error"]))
    raise CommandFailed(f"the agent answered {command!r} with status {status}; is it of another version?")
