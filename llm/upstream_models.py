"""Keeps a node's models in step with what an upstream server says it serves."""

from __future__ import annotations

import asyncio
import hashlib
import logging

from llm.engines.upstream import Upstream, UpstreamEngine
from llm.host import Host, ServedModel

logger = logging.getLogger("meshd.llm")


def upstream_fingerprint(model: str) -> str:
    """Which model an upstream means: we cannot see its files, so its name must do. 64 hex digits."""
    return hashlib.sha256(f"meshd upstream model {model}".encode()).hexdigest()


async def serve_upstream(upstream: Upstream, host: Host) -> None:
    """Watch `upstream` and offer its models on `host` until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(upstream.run(), name=f"upstream {upstream.options.name}")
        offered: dict[str, str] = {}
        while True:
            wanted = upstream.offered
            for name in offered.keys() - wanted.keys():
                del offered[name]
                group.create_task(_remove(host, name), name=f"remove {name}")
            for name in wanted.keys() - offered.keys():
                if _offer(host, name, UpstreamEngine(upstream, wanted[name]), wanted[name]):
                    offered[name] = wanted[name]
            await upstream.changed()


async def _remove(host: Host, name: str) -> None:
    logger.info("model %s is no longer served by its upstream", name)
    await host.remove(name)


def _offer(host: Host, name: str, engine: UpstreamEngine, model: str) -> bool:
    try:
        host.add(ServedModel(name, engine, upstream_fingerprint(model)))
    except ValueError:
        # Tried again at the next look: the other one may go.
        logger.debug("model %s of an upstream has the name of another model here: give the upstream a prefix", name)
        return False
    return True
