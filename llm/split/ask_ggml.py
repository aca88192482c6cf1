"""Prints which ggml a folder of libraries holds, as one line of JSON. A program of its own: it loads those libraries.

Run as `python -I -S ask_ggml.py LIBRARY_DIR`; the libraries are found through LD_LIBRARY_PATH.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from pathlib import Path

OPERATION = re.compile(rb"[A-Z0-9_]{2,40}\Z")
MOST_OPERATIONS = 1000


def main(library_dir: Path) -> None:
    base = ctypes.CDLL(str(min(library_dir.glob("libggml-base.*"), key=_preference)))
    for name in ("ggml_version", "ggml_commit", "ggml_op_name"):
        getattr(base, name).restype = ctypes.c_char_p
    version, commit = base.ggml_version().decode(), base.ggml_commit().decode()
    print(json.dumps({"ggml": version, "commit": commit, "operations": _operations(base)}))


def _preference(library: Path) -> tuple[bool, str]:
    """The wheel holds separate copies, and only `.so.0` is the one that the programs load."""
    return not library.name.endswith((".so.0", ".0.dylib")), library.name


def _operations(base: ctypes.CDLL) -> int:
    """GGML_OP_COUNT, which no function tells: the table of names ends with the first entry that is no name."""
    for number in range(MOST_OPERATIONS):
        name = base.ggml_op_name(number)
        if name is None or not OPERATION.match(name):
            return number
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
