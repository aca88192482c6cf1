"""What every engine keeps, whatever it runs on. A test module brings the `engine` fixture: running and READY.

Engines answer for the model "tiny" and have two slots at least.
"""

from __future__ import annotations

import asyncio
import json

from llm.engines.interface import Engine, EngineState
from tests.llm.requests import chat, events, post, read, streamed_text


class EngineContract:
    """Subclass it in a module with an `engine` fixture."""

    async def test_says_that_it_is_ready_and_what_it_can_hold(self, engine: Engine) -> None:
        status = engine.status
        assert status.state is EngineState.READY
        assert status.in_flight == 0
        assert status.slots >= 2
        assert status.context_tokens > 0

    async def test_answers_a_chat(self, engine: Engine) -> None:
        reply = await engine.answer(chat(max_tokens=5, temperature=0))
        answer = json.loads(await read(reply))
        assert reply.status == 200
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] == 5

    async def test_streams_what_it_says_at_once(self, engine: Engine) -> None:
        whole = json.loads(await read(await engine.answer(chat(max_tokens=6, temperature=0))))
        reply = await engine.answer(chat(max_tokens=6, temperature=0, stream=True))
        assert dict(reply.headers)["content-type"].startswith("text/event-stream")
        assert streamed_text(await read(reply)) == whole["choices"][0]["message"]["content"]

    async def test_streams_one_event_a_token_and_the_usage_when_asked(self, engine: Engine) -> None:
        request = chat(max_tokens=4, temperature=0, stream=True, stream_options={"include_usage": True})
        parts = events(await read(await engine.answer(request)))
        said = [choice for part in parts for choice in part["choices"] if choice["delta"].get("content")]
        assert len(said) == 4
        assert parts[-1]["usage"]["completion_tokens"] == 4

    async def test_same_request_gives_the_same_answer(self, engine: Engine) -> None:
        first, second = [
            json.loads(await read(await engine.answer(chat(max_tokens=8, temperature=0)))) for _ in range(2)
        ]
        assert first["choices"] == second["choices"]

    async def test_two_at_a_time(self, engine: Engine) -> None:
        replies = await asyncio.gather(*(engine.answer(chat(max_tokens=20, stream=True)) for _ in range(2)))
        assert engine.status.in_flight == 2
        bodies = await asyncio.gather(*(read(reply) for reply in replies))
        assert [len(events(body)) > 0 for body in bodies] == [True, True]
        assert engine.status.in_flight == 0

    async def test_malformed_json_is_answered_with_an_error_object(self, engine: Engine) -> None:
        reply = await engine.answer(post("tiny", "/v1/chat/completions", b'{"messages": ['))
        body = json.loads(await read(reply))
        assert reply.status >= 400
        assert body["error"]["message"]

    async def test_unknown_path_is_a_404(self, engine: Engine) -> None:
        reply = await engine.answer(post("tiny", "/v1/no-such-thing", b"{}"))
        await read(reply)
        assert reply.status == 404

    async def test_closing_before_the_end_leaves_nothing_in_flight(self, engine: Engine) -> None:
        reply = await engine.answer(chat(max_tokens=2000, stream=True))
        chunks = reply.chunks()
        await anext(chunks)
        await reply.close()
        await reply.close()
        assert engine.status.in_flight == 0

    async def test_cancelled_while_reading_then_closed(self, engine: Engine) -> None:
        async def read_all() -> None:
            reply = await engine.answer(chat(max_tokens=2000, stream=True))
            try:
                async for _ in reply.chunks():
                    begun.set()
            finally:
                await reply.close()

        begun = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read_all())
            await begun.wait()
            reading.cancel()
        assert engine.status.in_flight == 0

    async def test_request_headers_may_not_smuggle_credentials(self, engine: Engine) -> None:
        request = chat(max_tokens=1)
        wrong = (*request.headers, ("authorization", "Bearer nonsense"), ("host", "elsewhere"), ("connection", "close"))
        asked = type(request)("r", "tiny", "POST", request.path, wrong, request.body, 10.0)
        reply = await engine.answer(asked)
        await read(reply)
        assert reply.status == 200
