"""Settings: which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshd.config import BadConfig, Config, default_data_dir, resolve


def test_flag_beats_environment_beats_file_beats_default() -> None:
    document = {"port": 1, "name": "file", "ctx": 5}
    environment = {"MESHD_PORT": "2", "MESHD_NAME": "environment"}

    resolved = resolve({"port": 3}, environment, document)

    assert (resolved.config.port, resolved.config.name, resolved.config.ctx) == (3, "environment", 5)
    assert resolved.sources["port"] == "--port"
    assert resolved.sources["name"] == "MESHD_NAME"
    assert resolved.sources["ctx"] == "meshd.toml"
    assert resolved.sources["parallel"] == "default"


def test_a_flag_of_zero_was_given() -> None:
    assert resolve({"port": 0}, {"MESHD_PORT": "9"}, {}).config.port == 0


def test_defaults_open_nothing_to_the_network_but_the_mesh() -> None:
    config = resolve({}, {}, {}).config

    assert config == Config()
    assert config.listen == "127.0.0.1"


def test_lists_come_from_flags_files_and_comma_separated_variables() -> None:
    assert resolve({"model": ["a", "b"]}, {}, {}).config.model == ("a", "b")
    assert resolve({}, {"MESHD_MODEL": "a,b"}, {}).config.model == ("a", "b")
    assert resolve({}, {}, {"model": ["a"]}).config.model == ("a",)


@pytest.mark.parametrize(
    ("flags", "environment", "document", "message"),
    [
        ({}, {"MESHD_PORT": "many"}, {}, "MESHD_PORT: expected int, got 'many'"),
        ({"port": 70000}, {}, {}, "port: expected 0 to 65535"),
        ({}, {}, {"prot": 1}, "unknown setting 'prot'"),
        ({"kv_type": "f64"}, {}, {}, "expected one of f16, q8_0, q4_0"),
        ({"client": True, "model": ["m"]}, {}, {}, "a lite client hosts nothing"),
        ({"bend_listen": "0.0.0.0"}, {}, {}, "--bend-key-file"),
        ({}, {"MESHD_CLIENT": "perhaps"}, {}, "expected true or false"),
        ({"port": 70000}, {}, {}, "^--port: expected"),
        ({}, {"MESHD_PORT": "70000"}, {}, "^MESHD_PORT: expected"),
        ({}, {}, {"port": 70000}, "^meshd.toml: port: expected"),
        ({}, {}, {"join": 5}, "^meshd.toml: join: expected a list, got 5"),
        ({"bind": "here"}, {}, {}, "^--bind: expected HOST:PORT"),
        ({"name": "two\nlines"}, {}, {}, "^--name: expected at most 64 characters in one line"),
        ({"allow_origin": ["play.example"]}, {}, {}, "^--allow-origin: .*such as https://play.example"),
        ({"keyless_network": ["10.0.0.1/8"]}, {}, {}, "^--keyless-network: "),
        ({"port": 3131}, {}, {}, "two doors of this node want port 3131"),
    ],
)
def test_a_bad_setting_is_named_with_its_source(
    flags: dict[str, Any], environment: dict[str, str], document: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        resolve(flags, environment, document)


def test_doors_on_different_addresses_may_have_one_port() -> None:
    flags = {"listen": "10.0.0.1", "port": 8320}

    assert resolve(flags, {}, {}).config.bend_port == 8320


def test_a_door_that_is_closed_takes_no_port() -> None:
    assert resolve({"port": 3131, "no_console": True}, {}, {}).config.port == 3131


def test_the_data_directory_follows_xdg() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/d"}, Path("/h")) == Path("/d/meshd")
    assert default_data_dir({}, Path("/h")) == Path("/h/.local/share/meshd")
