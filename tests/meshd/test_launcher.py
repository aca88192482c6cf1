from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from llm.engines.interface import Launcher
from meshd import launcher as launcher_module
from meshd.launcher import LIBRARY_PATH, LaunchedChild, LaunchFailed, ProcessLauncher, child_environment, encode_order
from tests.meshd.processes import (
    HAS_A_CHILD_OF_ITS_OWN,
    IGNORES_SIGTERM,
    SLEEPS,
    grandchild,
    has_begun,
    is_gone,
    kill,
    open_descriptors,
)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd: Linux only"),
]

PATIENCE_S = 60.0
"""Against a stuck test on a busy machine; no statement about speed."""


@asynccontextmanager
async def begun(log: Path, program: str, grace_s: float = 5.0) -> AsyncIterator[LaunchedChild]:
    async with ProcessLauncher(os.environ, grace_s).start((sys.executable, "-u", "-c", program), {}, log) as child:
        await has_begun(log)
        yield child


async def run_to_end(log: Path, program: str, env: dict[str, str] | None = None) -> int:
    argv = (sys.executable, "-c", program)
    async with ProcessLauncher(os.environ).start(argv, env or {}, log) as child:
        return await child.wait()


def test_the_launcher_is_what_engines_ask_for() -> None:
    launcher: Launcher = ProcessLauncher({})
    context: AbstractAsyncContextManager[object] = launcher.start(("true",), {}, Path("unused"))
    assert hasattr(context, "__aenter__")


@pytest.mark.parametrize("code", [0, 1, 77])
async def test_the_exit_code_comes_up(tmp_path: Path, code: int) -> None:
    assert await run_to_end(tmp_path / "log", f"raise SystemExit({code})") == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGINT, signal.SIGHUP])
async def test_a_death_by_signal_comes_up_negative(tmp_path: Path, number: signal.Signals) -> None:
    assert await run_to_end(tmp_path / "log", f"import os; os.kill(os.getpid(), {number:d})") == -number


async def test_several_may_wait_and_one_may_give_up(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", SLEEPS) as child:
        async with asyncio.TaskGroup() as group:
            given_up = group.create_task(child.wait())
            waits = [group.create_task(child.wait()) for _ in range(2)]
            await asyncio.sleep(0)
            given_up.cancel()
            kill(child.pid)
        assert [await child.wait(), *(wait.result() for wait in waits)] == [-signal.SIGKILL] * 3


async def test_the_pid_is_the_childs_own_and_leads_a_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with begun(log, "import os; print(os.getpid())\n" + SLEEPS) as child:
        assert int(log.read_text().split()[0]) == child.pid
        assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid


async def test_the_child_holds_no_descriptor_but_its_three(tmp_path: Path) -> None:
    async with begun(tmp_path / "first", SLEEPS), begun(tmp_path / "second", SLEEPS) as child:
        assert open_descriptors(child.pid) == {
            "0": "/dev/null",
            "1": str(tmp_path / "second"),
            "2": str(tmp_path / "second"),
        }


async def test_leaving_the_context_asks_the_child_to_end(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", SLEEPS) as child:
        pass
    assert await child.wait() == -signal.SIGTERM


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", IGNORES_SIGTERM, grace_s=0.1) as child:
        pass
    assert await child.wait() == -signal.SIGKILL


async def test_what_the_child_started_ends_with_it(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", HAS_A_CHILD_OF_ITS_OWN) as child:
        kill(child.pid)
        assert await child.wait() == -signal.SIGKILL
        assert is_gone(grandchild(tmp_path / "log"), PATIENCE_S)


async def test_cancelling_the_owner_leaves_nothing_behind(tmp_path: Path) -> None:
    pids: list[int] = []

    async def own() -> None:
        async with begun(tmp_path / "log", SLEEPS) as child:
            pids.extend((child.pid, child.process.pid))
            owned.set()
            await child.wait()

    owned = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        owner = group.create_task(own())
        await owned.wait()
        owner.cancel()
    assert all(is_gone(pid, 0) for pid in pids)


async def test_cancelling_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    """Cancelled after ever more turns of the loop: before the fork, before the order, before the report, after."""
    for turns in (0, 1, 2, 3, 5, 8, 20, 100, 500, 1000, 2000, 5000):
        async with asyncio.TaskGroup() as group:
            log = tmp_path / f"{turns}"
            owner = group.create_task(run_to_end(log, f"import os; print(os.getpid(), flush=True); {SLEEPS}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            owner.cancel()
        assert owner.cancelled()
        if log.exists() and log.read_text():
            assert is_gone(int(log.read_text().split()[0]), 0)


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="no-such-engine") as caught:
        async with ProcessLauncher(os.environ).start(("no-such-engine",), {}, tmp_path / "log"):
            pytest.fail("started")
    assert caught.value.errno == errno.ENOENT


async def test_a_program_that_may_not_run_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text("not executable")
    with pytest.raises(LaunchFailed) as caught:
        async with ProcessLauncher(os.environ).start((str(program),), {}, tmp_path / "log"):
            pytest.fail("started")
    assert caught.value.errno == errno.EACCES


async def test_a_large_environment_and_odd_names_arrive_whole(tmp_path: Path) -> None:
    env = {"LARGE": "x" * 100_000, "ODD": "line\nbreak = Ünïcode", "EMPTY": ""}
    program = f"import os; assert {{name: os.environ[name] for name in {list(env)!r}}} == {env!r}"
    assert await run_to_end(tmp_path / "log", program, env) == 0, (tmp_path / "log").read_text()


def test_a_nul_in_an_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode_order(("program", "two\0fields"), {})


def test_the_environment_is_minimal_and_keeps_secrets_back() -> None:
    agent = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "HF_TOKEN": "t", "MESHD_JOIN": "t", "NVIDIA_API_KEY": "t"}
    assert child_environment(agent, {"LLAMA_API_KEY": "k"}) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "LLAMA_API_KEY": "k",
    }


def test_an_engines_libraries_come_before_the_hosts() -> None:
    environment = child_environment({LIBRARY_PATH: "/cuda"}, {LIBRARY_PATH: "/engine"})
    assert environment[LIBRARY_PATH] == "/engine:/cuda"


def test_gpus_are_numbered_as_the_driver_does_unless_the_agent_was_told_otherwise() -> None:
    assert child_environment({}, {})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert child_environment({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, {})["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


async def test_the_log_grows_and_is_its_owners_only(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "engine.log"
    log.parent.mkdir()
    log.touch(mode=0o644)
    for word in ("one", "two"):
        await run_to_end(log, f"import sys; print('{word} out'); print('{word} error', file=sys.stderr)")
    assert sorted(log.read_text().splitlines()) == ["one error", "one out", "two error", "two out"]
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_long_log_is_put_aside_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_module, "MAX_LOG_BYTES", 5)
    for word in ("first run", "second run", "third run"):
        await run_to_end(tmp_path / "log", f"print('{word}')")
    assert (tmp_path / "log").read_text() == "third run\n"
    assert (tmp_path / "log.1").read_text() == "second run\n"


async def test_a_killed_launcher_takes_its_child_along(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", IGNORES_SIGTERM) as child:
        kill(child.process.pid)
        assert is_gone(child.pid, PATIENCE_S)
        assert await child.wait() == -signal.SIGKILL


async def test_the_agent_clears_up_after_a_killed_launcher(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", HAS_A_CHILD_OF_ITS_OWN) as child:
        kill(child.process.pid)
        await child.wait()
    assert is_gone(grandchild(tmp_path / "log"), PATIENCE_S)


async def test_sigterm_to_the_launcher_ends_its_child(tmp_path: Path) -> None:
    async with begun(tmp_path / "log", SLEEPS) as child:
        child.process.terminate()
        assert await child.wait() == -signal.SIGTERM
        assert is_gone(child.pid, 0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nothing_survives_kill_9_of_the_agent(tmp_path: Path, loop: str) -> None:
    programs = (SLEEPS, IGNORES_SIGTERM, HAS_A_CHILD_OF_ITS_OWN)
    command = (sys.executable, "-m", "tests.meshd.agent_like", str(tmp_path), "0.3", loop, *programs)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        lines = list(iter(agent.stdout.readline, "all\n"))
        agent.kill()
    pids = [int(word) for line in lines for word in line.split()] + [grandchild(tmp_path / "2.log")]
    assert len(pids) == 7
    assert [pid for pid in pids if not is_gone(pid, PATIENCE_S)] == []


def test_the_pipe_alone_is_enough_where_there_is_no_prctl(tmp_path: Path) -> None:
    """What macOS relies on, run here by telling the launcher that it is there."""
    order = encode_order((sys.executable, "-u", "-c", SLEEPS), {})
    script = str(launcher_module.LAUNCH_CHILD)
    elsewhere = f"import sys, runpy; sys.platform = 'darwin'; runpy.run_path({script!r}, None, '__main__')"
    arguments = (str(os.getpid()), "5", str(len(order)), "sleeps")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", elsewhere, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    with process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(order)
        process.stdin.flush()
        pid = int(process.stdout.readline().split()[1])
        asyncio.run(has_begun(tmp_path / "log"))
        process.stdin.close()
        assert is_gone(pid, PATIENCE_S)
        assert process.wait(PATIENCE_S) == -signal.SIGTERM


def test_the_death_signal_is_enough_where_the_pipe_is_held_open(tmp_path: Path) -> None:
    """As by a process that the agent forked without exec: the launcher sees no end of file."""
    order = encode_order((sys.executable, "-u", "-c", SLEEPS), {})
    agent_program = (
        "import os, signal, subprocess, sys\n"
        "command = [sys.executable, '-I', '-S', sys.argv[1], str(os.getpid()), '5', sys.argv[2], 'sleeps']\n"
        "subprocess.Popen(command, stdin=0); signal.pause()"
    )
    arguments = (str(launcher_module.LAUNCH_CHILD), str(len(order)))
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            (sys.executable, "-c", agent_program, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as agent,
    ):
        assert agent.stdin is not None and agent.stdout is not None
        agent.stdin.write(order)
        agent.stdin.flush()
        child = int(agent.stdout.readline().split()[1])
        agent.kill()
        assert is_gone(child, PATIENCE_S)
        assert agent.stdout.read() == b"done\n"


def test_a_launcher_whose_agent_is_already_gone_starts_nothing(tmp_path: Path) -> None:
    order = encode_order(("touch", str(tmp_path / "started")), {"PATH": os.environ["PATH"]})
    not_its_parent = "1"
    command = (
        sys.executable,
        "-I",
        "-S",
        str(launcher_module.LAUNCH_CHILD),
        not_its_parent,
        "5",
        str(len(order)),
        "touch",
    )
    answer = subprocess.run(command, input=order, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (answer.returncode, b"ended before its child began" in answer.stderr) == (1, True)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_end_of_the_thread_that_forked_ends_no_child(tmp_path: Path, factory: type) -> None:
    """PDEATHSIG fires then. A launcher that believed it would die, and its child of SIGKILL instead of SIGTERM."""
    loop = factory()
    children: list[LaunchedChild] = []
    stack = AsyncExitStack()

    async def start() -> None:
        children.append(await stack.enter_async_context(begun(tmp_path / "log", SLEEPS)))

    forking = threading.Thread(target=lambda: loop.run_until_complete(start()))
    forking.start()
    forking.join(PATIENCE_S)
    while Path(f"/proc/self/task/{forking.native_id}").exists():  # join() returns a little before its end
        pass
    loop.run_until_complete(stack.aclose())
    assert loop.run_until_complete(children[0].wait()) == -signal.SIGTERM
    loop.close()


async def test_children_live_on_while_threads_come_and_go(tmp_path: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            threads = [threading.Thread(target=lambda: subprocess.run(("true",), check=True)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    async with asyncio.TaskGroup() as group:
        churning = group.create_task(asyncio.to_thread(churn))
        async with AsyncExitStack() as stack:
            contexts = [begun(tmp_path / f"{number}", SLEEPS) for number in range(6)]
            children = [await stack.enter_async_context(context) for context in contexts]
        stop.set()
        await churning
    assert [await child.wait() for child in children] == [-signal.SIGTERM] * 6
