from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from rich.console import Console

from meshd.doctor import (
    MIN_FREE_BYTES,
    RELEASED,
    Check,
    DiskFacts,
    EngineFacts,
    PortFacts,
    PrivateFile,
    UdpFacts,
    as_object,
    judge_clock,
    judge_disk,
    judge_engine,
    judge_port,
    judge_private_files,
    judge_udp,
    render,
)


def test_a_free_port_is_well() -> None:
    check = judge_port(PortFacts("port-api", "TCP port 9337", None, "", ""))
    assert check == Check("port-api", True, "TCP port 9337 is free")


def test_our_own_agent_may_hold_its_port() -> None:
    check = judge_port(PortFacts("port-api", "TCP port 9337", 42, "", ""))
    assert check == Check("port-api", True, "TCP port 9337 is held by the running agent (pid 42)")


def test_a_taken_port_is_not_well() -> None:
    check = judge_port(PortFacts("port-api", "TCP port 9337", None, "held by `x` (pid 1)", "stop it"))
    assert check == Check("port-api", False, "held by `x` (pid 1)", "stop it")


def test_an_engine_that_answers_is_well() -> None:
    check = judge_engine(EngineFacts(True, "/bin/llama-server", 0, "version: 1\nbuilt"))
    assert check == Check("engine", True, "/bin/llama-server: version: 1 built")


def test_a_lite_client_needs_no_engine() -> None:
    assert judge_engine(EngineFacts(False, None, None, "")).ok


@pytest.mark.parametrize(
    ("facts", "detail", "fix"),
    [
        (EngineFacts(True, None, None, ""), "not found", "meshd-gpu[llm]"),
        (
            EngineFacts(True, "e", 127, "e: error while loading shared libraries: libx.so"),
            "does not find",
            "just engine",
        ),
        (EngineFacts(True, "e", -6, "dyld: Library not loaded: @rpath/libx.dylib"), "does not find", "just engine"),
        (EngineFacts(True, "e", -4, ""), "ended with status -4", "just engine"),
        (EngineFacts(True, "e", None, "Exec format error"), "cannot be run: Exec format error", "just engine"),
    ],
)
def test_a_broken_engine_says_how_and_what_to_do(facts: EngineFacts, detail: str, fix: str) -> None:
    check = judge_engine(facts)
    assert not check.ok and detail in check.detail and fix in check.fix


def test_an_engine_that_babbles_is_quoted_briefly() -> None:
    assert len(judge_engine(EngineFacts(True, "e", 1, "x" * 100_000)).detail) < 400


def test_udp_that_works() -> None:
    checks = judge_udp(UdpFacts({"IPv4": "", "IPv6": ""}, 8 << 20))
    assert [(check.name, check.ok, check.fix) for check in checks] == [
        ("udp-ipv4", True, ""),
        ("udp-ipv6", True, ""),
        ("udp-buffer", True, ""),
    ]


def test_udp_lost_over_one_family_leaves_the_other_well() -> None:
    ipv4, ipv6, _ = judge_udp(UdpFacts({"IPv4": "", "IPv6": "did not come back"}, 8 << 20))
    assert ipv4.ok and not ipv6.ok
    assert "did not come back" in ipv6.detail and "--bind 0.0.0.0:7842" in ipv6.fix


def test_udp_that_is_dropped_over_ipv4_points_to_the_firewall() -> None:
    ipv4, _ = judge_udp(UdpFacts({"IPv4": "did not come back"}, 8 << 20))
    assert not ipv4.ok and "firewall" in ipv4.fix


def test_no_udp_socket_at_all_points_to_another_address() -> None:
    (ipv4,) = judge_udp(UdpFacts({"IPv4": "Cannot assign"}, None))
    assert not ipv4.ok and "--bind" in ipv4.fix


def test_a_stock_receive_buffer_is_well_with_a_hint() -> None:
    stock_linux = 425_984
    (check,) = judge_udp(UdpFacts({}, stock_linux))
    assert check.ok and "net.core.rmem_max" in check.detail


def test_a_tiny_receive_buffer_is_not_well() -> None:
    (check,) = judge_udp(UdpFacts({}, 4096))
    assert not check.ok and "net.core.rmem_max" in check.fix


@pytest.mark.parametrize("now", [RELEASED, datetime(2031, 1, 1, tzinfo=timezone(timedelta(hours=-9)))])
def test_a_clock_after_the_release_is_well(now: datetime) -> None:
    assert judge_clock(now).ok


@pytest.mark.parametrize("now", [datetime(1970, 1, 1, tzinfo=UTC), RELEASED - timedelta(seconds=1)])
def test_a_clock_before_the_release_is_off(now: datetime) -> None:
    check = judge_clock(now)
    assert not check.ok and "before this version" in check.detail and "set-ntp" in check.fix


def test_a_clock_decades_ahead_is_off() -> None:
    assert "decades after" in judge_clock(datetime(2099, 1, 1, tzinfo=UTC)).detail


def test_room_on_the_disk() -> None:
    assert judge_disk(DiskFacts("/data", "/data", MIN_FREE_BYTES, "")) == Check("disk", True, "0.5 GiB free in /data")


def test_a_data_directory_yet_to_be_made() -> None:
    assert judge_disk(DiskFacts("/a/b", "/a", 1 << 40, "")).detail == "1024.0 GiB free in /a, /a/b can be made"


def test_a_disk_almost_full_is_not_well() -> None:
    check = judge_disk(DiskFacts("/data", "/data", MIN_FREE_BYTES - 1, ""))
    assert not check.ok and "free some space" in check.fix


def test_a_directory_that_cannot_be_written_is_not_well() -> None:
    check = judge_disk(DiskFacts("/data", "/data", 1 << 40, "Read-only file system"))
    assert not check.ok and "Read-only file system" in check.detail and "--data-dir" in check.fix


def test_closed_files_are_well() -> None:
    files = [PrivateFile("/data", 0o700, True), PrivateFile("/data/node.key", 0o600, True)]
    assert judge_private_files(files, "/data") == Check("key-files", True, "2 closed to others")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_an_open_key_is_not_well(mode: int) -> None:
    files = [PrivateFile("/my data/node.key", mode, True), PrivateFile("/my data/mesh", 0o600, True)]
    check = judge_private_files(files, "/my data")
    assert not check.ok and f"/my data/node.key (mode {mode:04o})" in check.detail
    assert check.fix == "chmod go= '/my data/node.key'"


def test_a_key_of_another_user_is_not_well() -> None:
    check = judge_private_files([PrivateFile("/data/node.key", 0o600, False)], "/data")
    assert not check.ok and check.fix == 'sudo chown -R "$USER" /data'


GOOD = Check("disk", True, "room [bold]enough[/bold] in [::]")
BAD = Check("port-api", False, "taken", "meshd --port 9338 " + "and a long explanation " * 5)


def test_the_object_for_scripts() -> None:
    assert as_object([GOOD]) == {
        "ok": True,
        "checks": [{"name": "disk", "ok": True, "detail": GOOD.detail, "fix": ""}],
    }
    assert as_object([GOOD, BAD])["ok"] is False


def shown(*checks: Check) -> str:
    page = io.StringIO()
    render(checks, Console(file=page, width=60))
    return page.getvalue()


def test_the_page_for_people_names_each_check_and_takes_no_detail_for_markup() -> None:
    assert shown(GOOD).split() == f"ok disk {GOOD.detail}".split()


def test_what_to_do_stands_on_one_line() -> None:
    assert f"  port-api: {BAD.fix}".rstrip() in [line.rstrip() for line in shown(GOOD, BAD).splitlines()]
