"""`meshd chat`: talk with a model of the mesh from a terminal, or have one question answered in a pipe."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from meshd.cli.output import JsonFlag, fail, print_json, say
from meshd.cli.running import DataDirOption, call, data_dir

ANSWER_TIMEOUT_S = 600.0
"""Longest silence within an answer: a model may have to be loaded first."""

Message = dict[str, str]


class Refused(Exception):
    """The node would not answer; the message is its own."""


def chat(
    model: Annotated[str, typer.Argument(help="its name, as `meshd models` shows it (default: the only one)")] = "",
    say_text: Annotated[str, typer.Option("--say", help="ask this, print the answer, and end")] = "",
    key: Annotated[
        str, typer.Option("--key", envvar="MESHD_API_KEY", help="an API key, where the node wants one")
    ] = "",
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Chat with a model; what is piped in is one question. Ctrl-C stops an answer, and once more ends the chat."""
    status = call(data_dir(directory), "status")
    talk = Talk(status["doors"]["api"], _choose(model, status), key)
    question = say_text or ("" if sys.stdin.isatty() else sys.stdin.read().strip())
    try:
        if question:
            _once(talk, question, as_json=as_json)
        elif as_json:
            fail("--json answers one question: give it with --say, or pipe it in")
        elif sys.stdin.isatty():
            _converse(talk)
        else:
            fail("nothing came on standard input")
    except BrokenPipeError:
        raise  # who read the answer has left
    except (Refused, OSError, http.client.HTTPException) as error:
        fail(str(error) or type(error).__name__)


def _choose(model: str, status: dict[str, Any]) -> str:
    names = [entry["name"] for entry in status["models"]]
    if model:
        return model
    if len(names) == 1:
        return str(names[0])
    wanted = f"which model? there are: {', '.join(names)}"
    return fail(wanted if names else "no node serves any model: start one with `meshd --model PATH.gguf`")


def _once(talk: Talk, question: str, *, as_json: bool) -> None:
    pieces = talk.ask(question)
    if as_json:
        answer = "".join(pieces)
        print_json({"model": talk.model, "node": talk.node, "answer": answer, "usage": talk.usage})
        return
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _converse(talk: Talk) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 - gives `input` a line that can be edited, and a history

    say(f"{talk.model}; Ctrl-C stops an answer, Ctrl-D ends the chat")
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        if question:
            _answer(talk, question)


def _answer(talk: Talk, question: str) -> None:
    try:
        for piece in talk.ask(question):
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write(" …")
    except Refused as error:
        say(f"meshd: {error}")
    sys.stdout.write("\n")


@dataclass(slots=True)
class Talk:
    """A conversation over the API at `url`. node: which one answered last.  usage: what it said it took."""

    url: str
    model: str
    key: str = ""
    node: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    _messages: list[Message] = field(default_factory=list)

    def ask(self, question: str) -> Iterator[str]:
        """The answer as it comes; remembered as far as it came. Raises Refused, OSError."""
        self._messages.append({"role": "user", "content": question})
        said = ""
        try:
            for piece in self._stream():
                said += piece
                yield piece
        finally:
            if said:
                self._messages.append({"role": "assistant", "content": said})
            else:
                self._messages.pop()

    def _stream(self) -> Iterator[str]:
        place = urlsplit(self.url)
        assert place.hostname is not None
        with closing(http.client.HTTPConnection(place.hostname, place.port, timeout=ANSWER_TIMEOUT_S)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(self._body()), self._headers())
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                hint = "; here: --key KEY" if response.status == http.HTTPStatus.UNAUTHORIZED else ""
                raise Refused(_reason(response.read()) + hint)
            self.node = response.headers.get("x-meshd-node", "")
            yield from self._pieces(response)

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[str]:
        for line in response:
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or data == b"[DONE]":
                continue
            event = json.loads(data)
            if "error" in event:
                raise Refused(str(event["error"].get("message", event["error"])))
            self.usage = event.get("usage") or self.usage
            for choice in event.get("choices", []):
                if piece := choice.get("delta", {}).get("content"):
                    yield piece

    def _body(self) -> dict[str, Any]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return {"model": self.model, "messages": self._messages, **options}

    def _headers(self) -> dict[str, str]:
        kind = {"content-type": "application/json"}
        return kind | ({"authorization": f"Bearer {self.key}"} if self.key else {})


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:300] or "the node gave no reason"
