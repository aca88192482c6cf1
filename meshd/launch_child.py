"""The small process between the agent and one child: it sees to it that the child never outlives the agent.

Run by `meshd.launcher` as `python -I -S launch_child.py AGENT_PID GRACE_S ORDER_BYTES NAME`; imports nothing of
ours. NAME is only for people who read `ps`.

    stdin   the order (`meshd.launcher.encode_order`), then nothing: end of file means that the agent is gone
            or wants the child gone
    stdout  the report: `pid N` once the child runs, or `failed ERRNO` when it could not start; `done` at the end
    stderr  the log file; becomes the child's stdout and stderr

Two guards, because each has a hole. PR_SET_PDEATHSIG (Linux) works at once, also for a process that is killed
while the pipe is held open elsewhere, but it fires when the *thread* that forked ends: hence this process, whose
one thread lives as long as it does, and hence the look at getppid() before it believes its own signal. The pipe
works everywhere, but nobody reads it once this process is killed. macOS has only the pipe: there a SIGKILL of
this process leaves the child to the agent, which still knows its process group.

It ends the way the child ended: with its exit code, or by its signal.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PARENT_GONE = signal.SIGUSR1
"""Our own death signal from the kernel: one that a handler can weigh, since a mere thread's end sends it too."""

COULD_NOT_START = 127


def main() -> None:
    agent, grace_s, order_bytes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    signals = catch_signals()
    prctl(PR_SET_PDEATHSIG, PARENT_GONE)
    if os.getppid() != agent:
        sys.exit(f"meshd launcher: the agent (pid {agent}) ended before its child began")
    argv, environment = read_order(order_bytes)
    child = start(argv, environment)
    report(f"pid {child}")
    status = watch(child, signals, agent, grace_s)
    end_group(child, signal.SIGKILL)  # what the child started must not outlive it either
    report("done")
    end_like(status)


def prctl(option: int, value: int) -> None:
    """Call prctl(2) where there is one; elsewhere the pipe is the only guard."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        message = os.strerror(ctypes.get_errno())
        print(f"meshd launcher: prctl({option}) refused: {message}; the pipe guards alone", file=sys.stderr, flush=True)


def catch_signals() -> int:
    """Turn the signals that matter into bytes on a pipe, each byte a signal's number; return its reading end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, PARENT_GONE):
        signal.signal(number, lambda _number, _frame: None)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's; what they mean for us the agent decides
        signal.signal(number, signal.SIG_IGN)
    return reading


def read_order(size: int) -> tuple[list[str], dict[str, str]]:
    """The child's arguments and environment: `COUNT NUL arguments… NUL NAME=VALUE…`."""
    order = b""
    while len(order) < size:
        piece = os.read(0, size - len(order))
        if not piece:
            sys.exit(0)  # the agent left, or changed its mind: nothing runs yet
        order += piece
    count, *fields = os.fsdecode(order).split("\0")
    argv, pairs = fields[: int(count)], fields[int(count) :]
    return argv, dict(pair.split("=", 1) for pair in pairs)


def start(argv: list[str], environment: dict[str, str]) -> int:
    """Fork and exec the child in a session and process group of its own; return its pid once exec succeeded."""
    failed_reading, failed_writing = os.pipe()  # closed by a successful exec
    launcher = os.getpid()
    child = os.fork()
    if child == 0:
        become(argv, environment, launcher, failed_writing)
    os.close(failed_writing)
    failure = os.read(failed_reading, 16)
    os.close(failed_reading)
    if failure:
        os.waitpid(child, 0)
        report(f"failed {failure.decode()}")
        os._exit(COULD_NOT_START)
    return child


def become(argv: list[str], environment: dict[str, str], launcher: int, failed: int) -> None:
    """Between fork and exec. Never returns; tells `failed` the errno when exec does not work."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(COULD_NOT_START)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):  # exec keeps SIG_IGN
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(COULD_NOT_START)


def report(line: str) -> None:
    """Tell the agent, if it is still there."""
    with contextlib.suppress(ConnectionError):
        os.write(1, line.encode() + b"\n")


def watch(child: int, signals: int, agent: int, grace_s: float) -> int:
    """Wait for the child's end, bringing it about when asked to or orphaned. Its status as waitpid gives it."""
    while (status := ended(child)) is None:
        if must_stop(signals, agent):
            return stop(child, signals, grace_s)
    return status


def ended(child: int) -> int | None:
    """The child's status, or None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return status if pid else None


def must_stop(signals: int, agent: int) -> bool:
    """Sleep until something happens, and say whether it means the child's end."""
    ready, _, _ = select.select([0, signals], [], [])
    numbers = os.read(signals, 512) if signals in ready else b""
    pipe_closed = 0 in ready and not os.read(0, 512)
    return pipe_closed or signal.SIGTERM in numbers or os.getppid() != agent


def stop(child: int, signals: int, grace_s: float) -> int:
    """SIGTERM to the child's group and, when `grace_s` have passed, SIGKILL. Its status."""
    end_group(child, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (status := ended(child)) is None:
        ready, _, _ = select.select([signals], [], [], max(0.0, deadline - time.monotonic()))
        if ready:
            os.read(signals, 512)
        elif time.monotonic() >= deadline:
            end_group(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
    return status


def end_group(leader: int, number: int) -> None:
    """Signal every process of the group; there may be none left (macOS answers EPERM then)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def end_like(status: int) -> None:
    """Exit as the child did, so that the agent's own wait for us gives the child's status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        prctl(PR_SET_DUMPABLE, 0)  # one core dump, the child's, is enough
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
