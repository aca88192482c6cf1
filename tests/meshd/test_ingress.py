"""Who may use the API: keys, their limits, and networks that need none."""

from __future__ import annotations

import pytest

from meshd.ingress import Ingress, Networks, RateLimited, Unauthorized, parse_networks
from meshd.keys import KeyRing, Limits

LAN = "192.168.1.7"


def opened(limits: Limits | None = None, networks: Networks | None = None) -> tuple[Ingress, str]:
    ring, secret = KeyRing().create("laptop", limits or Limits(), bytes(32), 0.0)
    return Ingress(lambda: ring, lambda: 10.0, networks or Networks()), secret


def test_a_node_without_keys_lets_everybody_in_who_reaches_it() -> None:
    assert Ingress(KeyRing, lambda: 0.0).identify("anything", "127.0.0.1") is None


def test_a_node_with_keys_wants_one_on_loopback_too() -> None:
    ingress, secret = opened()
    assert ingress.identify(secret, "127.0.0.1") is not None
    for given, said in (("", "needs a key"), ("sk-meshd-wrong", "not known")):
        with pytest.raises(Unauthorized, match=said):
            ingress.identify(given, "127.0.0.1")


def test_revoking_the_last_key_does_not_open_the_door() -> None:
    ring, secret = KeyRing().create("laptop", Limits(), bytes(32), 0.0)
    ring, _ = ring.revoke("laptop", 5.0)
    ingress = Ingress(lambda: ring, lambda: 10.0)
    with pytest.raises(Unauthorized, match="'laptop' is revoked"):
        ingress.identify(secret, None)
    with pytest.raises(Unauthorized):
        ingress.identify("", None)


def test_an_expired_key_says_so() -> None:
    ingress, secret = opened(Limits(lasts_s=10.0))
    with pytest.raises(Unauthorized, match="expired"):
        ingress.identify(secret, LAN)


def test_trusted_networks_need_no_key_and_others_do() -> None:
    networks = Networks(keyless=parse_networks(["192.168.1.0/24", "fd00::/8"], "--keyless-network"))
    ingress, _ = opened(networks=networks)
    for trusted in (LAN, "::ffff:192.168.1.9", "fd00::1%eth0"):
        assert ingress.identify("", trusted) is None
    for host in ("192.168.2.7", "10.0.0.1", None, "nonsense"):
        with pytest.raises(Unauthorized):
            ingress.identify("", host)


def test_a_key_has_a_minutes_worth_at_once_and_then_what_drips_in() -> None:
    ingress, secret = opened(Limits(requests_per_min=6))
    key = ingress.identify(secret, LAN)
    for _ in range(6):
        ingress.begin(key, LAN, 100.0)()
    with pytest.raises(RateLimited, match="6 requests a minute") as refused:
        ingress.begin(key, LAN, 100.0)
    assert refused.value.retry_after_s == 10
    with pytest.raises(RateLimited):
        ingress.begin(key, LAN, 109.9)
    ingress.begin(key, LAN, 110.1)()


def test_a_key_has_so_many_requests_at_a_time() -> None:
    ingress, secret = opened(Limits(concurrency=2))
    key = ingress.identify(secret, LAN)
    end, _ = ingress.begin(key, LAN, 0.0), ingress.begin(key, LAN, 0.0)
    with pytest.raises(RateLimited, match="2 requests at a time"):
        ingress.begin(key, LAN, 0.0)
    end()
    ingress.begin(key, LAN, 0.0)


def test_a_request_that_is_refused_for_its_company_costs_nothing_of_the_rate() -> None:
    ingress, secret = opened(Limits(requests_per_min=2, concurrency=1))
    key = ingress.identify(secret, LAN)
    end = ingress.begin(key, LAN, 0.0)
    for _ in range(5):
        with pytest.raises(RateLimited, match="at a time"):
            ingress.begin(key, LAN, 0.0)
    end()
    ingress.begin(key, LAN, 0.0)()


def test_limits_do_not_count_on_unlimited_networks() -> None:
    networks = Networks(unlimited=parse_networks(["192.168.1.0/24"], "--unlimited-network"))
    ingress, secret = opened(Limits(requests_per_min=1, concurrency=1), networks)
    key = ingress.identify(secret, LAN)
    for _ in range(10):
        ingress.begin(key, LAN, 0.0)


def test_a_network_that_is_none_is_named_with_its_option() -> None:
    with pytest.raises(ValueError, match="--keyless-network"):
        parse_networks(["192.168.1.1/24"], "--keyless-network")
