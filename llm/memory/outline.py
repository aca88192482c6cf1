"""Outlines the graph that llama.cpp builds for a model, as far as its memory goes.

It follows src/llama-graph.cpp, build_qkv to build_moe_ffn, and reads from the names of a layer's tensors which
parts a layer has, so that one outline serves every plain transformer. Operations that write over their operand and
change nothing for the allocator (scales, soft caps) are left out. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm.memory.graph import F16, F32, I32, I64, Graph, Node, view
from llm.memory.settings import EngineSettings, Sizes, window_cells
from llm.memory.shape import Layer, ModelShape, is_recurrent

ROTATED_SIZE = 64  # quantised caches are rotated by a Hadamard matrix where heads are a multiple of this
QUANTISED = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"})


@dataclass(frozen=True, slots=True)
class Placement:
    """Which device computes what. layers: of each layer.  output: of the last step.  host: holds the inputs."""

    layers: tuple[int, ...]
    output: int
    host: int


@dataclass(frozen=True, slots=True)
class _Cache:
    """The inputs of layers that look back equally far."""

    mask: Node
    key_ids: Node
    value_ids: Node
    key_rotation: Node | None
    value_rotation: Node | None


class _Outline:
    def __init__(self, shape: ModelShape, settings: EngineSettings, size: Sizes, place: Placement) -> None:
        self.graph = Graph()
        self._shape = shape
        self._experts_used = max(shape.experts_used, 1)
        self._settings = settings
        self._size = size
        self._place = place
        self._device = place.host
        self._caches = {window: self._cache(window) for window in sorted({layer.window for layer in shape.layers})}
        self._positions = self._input((size.tokens,), I32)
        self._output_ids = self._input((size.outputs,), I32)

    def build(self) -> Graph:
        """The graph of one micro-batch of a prompt."""
        width, tokens = self._shape.width, self._size.tokens
        stream = self.graph.expand(self._result((width, tokens), F32, self._input((tokens,), I32)))
        # The other way in, ready-made vectors, is allocated whether or not it is used.
        self.graph.expand(self._input((width, tokens), F32))
        for index, layer in enumerate(self._shape.layers):
            self._device = self._place.layers[index]
            stream = self._layer(layer, stream, is_last=index == len(self._shape.layers) - 1)
        self._device = self._place.output
        normed = self._norm(stream)
        normed.is_output = True
        logits = self._result((self._shape.vocabulary, normed.shape[1]), F32, normed)
        logits.is_output = True
        self.graph.expand(logits)
        return self.graph

    # Small parts

    def _input(self, shape: tuple[int, ...], item_bytes: int) -> Node:
        return Node(shape, item_bytes, is_input=True, device=self._place.host)

    def _result(self, shape: tuple[int, ...], item_bytes: int, *reads: Node) -> Node:
        return Node(shape, item_bytes, reads, device=self._device)

    def _over(self, *reads: Node) -> Node:
        """An operation that may write over an operand."""
        return Node(reads[0].shape, reads[0].item_bytes, reads, may_overwrite=True, device=self._device)

    def _norm(self, source: Node) -> Node:
        normed = self._result(source.shape, F32, source) if self._shape.centres else self._over(source)
        return self._over(normed)

    def _matmul(self, rows: int, source: Node) -> Node:
        return self._result((rows, *source.shape[1:]), F32, source)

    def _cache(self, window: int) -> _Cache:
        settings, size = self._settings, self._size
        cells = window_cells(settings, size, window) if window else size.cells
        widest = max(layer.value_width for layer in self._shape.layers)
        of_kind = [layer for layer in self._shape.layers if layer.window == window]
        per_token = 1 if settings.flash_attention else widest
        return _Cache(
            mask=self._input(
                (cells, size.tokens // size.streams, 1, size.streams), F16 if settings.flash_attention else F32
            ),
            key_ids=self._input((size.tokens,), I64),
            value_ids=self._input((size.tokens * per_token,), I64),
            key_rotation=self._rotation(settings.key_type, {layer.key_size for layer in of_kind}, largest=True),
            value_rotation=self._rotation(settings.value_type, {layer.value_size for layer in of_kind}, largest=False),
        )

    def _rotation(self, kind: str, head_sizes: set[int], *, largest: bool) -> Node | None:
        if kind not in QUANTISED or len(head_sizes) != 1:
            return None
        (head_size,) = head_sizes
        if not head_size or head_size % ROTATED_SIZE:
            return None
        size = ROTATED_SIZE
        while largest and head_size % (2 * size) == 0:
            size *= 2
        return self._input((size, size), F32)

    # A layer

    def _layer(self, layer: Layer, stream: Node, *, is_last: bool) -> Node:
        normed = self._norm(stream) if layer.has("attn_norm.weight") else stream
        attended = self._recurrence(layer, normed) if is_recurrent(layer.tensors) else self._attention(layer, normed)
        if is_last:
            attended = self._result((attended.shape[0], self._size.outputs), F32, attended, self._output_ids)
            stream = self._result((stream.shape[0], self._size.outputs), F32, stream, self._output_ids)
        names = ("ffn_norm.weight", "post_attention_norm.weight", "post_ffw_norm.weight")
        before, between, after = (layer.has(name) for name in names)
        if not (before or between or after):
            return self._beside(layer, stream, normed, attended)
        # One name, two places: after the attention, or, in gpt-oss, before the experts.
        if between and (before or after):
            attended = self._norm(attended)
        middle = self._over(attended, stream)
        fed = self._fed(layer, self._norm(middle) if before or not after else middle)
        return self._over(self._norm(fed) if after else fed, middle)

    def _beside(self, layer: Layer, stream: Node, normed: Node, attended: Node) -> Node:
        """Attention and feed-forward side by side, both of the same input."""
        if normed.shape[1] != attended.shape[1]:
            normed = self._result((normed.shape[0], attended.shape[1]), F32, normed, self._output_ids)
        return self._over(self._over(self._fed(layer, normed), stream), attended)

    def _fed(self, layer: Layer, source: Node) -> Node:
        return self._experts(layer, source) if layer.has("ffn_gate_inp.weight") else self._feed(layer, source)

    def _recurrence(self, layer: Layer, source: Node) -> Node:
        """Its widest steps only: what goes in, and what the convolution and the scan make of it."""
        wide = self._matmul(max(layer.rows(name) for name in layer.tensors), source)
        scanned = self._result(wide.shape, F32, self._result(wide.shape, F32, wide))
        return self._matmul(self._shape.width, scanned)

    def _attention(self, layer: Layer, source: Node) -> Node:
        cache = self._caches[layer.window]
        query, key, value = self._query_key_value(layer, source)
        query = self._rotated(self._turned(layer, "attn_q_norm.weight", query), cache.key_rotation)
        key = self._rotated(self._turned(layer, "attn_k_norm.weight", key), cache.key_rotation)
        value = self._rotated(value, cache.value_rotation)
        # With one cache the value comes before the key; with a second one for windows, after it.
        last_two = (key, value) if len(self._caches) > 1 or layer.window else (value, key)
        for node in (query, *last_two):
            self.graph.expand(node)
        self._store(layer, cache, key, value)
        attended = self._attend(layer, cache, query)
        self.graph.expand(attended)
        if cache.value_rotation is not None:
            attended = self._rotated(attended, cache.value_rotation)
        result = self._matmul(self._shape.width, attended)
        return self._over(result) if layer.has("attn_output.bias") else result

    def _query_key_value(self, layer: Layer, source: Node) -> tuple[Node, Node, Node]:
        tokens = self._size.tokens
        shapes = [
            (layer.key_size, layer.heads, tokens),
            (layer.key_size, layer.kv_heads, tokens),
            (layer.value_size, layer.kv_heads, tokens),
        ]
        if layer.has("attn_qkv.weight"):
            fused = self._matmul(sum(size * heads for size, heads, _ in shapes), source)
            fused = self._over(fused) if layer.has("attn_qkv.bias") else fused
            row = F32 * fused.shape[0]
            query, key, value = (view(fused, shape, (F32, F32 * shape[0], row)) for shape in shapes)
            return query, key, value
        parts = []
        for name, shape in zip("qkv", shapes, strict=True):
            part = self._matmul(shape[0] * shape[1], source)
            part = self._over(part) if layer.has(f"attn_{name}.bias") else part
            parts.append(view(part, shape))
        return parts[0], parts[1], parts[2]

    def _turned(self, layer: Layer, norm: str, source: Node) -> Node:
        """Normalised where the layer does that, then given its position."""
        normed = self._norm(source) if layer.has(norm) else source
        return Node(normed.shape, F32, (normed, self._positions), may_overwrite=True, device=self._device)

    def _rotated(self, source: Node, rotation: Node | None) -> Node:
        if rotation is None:
            return source
        flat = (rotation.shape[0], source.size_bytes // F32 // rotation.shape[0])
        is_whole = source.strides == Node(source.shape, F32).strides
        straight = view(source, flat) if is_whole else self._result(flat, F32, source)
        return view(self._result(flat, F32, rotation, straight), source.shape)

    def _store(self, layer: Layer, cache: _Cache, key: Node, value: Node) -> None:
        tokens = self._size.tokens
        flat_key = view(key, (layer.key_width, tokens))
        self.graph.expand(Node((1,), F32, (flat_key, cache.key_ids), is_outside=True, device=self._device))
        is_whole = value.strides == Node(value.shape, F32).strides
        if self._settings.flash_attention:
            flat = view(value, (layer.value_width, tokens))
        else:
            shape = (layer.value_width, tokens)
            flat = view(value, shape) if is_whole else self._result(shape, F32, value)
            flat = view(flat, (1, layer.value_width * tokens))
        self.graph.expand(Node((1,), F32, (flat, cache.value_ids), is_outside=True, device=self._device))

    def _attend(self, layer: Layer, cache: _Cache, query: Node) -> Node:
        tokens, streams = self._size.tokens, self._size.streams
        parts = view(query, (layer.key_size, layer.heads, tokens // streams, streams))
        seen = view(parts, (layer.key_size, tokens // streams, layer.heads, streams))
        width = layer.value_size * layer.heads
        if self._settings.flash_attention:
            joined = self._result((layer.value_size, layer.heads, tokens // streams, streams), F32, seen, cache.mask)
            return view(joined, (width, tokens))
        scores = self._result((cache.mask.shape[0], tokens // streams, layer.heads, streams), F32, seen)
        weights = self._over(scores, cache.mask)
        mixed = self._result((layer.value_size, tokens // streams, layer.heads, streams), F32, weights)
        return self._result(
            (width, tokens), F32, view(mixed, (layer.value_size, layer.heads, tokens // streams, streams))
        )

    def _feed(self, layer: Layer, source: Node) -> Node:
        down = layer.tensors.get("ffn_down.weight")
        if down is None or len(down.shape) != 2:
            return source
        rows = layer.rows("ffn_up.weight")
        up = self._biased(layer, "ffn_up", self._matmul(rows, source))
        if layer.has("ffn_gate.weight"):
            gate = self._biased(layer, "ffn_gate", self._matmul(rows, source))
            active = self._result(gate.shape, F32, gate, up)
        elif rows == 2 * down.shape[0]:
            active = self._result((down.shape[0], up.shape[1]), F32, up)
        else:
            active = self._over(up)
        return self._biased(layer, "ffn_down", self._matmul(self._shape.width, active))

    def _biased(self, layer: Layer, name: str, source: Node) -> Node:
        return self._over(source) if layer.has(f"{name}.bias") else source

    def _experts(self, layer: Layer, source: Node) -> Node:
        used, tokens, width = self._experts_used, source.shape[1], self._shape.width
        experts = layer.rows("ffn_gate_inp.weight")
        chosen, weights = self._choice(layer, source, experts)
        self.graph.expand(weights)
        single = view(source, (width, 1, tokens))
        active = self._expert_feed(layer, single, chosen)
        down = self._result((width, used, tokens), F32, active, chosen)
        down = self._over(down, chosen) if layer.has("ffn_down_exps.bias") else down
        weighted = self._over(down, weights)
        self.graph.expand(weighted)
        slices = [view(weighted, (width, tokens), (F32, F32 * width * used)) for _ in range(used)]
        for piece in slices:
            self.graph.expand(piece)
        total = slices[0]
        for piece in slices[1:]:
            total = Node((width, tokens), F32, (total, piece), may_overwrite=True, device=self._device)
            self.graph.expand(total)
        if used == 1:
            total = self._result((width, tokens), F32, total)
        if layer.has("ffn_up_shexp.weight"):
            total = self._over(total, self._shared(layer, source))
        return total

    def _choice(self, layer: Layer, source: Node, experts: int) -> tuple[Node, Node]:
        used, tokens = self._experts_used, source.shape[1]
        logits = self._biased(layer, "ffn_gate_inp", self._matmul(experts, source))
        is_late = self._shape.architecture == "gpt-oss"
        odds = logits if is_late else self._over(logits)
        judged = self._over(odds) if layer.has("exp_probs_b.bias") else odds
        order = self._result((experts, tokens), I32, judged)
        chosen = view(order, (used, tokens), (I32, I32 * experts))
        picked = self._result((1, used, tokens), F32, view(odds, (1, experts, tokens)), chosen)
        if is_late:
            return chosen, view(self._over(view(picked, (used, tokens))), (1, used, tokens))
        flat = view(picked, (used, tokens))
        total = self._over(self._result((1, tokens), F32, flat))
        return chosen, view(self._over(flat, total), (1, used, tokens))

    def _expert_feed(self, layer: Layer, single: Node, chosen: Node) -> Node:
        used, tokens = self._experts_used, single.shape[2]
        if layer.has("ffn_gate_up_exps.weight"):
            rows = layer.rows("ffn_gate_up_exps.weight")
            both = self._result((rows, used, tokens), F32, single, chosen)
            strides = (F32, F32 * rows, F32 * rows * used)
            halves = [view(both, (rows // 2, used, tokens), strides) for _ in range(2)]
            return self._result((rows // 2, used, tokens), F32, *halves)
        rows = layer.rows("ffn_up_exps.weight")
        up = self._result((rows, used, tokens), F32, single, chosen)
        up = self._over(up, chosen) if layer.has("ffn_up_exps.bias") else up
        if not layer.has("ffn_gate_exps.weight"):
            return self._over(up)
        gate = self._result((rows, used, tokens), F32, single, chosen)
        gate = self._over(gate, chosen) if layer.has("ffn_gate_exps.bias") else gate
        return self._result((rows, used, tokens), F32, gate, up)

    def _shared(self, layer: Layer, source: Node) -> Node:
        rows = layer.rows("ffn_up_shexp.weight")
        up, gate = self._matmul(rows, source), self._matmul(rows, source)
        down = self._matmul(self._shape.width, self._result(gate.shape, F32, gate, up))
        if layer.has("ffn_gate_inp_shexp.weight"):
            down = self._over(down, self._over(self._matmul(1, source)))
        return down


def outline(shape: ModelShape, settings: EngineSettings, size: Sizes, place: Placement) -> Graph:
    """The graph that llama.cpp reserves for: one micro-batch of a prompt."""
    return _Outline(shape, settings, size, place).build()
