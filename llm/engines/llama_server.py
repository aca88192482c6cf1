"""Serves one model with llama.cpp's own server, a child process on a loopback port.

Requests go through untouched, so everything that llama-server knows works. Here are the child's start, its
watching, its restarts and its log; where the program lies is `llama_binary`'s, HTTP is `http_proxy`'s.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal
from contextlib import suppress
from dataclasses import replace

from llm.changes import Changes
from llm.engines import child_log
from llm.engines.cpu_clock import cpu_seconds
from llm.engines.drafts import DraftSwitch
from llm.engines.http_proxy import HttpProxy, HttpReply
from llm.engines.interface import Child, EngineFailed, EngineState, EngineStatus, Launcher, Reply, Request
from llm.engines.llama_arguments import LlamaServerOptions, arguments, environment
from llm.engines.llama_binary import EngineMissing, find_llama_server
from llm.engines.timings import TimingsReader
from llm.engines.trial import Trial
from llm.memory.check import MemoryCheck, check
from llm.memory.reported import read_reported

logger = logging.getLogger("meshd.llm")

LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
SPEED = re.compile(r"^llamacpp:predicted_tokens_seconds ([0-9.e+]+)", re.MULTILINE)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
STABLE_S = 60.0
FIRST_LOOK_S = 0.02
LONGEST_LOOK_S = 0.25
HOUSEKEEPING_S = 5.0
ASK_TIMEOUT_S = 5.0
PULSES_MISSED = 3
"""Silent /health answers in a row that make an engine a hung one. One may be ours: a host that stood still for a while
finds that its question is overdue before it looks for the answer."""
PULSE_PAUSE_S = 1.0
MAX_LOG_BYTES = 8 << 20
QUOTED_LINES = 3
EXIT_GRACE_S = 0.25


class LlamaServerEngine:
    """An `Engine` on a child llama-server."""

    kind = "llama_server"
    program = "llama-server"

    def __init__(self, options: LlamaServerOptions, launcher: Launcher) -> None:
        self._options = options
        self._launcher = launcher
        self._state = EngineState.STOPPED
        self._reason = "not started yet"
        self._changes = Changes()
        self._proxy: HttpProxy | None = None
        self._in_flight = 0
        self._has_news = False
        self._context_tokens = options.context_tokens
        self._tokens_per_s = 0.0
        self.pid: int | None = None
        self._drafts = DraftSwitch(options.draft, is_fixed=options.rpc is not None)
        self._is_switching = False
        self._switches = Changes()
        # What the latest load was predicted to take and what it took; None until both are known.
        self.memory: MemoryCheck | None = None
        self._computes_on_cpu = False

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(
            self._state,
            self._reason,
            self._in_flight,
            self._context_tokens,
            self._options.slots,
            self._tokens_per_s,
            drafting=self._drafts.now(),
        )

    async def changed(self) -> None:
        await self._changes.wait()

    async def run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                self._enter(EngineState.LOADING, f"starting {self.program}")
                reason = await self._live_once()
                if self._is_switching:
                    self._is_switching, backoff_s = False, FIRST_BACKOFF_S
                    continue
                self._enter(EngineState.FAILED, reason)
                if loop.time() - began > STABLE_S:
                    backoff_s = FIRST_BACKOFF_S
                logger.error("model %s: %s; starting again in %.1f s", self._options.name, self._reason, backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
        finally:
            if self._state is not EngineState.STOPPED:
                self._enter(EngineState.STOPPED, "stopped with the agent")

    def end(self, reason: str) -> None:
        """Say why `run` is about to be cancelled: whose answer breaks off is told."""
        self._enter(EngineState.STOPPED, reason)

    async def answer(self, request: Request) -> Reply:
        """Pass `request` on. llama-server itself queues what its slots cannot take yet."""
        if self._proxy is None or self._state is not EngineState.READY:
            raise self._failure(f"it is {self._state.value}: {self._reason}", retryable=True)
        self._in_flight += 1
        reader = self._drafts.begin(self._in_flight, self._cpu_s)
        try:
            response = await self._proxy.send(request)
        except EngineFailed as error:
            self._done()
            raise await self._explain(str(error), retryable=True) from error
        except BaseException:
            self._done()
            raise
        return HttpReply(
            response,
            lambda detail: self._explain(detail, retryable=False),
            lambda: self._done(reader),
            reader.feed if reader is not None else None,
        )

    def _done(self, reader: TimingsReader | None = None) -> None:
        self._in_flight -= 1
        self._has_news = True
        if reader is not None:
            self._drafts.end(reader, asyncio.get_running_loop().time(), self._cpu_s)
            self._look_for_switch()

    def _enter(self, state: EngineState, reason: str) -> None:
        is_change = state is not self._state
        self._state, self._reason = state, reason
        if is_change:
            self._changes.notify()

    def _failure(self, detail: str, *, retryable: bool) -> EngineFailed:
        return EngineFailed(f"the engine of model {self._options.name!r} failed: {detail}", retryable=retryable)

    async def _explain(self, detail: str, *, retryable: bool) -> EngineFailed:
        """Say why a connection broke: a child's exit is known a moment after its connections end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_GRACE_S):
                while self._state is EngineState.READY:
                    await self._changes.wait()
        return self._failure(detail if self._state is EngineState.READY else self._reason, retryable=retryable)

    async def _live_once(self) -> str:
        """Start the child and stay with it; why it is over."""
        options = self._options
        key = secrets.token_urlsafe(32)
        try:
            argv, env = self._command(key)
            log_start = child_log.size_bytes(options.log)
            async with self._launcher.start(argv, env, options.log) as child:
                self.pid = child.pid
                reason = await self._accompany(child, key, log_start, argv)
                if not self._is_switching:
                    # Known at once, before the launcher has cleared up.
                    self._enter(EngineState.FAILED, reason)
                return reason
        except (OSError, EngineMissing) as error:
            return str(error)
        finally:
            self.pid = None

    def _command(self, key: str) -> tuple[list[str], dict[str, str]]:
        """What to start, and with which variables. Raises EngineMissing."""
        binary = find_llama_server(self._options.binary)
        options = self._options if self._drafts.is_drafting else replace(self._options, draft=None)
        return arguments(binary, options), environment(binary, key)

    def _end_child(self, pid: int) -> None:
        # It has nothing to save, and its orderly end hangs at times after a stream was abandoned.
        _kill(pid)

    async def _accompany(self, child: Child, key: str, log_start: int, argv: list[str]) -> str:
        """Tend the child until it dies or must go; why. It does not outlive this call."""
        async with asyncio.TaskGroup() as group:
            dying = group.create_task(child.wait(), name=f"wait for pid {child.pid}")
            tending = group.create_task(self._tend(key, log_start, argv), name=f"tend pid {child.pid}")
            try:
                await asyncio.wait((dying, tending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not dying.done():
                    self._end_child(child.pid)
            if dying.done():
                tending.cancel()
                self._drafts.died()
                return self._describe_death(dying.result(), log_start)
            dying.cancel()
            return tending.result()

    def _describe_death(self, status: int, log_start: int) -> str:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        lines = child_log.last_lines(self._options.log, QUOTED_LINES, log_start)
        said = f"its last lines: {' | '.join(lines)}" if lines else "it wrote nothing"
        return f"{self.program} {how} (log: {self._options.log}); {said}"

    async def _tend(self, key: str, log_start: int, argv: list[str]) -> str:
        """Make the engine ready and keep house; why the child must go."""
        options = self._options
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(options.start_timeout_s):
                port = await self._wait_for_port(log_start)
            async with HttpProxy(f"http://127.0.0.1:{port}", key, self.program) as proxy:
                async with asyncio.timeout(options.start_timeout_s):
                    await self._wait_for_health(proxy)
                self.memory = await asyncio.to_thread(self._check_memory, argv, log_start)
                self._computes_on_cpu = await asyncio.to_thread(self._is_on_cpu, log_start)
                self._drafts.trial.load_s = asyncio.get_running_loop().time() - began
                return await self._keep_ready(proxy)
        except TimeoutError:
            return f"{self.program} did not load {options.model.name} within {options.start_timeout_s:g} s"
        except EngineFailed as error:
            return str(error)

    def _check_memory(self, argv: list[str], log_start: int) -> MemoryCheck | None:
        return check(self._options.name, argv, child_log.read_from(self._options.log, log_start))

    def _is_on_cpu(self, log_start: int) -> bool:
        reported = read_reported(child_log.read_from(self._options.log, log_start))
        return reported is not None and all(name.startswith("CPU") for name in reported.of_device)

    @property
    def _cpu_s(self) -> float | None:
        """How long its CPUs have worked; None where something else computes, so that it is the clock that counts."""
        return cpu_seconds(self.pid) if self._computes_on_cpu and self.pid is not None else None

    async def _keep_ready(self, proxy: HttpProxy) -> str:
        """Keep house until it should draft where it does not, or the other way round; why it must go."""
        self._proxy = proxy
        self._enter(EngineState.READY, self._serving)
        try:
            while not self._is_switching:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HOUSEKEEPING_S):
                        await self._switches.wait()
                    break
                await self._health(proxy)
                await self._keep_house(proxy)
                self._look_for_switch()
                if not self._is_switching:
                    self._enter(EngineState.READY, self._serving)
        finally:
            self._proxy = None
        return self._reason

    @property
    def trial(self) -> Trial:
        """What its drafts are worth, as far as that is known."""
        return self._drafts.trial

    @property
    def _serving(self) -> str:
        words = self._drafts.words()
        return f"serving {self._options.model.name} on {self._options.slots} slots{words and f'; {words}'}"

    def _look_for_switch(self) -> None:
        """Be about to start again with drafts or without, where that is wanted and nobody is answered."""
        if self._in_flight or self._state is not EngineState.READY:
            return
        if not self._drafts.turn(asyncio.get_running_loop().time()):
            return
        self._is_switching = True
        how = "with drafts" if self._drafts.is_drafting else "without drafts"
        # From here on requests wait for it.
        self._enter(EngineState.LOADING, f"starting again {how}, to compare what its answers take")
        logger.info("model %s: %s; %s", self._options.name, self._reason, self._drafts.trial.words())
        self._switches.notify()

    async def _wait_for_port(self, log_start: int) -> int:
        loop = asyncio.get_running_loop()
        began = loop.time()
        look_s = FIRST_LOOK_S
        # Older servers listen before they load, this one after; the health check that follows covers both.
        while (found := LISTENING.search(child_log.read_from(self._options.log, log_start))) is None:
            latest = "".join(child_log.last_lines(self._options.log, 1, log_start))
            since = f"for {loop.time() - began:.0f} s"
            self._enter(EngineState.LOADING, f"{since}: {latest}" if latest else since)
            await asyncio.sleep(look_s)
            look_s = min(1.5 * look_s, LONGEST_LOOK_S)
        return int(found[1])

    async def _wait_for_health(self, proxy: HttpProxy) -> None:
        """Wait until the model is loaded, then ask for the context that each slot got. Raises EngineFailed."""
        while True:
            if await self._health(proxy) == 200:
                break
            await asyncio.sleep(LONGEST_LOOK_S)
        status, body = await proxy.get("/v1/models", ASK_TIMEOUT_S)
        if status != 200:
            raise self._failure(f"/v1/models gave status {status} instead of 200", retryable=True)
        self._context_tokens = _context_tokens(body) or self._context_tokens

    async def _health(self, proxy: HttpProxy) -> int:
        """The status of /health. Raises EngineFailed for an engine that lives and answers nothing.

        /health is answered beside the computation, however long that takes: within 12 ms while 20,000 tokens were
        read on all cores, and while a split waits for its workers.
        """
        for _ in range(PULSES_MISSED):
            try:
                status, _ = await proxy.get("/health", self._options.pulse_timeout_s)
                return status
            except EngineFailed:
                await asyncio.sleep(PULSE_PAUSE_S)
        looks = f"{PULSES_MISSED} times {self._options.pulse_timeout_s:g} s"
        raise self._failure(f"{self.program} lives, but has answered nothing for {looks}; it was ended", retryable=True)

    async def _keep_house(self, proxy: HttpProxy) -> None:
        await asyncio.to_thread(child_log.trim, self._options.log, MAX_LOG_BYTES)
        if self._has_news:
            self._has_news = False
            with suppress(EngineFailed):
                _, metrics = await proxy.get("/metrics", ASK_TIMEOUT_S)
                self._tokens_per_s = _speed(metrics.decode(errors="replace")) or self._tokens_per_s


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _context_tokens(models: bytes) -> int:
    """What one slot may use, out of the answer to /v1/models; 0 when it does not say."""
    try:
        tokens = json.loads(models)["data"][0]["meta"]["n_ctx"]
    except (ValueError, LookupError, TypeError):
        return 0
    return tokens if isinstance(tokens, int) else 0


def _speed(metrics: str) -> float:
    found = SPEED.search(metrics)
    return float(found[1]) if found else 0.0
