"""A program that discovers and prints what it finds, one JSON object a line; for hosts that are namespaces.

Arguments: mesh id (hex), node number, port, and this host's address. Runs until it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys

from transport.advertisement import Found
from transport.discovery import Discovery
from transport.interface import Address, NodeId


def show(found: Found) -> None:
    addresses = [[address.host, address.port] for address in found.addresses]
    print(json.dumps({"node": found.node[0], "addresses": addresses}), flush=True)


def main() -> None:
    mesh_id, number, port, host = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    address = Address(host, port)
    asyncio.run(Discovery(mesh_id, NodeId(bytes([number]) * 32), lambda: (address,), show).run())


if __name__ == "__main__":
    main()
