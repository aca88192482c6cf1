"""What doctor looks at around this host, on this one as it is and with what can be broken here."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from meshd.belonging import load
from meshd.datadir import DataDir
from meshd.doctor import Check
from meshd.doctor_list import ALL_PROBES
from meshd.doctor_probes import DoctorOptions, run_checks
from meshd.key_store import keys_of
from meshd.keys import Limits
from meshd.standing import Standing
from transport.revocation import Names

pytestmark = pytest.mark.live


@pytest.fixture
def options(tmp_path: Path) -> DoctorOptions:
    directory = DataDir(tmp_path / "data")
    directory.create()
    return DoctorOptions(directory.root, {}, "127.0.0.1", None, engine_wanted=False)


async def check(name: str, options: DoctorOptions) -> Check:
    (found,) = await run_checks(options, {name: ALL_PROBES[name]})
    return found


async def test_a_host_without_an_agent_has_nothing_to_say_of_peers(options: DoctorOptions) -> None:
    assert await run_checks(options, {"peers": ALL_PROBES["peers"]}) == []
    assert (await check("mtu", options)).ok


async def test_a_key_makes_an_open_address_well(options: DoctorOptions) -> None:
    exposed = replace(options, listen="0.0.0.0")
    assert (await check("api-key", options)).ok
    assert not (await check("api-key", exposed)).ok
    keys_of(options.data_dir).change(lambda ring: ring.create("laptop", Limits(), bytes(32), 0.0))
    assert (await check("api-key", exposed)).ok


async def test_a_damaged_file_of_keys_is_told(options: DoctorOptions) -> None:
    (options.data_dir / "keys.json").write_text("?")
    found = await check("api-key", options)
    assert (found.ok, "keys.json" in found.fix) == (False, True)


async def test_a_stale_data_directory_is_told(options: DoctorOptions) -> None:
    assert (await check("membership", options)).ok
    directory = DataDir(options.data_dir)
    belonging = load(directory, os.urandom)
    belonging.found("home", 1_000_000_000.0, os.urandom)  # in 2001: it has ended since
    found = await check("membership", options)
    assert (found.ok, "--join" in found.fix) == (False, True)


async def test_a_revoked_node_is_told_so_and_not_that_its_network_fails(options: DoctorOptions) -> None:
    belonging = load(DataDir(options.data_dir), os.urandom)
    belonging.found("home", time.time(), os.urandom)
    standing = Standing(belonging, time.time, os.urandom)
    assert (await check("membership", options)).ok
    standing.revoke(Names(nodes=frozenset({belonging.key.node})))
    found = await check("membership", options)
    assert (found.ok, "has revoked this node" in found.detail) == (False, True)


async def test_what_a_newer_version_wrote_is_told_and_not_looked_into(options: DoctorOptions) -> None:
    assert (await check("data-dir", options)).ok
    DataDir(options.data_dir).write("format", b"99")
    DataDir(options.data_dir).write("node.key", b"as nobody knows yet")
    found = await check("data-dir", options)
    assert (found.ok, "format 99" in found.detail, "up to date" in found.fix) == (False, True, True)
    assert await run_checks(options, {"membership": ALL_PROBES["membership"]}) == []


async def test_a_damaged_data_directory_is_told_by_the_file(options: DoctorOptions) -> None:
    load(DataDir(options.data_dir), os.urandom)
    (options.data_dir / "mesh").write_bytes(b"?")
    found = await check("membership", options)
    assert not found.ok
    assert "mesh" in found.detail


async def test_this_host_has_multicast_to_itself_and_a_driver_that_fits(options: DoctorOptions) -> None:
    assert (await check("cupy", options)).ok
    await check("multicast", options)  # well or not, as this host is; tests/netns breaks it
