"""What `meshd demo` does and shows. Apart from `demo`, because it loads far more than a command line needs."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

import llm.demo
from meshd.cli.output import fail, print_json, say
from meshd.demo import CALL, QUESTION, CallResult, ChatResult, DemoFailed, DemoMesh, ask, bend, demo_mesh, overview
from meshd.impaired_agents import ImpairedAgents
from transport.impairment import parse_conditions

TOY_MODEL = Path(llm.demo.__file__).with_name("meshd-toy.gguf")


def show_demo(nodes: int, impair: str, once: bool, as_json: bool) -> None:
    """Run the demo to its end; exit 1 with the reason when it cannot show what it should.

    impair: as `parse_conditions` reads it, empty for ways as good as this machine's.
    """
    try:
        answer = asyncio.run(_demo(nodes, impair, once, as_json))
    except DemoFailed as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json and once:
        print_json(answer)


async def _demo(nodes: int, impair: str, once: bool, as_json: bool) -> dict[str, Any]:
    if impair:
        say(f"between the agents, in each direction: {impair}")
    async with demo_mesh(TOY_MODEL, nodes, say, parse_conditions(impair) if impair else None) as mesh:
        say(f"\nasking the toy model through {mesh.client.name}'s own API at {mesh.api}\n> {QUESTION}\n")
        result = await ask(mesh, QUESTION, _quiet if as_json else _type_out)
        called = await bend(mesh, CALL)
        answer = _summary(result, called, mesh, await overview(mesh)) | _ways(impair, mesh.ways)
        _show(answer, as_json)
        if not once:
            if as_json:
                print_json(answer)
            await _until_interrupted(mesh)
    return answer


def _summary(result: ChatResult, called: CallResult, mesh: DemoMesh, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    engine = f"llama-server ({result.mode})"
    return {
        "answer": result.answer,
        "path": [mesh.client.name, "QUIC", result.node, engine],
        "ttft_ms": round(result.ttft_ms, 1),
        "tokens_per_s": round(result.tokens_per_s, 1),
        "bend": asdict(called) | {"ms": round(called.ms, 1), "path": [mesh.client.name, "QUIC", called.node]},
        "nodes": nodes,
    }


def _ways(impair: str, ways: ImpairedAgents | None) -> dict[str, Any]:
    if ways is None:
        return {}
    return {"impaired": {"conditions": impair, "passed": ways.passed(), "dropped": dict(ways.dropped())}}


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if not as_json:
        sys.stdout.write("\n\n")
    say(f"path: {' → '.join(answer['path'])}")
    say(f"time to first token {answer['ttft_ms']} ms, then {answer['tokens_per_s']} tokens/s")
    called = answer["bend"]
    say(f"bend: {called['call']}\n  {called['reply']}")
    say(f"  path: {' → '.join(called['path'])}, by its {called['backend']}, {called['ms']} ms")
    if ways := answer.get("impaired"):
        lost = ", ".join(f"{count} lost to {cause}" for cause, count in ways["dropped"].items())
        say(f"over ways with {ways['conditions']}: {ways['passed']} packets passed, {lost or 'none lost'}")
    for node in answer["nodes"]:
        say(f"  {node['name']:<10} {node['role']:<7} {'HOST' if node['host'] else '':<5} {node['api']}")


def _quiet(_: str) -> None:
    pass


def _type_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def _until_interrupted(mesh: DemoMesh) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    say("\nthe mesh stays up until Ctrl-C; try from another terminal:")
    say(f"  curl {mesh.api}/v1/models")
    body = f'{{"model": "{mesh.model}", "messages": [{{"role": "user", "content": "What is bend?"}}]}}'
    say(f"  curl {mesh.api}/v1/chat/completions -H 'content-type: application/json' -d '{body}'")
    await stop.wait()
    say("stopping")
