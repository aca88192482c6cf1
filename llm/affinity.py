"""Remembers which node holds the beginning of a conversation, so that its next turn need not be read anew.

An engine keeps the cache of what it read last; the same words elsewhere cost the whole prompt again. What begins alike
is found by hashes of the request's messages, each over all before it: the longest one that is known names the node.
Kept by every node for the requests that enter the mesh through it; how much it weighs is `placement`'s.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from transport.interface import NodeId

MAX_PREFIXES = 8192
MAX_MESSAGES = 4096
BLOCK_BYTES = 1024
MAX_BODY_BYTES = 8 << 20
"""Beyond it are pictures; hashing them would hold up every other request."""
WORTH_BYTES = 1024
"""Shorter beginnings say little about a conversation (every chat of an app has its system prompt) and are read anew in
no time; from here on it pays to go where they are."""

Prefix = bytes
"""SHA-256 over the model and everything from the start of the prompt up to the end of one of its parts."""


class _Prompt(msgspec.Struct):
    """The parts of a request that engines read as prompt, in OpenAI's and Anthropic's words, as they were written."""

    system: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    messages: list[msgspec.Raw] | None = None
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Prompt)


def prefixes(model: str, body: bytes) -> tuple[Prefix, ...]:
    """A hash for every beginning of the prompt in `body` that is worth going back to, shortest first.

    Nothing for a body that is no such request, or a very large one; never raises for what a client sends.
    """
    if len(body) > MAX_BODY_BYTES:
        return ()
    try:
        prompt = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    hasher = hashlib.sha256(model.encode())
    found, length = [], 0
    for part in _parts(prompt):
        hasher.update(len(part).to_bytes(8, "big") + part)
        length += len(part)
        if length >= WORTH_BYTES:
            found.append(hasher.digest())
    return tuple(found)


def _parts(prompt: _Prompt) -> Iterator[bytes]:
    for whole in (prompt.tools, prompt.system):
        if whole:
            yield bytes(whole)
    for message in (prompt.messages or ())[:MAX_MESSAGES]:
        yield bytes(message)
    for text in (prompt.prompt, prompt.input):
        yield from _blocks(bytes(text))


def _blocks(text: bytes) -> Iterator[bytes]:
    """Whole blocks only: the last one changes with whatever is added."""
    for start in range(0, min(len(text), MAX_MESSAGES * BLOCK_BYTES) - BLOCK_BYTES + 1, BLOCK_BYTES):
        yield text[start : start + BLOCK_BYTES]


class Affinity:
    """Which node read each prefix last; the least recently used are forgotten beyond 8,192."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[Prefix, NodeId] = OrderedDict()

    def holder(self, wanted: tuple[Prefix, ...]) -> NodeId | None:
        """The node that read the longest of these prefixes."""
        return next((self._nodes[prefix] for prefix in reversed(wanted) if prefix in self._nodes), None)

    def note(self, read: tuple[Prefix, ...], node: NodeId) -> None:
        """`node` has read a prompt with these prefixes."""
        for prefix in read:
            self._nodes[prefix] = node
            self._nodes.move_to_end(prefix)
        while len(self._nodes) > MAX_PREFIXES:
            self._nodes.popitem(last=False)
