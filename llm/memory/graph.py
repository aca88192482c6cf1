"""A computation graph of ggml in outline, and how large a buffer ggml's graph allocator would give it.

An engine's compute buffer is no sum that metadata states: it is the peak of an allocator that walks the graph,
gives each tensor the best fitting gap, lets some operations write over their operand, and frees what nobody reads
again. So the same walk is made here over an outline of the graph. Source: ggml/src/ggml-alloc.c and the splits of
ggml-backend.cpp (llama.cpp 0c1e570). Tensors outside the buffer, weights and the KV cache, do not appear.
Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import prod

F32, F16, I32, I64 = 4, 2, 4, 8


@dataclass(eq=False, slots=True)
class Node:
    """A tensor of the graph. shape: ggml's order.  strides: in bytes.  reads: its operands in the buffer.

    view_of: whose memory it shows.  is_outside: a view of a weight or the cache.  may_overwrite: the operation can
    write over an operand of the same layout.  is_input: filled before the computation.  device: index of the buffer
    that it lives in.
    """

    shape: tuple[int, ...]
    item_bytes: int
    reads: tuple[Node, ...] = ()
    view_of: Node | None = None
    is_outside: bool = False
    may_overwrite: bool = False
    is_input: bool = False
    is_output: bool = False
    device: int = 0
    strides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.strides:
            self.strides = tuple(self.item_bytes * prod(self.shape[:axis]) for axis in range(len(self.shape)))

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * self.item_bytes

    @property
    def is_view(self) -> bool:
        return self.view_of is not None or self.is_outside

    @property
    def layout(self) -> tuple[object, ...]:
        return (self.item_bytes, *_without_ones(self.shape, self.strides))


def _without_ones(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    pairs = list(zip(shape, strides, strict=True))
    while len(pairs) > 1 and pairs[-1][0] == 1:
        pairs.pop()
    return pairs


def view(source: Node, shape: tuple[int, ...], strides: tuple[int, ...] = ()) -> Node:
    """Another look at the memory of `source`."""
    root = source.view_of or source
    return Node(shape, source.item_bytes, (source,), root, source.is_outside, device=source.device, strides=strides)


@dataclass(slots=True)
class Graph:
    """Nodes in the order in which they are computed; inputs are there from the beginning."""

    inputs: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def expand(self, node: Node) -> Node:
        """Add `node` after everything it reads."""
        pending = [(node, False)]
        while pending:
            current, is_ready = pending.pop()
            if is_ready:
                (self.inputs if current.is_input else self.nodes).append(current)
            elif id(current) not in self.seen:
                self.seen.add(id(current))
                pending.append((current, True))
                pending.extend((source, False) for source in reversed(current.reads))
        return node


# The allocator


class _Space:
    """The free blocks of one buffer, ordered by offset; the last one has no end."""

    def __init__(self, alignment: int) -> None:
        self._alignment = alignment
        self._free: list[list[int]] = [[0, 1 << 62]]
        self.peak = 0

    def padded(self, size: int) -> int:
        return -(-size // self._alignment) * self._alignment

    def take(self, size: int) -> int:
        """The offset of `size` bytes: the smallest gap that holds them, else at the end."""
        size = self.padded(size)
        fitting = [block for block in self._free[:-1] if block[1] >= size]
        # Of equal gaps ggml takes the last.
        block = min(reversed(fitting), key=lambda gap: gap[1]) if fitting else self._free[-1]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if block[1] == 0:
            self._free.remove(block)
        self.peak = max(self.peak, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        size = self.padded(size)
        if not size:
            return
        place = next((index for index, block in enumerate(self._free) if block[0] > offset), len(self._free))
        self._free.insert(place, [offset, size])
        for index in (place, place - 1):
            if 0 <= index < len(self._free) - 1 and sum(self._free[index]) == self._free[index + 1][0]:
                self._free[index][1] += self._free[index + 1][1]
                del self._free[index + 1]


class _Walk:
    """One pass over a graph: who is still read by how many, and where each tensor lies."""

    def __init__(self, spaces: list[_Space]) -> None:
        self._spaces = spaces
        self._readers: defaultdict[int, int] = defaultdict(int)
        self._views: defaultdict[int, int] = defaultdict(int)
        self._offsets: dict[int, int] = {}
        self._held: set[int] = set()

    def run(self, inputs: list[Node], nodes: list[Node], keepers: set[int]) -> None:
        for node in inputs:
            self._place(node)
        for node in nodes:
            if node.view_of is not None and id(node) not in keepers:
                self._views[id(node.view_of)] += 1
            for source in node.reads:
                self._readers[id(source)] += 1
        for node in nodes:
            self._place(node)
            for source in node.reads:
                self._leave(source)

    def _place(self, node: Node) -> None:
        if node.is_view or id(node) in self._offsets:
            return
        self._held.add(id(node))
        if node.may_overwrite and self._overwrite(node):
            return
        self._offsets[id(node)] = self._spaces[node.device].take(node.size_bytes)

    def _overwrite(self, node: Node) -> bool:
        """Whether `node` could take over the memory of an operand that nobody else reads, and is no view."""
        for parent in node.reads:
            if parent.is_view or parent.is_output or id(parent) not in self._held or parent.layout != node.layout:
                continue
            if self._readers[id(parent)] != 1 or self._views[id(parent)] or parent.device != node.device:
                continue
            self._held.discard(id(parent))
            self._offsets[id(node)] = self._offsets[id(parent)]
            return True
        return False

    def _leave(self, source: Node) -> None:
        self._readers[id(source)] -= 1
        if self._readers[id(source)] or self._views[id(source)] or source.is_outside:
            return
        owner = source
        if source.view_of is not None:
            owner = source.view_of
            self._views[id(owner)] -= 1
            if self._views[id(owner)] or self._readers[id(owner)]:
                return
        if id(owner) in self._held and not owner.is_output:
            self._held.discard(id(owner))
            self._spaces[owner.device].give(self._offsets[id(owner)], owner.size_bytes)


def buffer_bytes(graph: Graph, alignments: tuple[int, ...], copies: int = 1) -> tuple[int, ...]:
    """The compute buffer of each device.

    alignments: of each device's buffers.  copies: of all that crosses between devices; more than one where several
    devices work on different micro-batches at once, and then these are never freed.
    """
    spaces = [_Space(alignment) for alignment in alignments]
    nodes, crossing, keepers = _with_copies(graph.nodes)
    inputs = graph.inputs
    if copies > 1:
        standing = [*graph.inputs, *crossing]
        for node in standing:
            node.is_output = True
        inputs = [_twin(node, number) for node in standing for number in range(copies)]
    _Walk(spaces).run(inputs, nodes, keepers)
    return tuple(space.peak for space in spaces)


def _twin(node: Node, number: int) -> Node:
    return Node(node.shape, node.item_bytes, device=node.device) if number else node


def _with_copies(nodes: list[Node]) -> tuple[list[Node], list[Node], set[int]]:
    """The nodes with a copy of each operand that lies on another device, made where the device changes.

    Returns the copies, and the ids of the nodes that only keep a source alive until it was copied, too.
    """
    ordered: list[Node] = []
    keepers: set[int] = set()
    copies: dict[tuple[int, int], Node] = {}
    for split in _splits(nodes):
        for node in split:
            if node.view_of is None:
                node.reads = tuple(_near(source, node.device, copies, ordered, keepers) for source in node.reads)
        ordered += split
    return ordered, list(copies.values()), keepers


def _near(
    source: Node, device: int, copies: dict[tuple[int, int], Node], ordered: list[Node], keepers: set[int]
) -> Node:
    """`source`, or its copy on `device`, which is made now if it is the first to be needed."""
    if source.device == device:
        return source
    copy = copies.get((id(source), device))
    if copy is None:
        keeper = Node(source.shape, source.item_bytes, (source,), source.view_of or source, device=source.device)
        copy = Node(source.shape, source.item_bytes, device=device)
        copies[id(source), device] = copy
        keepers.add(id(keeper))
        ordered += [keeper, copy]
    return copy


def _splits(nodes: list[Node]) -> list[list[Node]]:
    """Runs of nodes on one device; a view never begins a new one."""
    splits: list[list[Node]] = [[]]
    device: int | None = None
    for node in nodes:
        if node.view_of is None:
            if device is not None and node.device != device:
                splits.append([])
            device = node.device
        splits[-1].append(node)
    return splits
