"""A load of concurrent streamed chats against one OpenAI-compatible server, timed at the client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send the chats. key: bearer key, or empty."""

    name: str
    url: str
    model: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """One streamed chat. ttft_ms: request sent → first event; events: pieces of text received."""

    ttft_ms: float
    events: int


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One burst. ttft_ms: median over its streams; tokens_per_s: all streams together, wall clock."""

    ttft_ms: float
    tokens_per_s: float


async def load(target: Target, streams: int, tokens: int, prompt: str, spread_s: float) -> LoadResult:
    """Run `streams` chats of `tokens` tokens side by side, their starts spread evenly over `spread_s`."""
    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # llama-server hangs up on idle connections
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            starts = [spread_s * number / streams for number in range(streams)]
            tasks = [group.create_task(_stream(session, target, tokens, prompt, start_s)) for start_s in starts]
        elapsed = time.perf_counter() - started
    times = [task.result() for task in tasks]
    ttfts = sorted(one.ttft_ms for one in times)
    return LoadResult(ttfts[len(ttfts) // 2], sum(one.events for one in times) / elapsed)


async def _stream(
    session: aiohttp.ClientSession, target: Target, tokens: int, prompt: str, start_s: float
) -> StreamTimes:
    await asyncio.sleep(start_s)
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "stream": True,
        "temperature": 0,
    }
    sent = time.perf_counter()
    first = 0.0
    events = 0
    async with session.post(f"{target.url}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith(b"data: {") and b'"content":' in line and b'"content":null' not in line:
                first = first or time.perf_counter()
                events += 1
    if not events:
        raise RuntimeError(f"{target.name} answered no text")
    return StreamTimes(1000 * (first - sent), events)
