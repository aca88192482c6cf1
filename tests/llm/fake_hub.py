"""A small Hugging Face Hub on loopback: one state of a few repositories, as halting and broken as a test asks.

What it answers is as much as huggingface_hub 2.4 looks at: a model's info, its tree, its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" * 6 + "c0de"
PIECE_BYTES = 64 << 10


@dataclass
class FakeHub:
    """repos: path → content, of each repository.  is_away: answers 503 to all.

    claims: SHA-256 that the tree tells instead of the right one.  sizes: so too.  break_after: bytes of one answer,
    then the line is cut.  sent_bytes: of files.  asked: paths, each with the authorization that came along.
    """

    repos: dict[str, dict[str, bytes]]
    url: str = ""
    is_away: bool = False
    claims: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    break_after: int | None = None
    sent_bytes: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    _holds_after: int | None = None
    _goes_on: threading.Event = field(default_factory=threading.Event)

    def hold(self, after_bytes: int) -> None:
        """Send so much of each answer, and no more until `go_on`."""
        self._goes_on.clear()
        self._holds_after = after_bytes

    def go_on(self) -> None:
        self._holds_after = None
        self._goes_on.set()

    def wait_if_held(self, sent_bytes: int) -> None:
        if self._holds_after is not None and sent_bytes >= self._holds_after:
            self._goes_on.wait()

    def tree(self, repo: str) -> list[dict[str, Any]]:
        return [self._entry(path, content) for path, content in self.repos[repo].items()]

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        size = self.sizes.get(path, len(content))
        sha256 = self.claims.get(path) or hashlib.sha256(content).hexdigest()
        lfs = {"oid": sha256, "size": size, "pointerSize": 134}
        return {"type": "file", "oid": "0" * 40, "path": path, "size": size, "lfs": lfs}


@contextlib.contextmanager
def fake_hub(**repos: dict[str, bytes]) -> Iterator[FakeHub]:
    """Serve `repos`, `__` in their names standing for `/`, until the block ends."""
    hub = FakeHub({name.replace("__", "/"): files for name, files in repos.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.go_on()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append((path, self.headers.get("Authorization", "")))
            if hub.is_away:
                self.send_error(503)
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
                self._json(hub.tree(found[1]) if found[1] in hub.repos else None)
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
                self._json({"id": found[1], "sha": COMMIT, "siblings": []} if found[1] in hub.repos else None)
            elif re.fullmatch(r"/[^/]+/[^/]+/resolve/[^/]+/.+", path):
                # As the real one: the bytes are another host's.
                self.send_response(302)
                self.send_header("Location", hub.url.replace("127.0.0.1", "localhost") + f"/cdn{path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self._file(hub.repos[found[1]][found[2]])
            else:
                self._json(None)

        def _json(self, answer: Any) -> None:
            body = json.dumps(answer if answer is not None else {"error": "Repository not found"}).encode()
            self.send_response(200 if answer is not None else 404)
            if answer is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _file(self, content: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self._pieces(content, start)

        def _pieces(self, content: bytes, start: int) -> None:
            for at in range(start, len(content), PIECE_BYTES):
                hub.wait_if_held(at - start)
                if hub.break_after is not None and at - start >= hub.break_after:
                    self.close_connection = True
                    return
                piece = content[at : at + PIECE_BYTES]
                self.wfile.write(piece)
                hub.sent_bytes += len(piece)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    return Handler
