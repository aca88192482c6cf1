"""Opens every door of this host before anything starts, so that a taken port leaves nothing half done."""

from __future__ import annotations

import contextlib
from pathlib import Path

from meshd.bend import open_bend
from meshd.config import Config, is_loopback
from meshd.console.door import open_console
from meshd.datadir import DataDir
from meshd.footing import Listeners
from meshd.http_server import listen_tcp, listen_unix
from meshd.ingress import Ingress, Networks, parse_networks
from meshd.key_store import keys_of
from meshd.keys import KeyRing, plain_keys, read_key_file
from meshd.ports import Door, naming_the_holder
from meshd.standing import UnixTime


def open_listeners(
    config: Config, directory: DataDir, unix_time: UnixTime, stack: contextlib.AsyncExitStack
) -> Listeners:
    """Everything but the mesh's own socket. Leaving `stack` closes them.

    Raises PortTaken, NoSuchAddress, BadKeys, OSError; ValueError for an API that everybody on the network could use.
    """
    ingress, is_local = _ingress(config, directory, unix_time), is_loopback(config.listen)
    if not is_local and not ingress.ring().keys:
        raise ValueError(
            f"--listen {config.listen} opens the API to the network: make a key first with `meshd key create NAME`,"
            " or give --api-key-file"
        )
    with naming_the_holder(Door("tcp", config.listen, config.port, "--port {port}")):
        api = stack.enter_context(listen_tcp(config.listen, config.port))
    console = open_console(config, stack)
    bend = open_bend(config, stack)
    control = stack.enter_context(listen_unix(str(directory.control_socket)))
    stack.callback(directory.control_socket.unlink, missing_ok=True)
    return Listeners(api, console, control, ingress, config.allow_origin, is_local, bend)


def _ingress(config: Config, directory: DataDir, unix_time: UnixTime) -> Ingress:
    """Keys of the file that was named, as it is now, and those of `meshd key`, as they come and go."""
    store = keys_of(directory.root)
    plain = plain_keys(read_key_file(Path(config.api_key_file).read_text()) if config.api_key_file else ())
    store.now()  # a damaged file is told now
    networks = Networks(
        parse_networks(config.keyless_network, "--keyless-network"),
        parse_networks(config.unlimited_network, "--unlimited-network"),
    )
    return Ingress(lambda: KeyRing(plain.keys + store.now().keys), unix_time, networks)
