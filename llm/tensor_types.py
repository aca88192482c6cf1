"""How many bytes a tensor of each ggml type takes. A test compares the table with the `gguf` package's."""

from __future__ import annotations

UNQUANTISED = {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2}
BLOCKS_OF_32 = {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 20: 18, 39: 17}
SUPER_BLOCKS = {10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 15: 292, 16: 66, 17: 74, 18: 98, 19: 50, 21: 110}
SUPER_BLOCKS |= {22: 82, 23: 136, 29: 56, 34: 54, 35: 66}

BLOCKS: dict[int, tuple[int, int]] = {
    # ggml_type: (elements in a block, bytes of a block)
    **{kind: (1, size) for kind, size in UNQUANTISED.items()},
    **{kind: (32, size) for kind, size in BLOCKS_OF_32.items()},
    **{kind: (256, size) for kind, size in SUPER_BLOCKS.items()},
    40: (64, 36),
    41: (128, 18),
}


def tensor_bytes(ggml_type: int, elements: int) -> int:
    """Bytes of a tensor; 0 for a type that is newer than this table."""
    block = BLOCKS.get(ggml_type)
    if block is None:
        return 0
    return -(-elements // block[0]) * block[1]
