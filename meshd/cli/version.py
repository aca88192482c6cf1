"""`meshd version`."""

from __future__ import annotations

import meshd
from meshd.cli.output import JsonFlag, print_json


def version(as_json: JsonFlag = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": meshd.__version__})
    else:
        print(meshd.__version__)
