"""One `llama_context` of llama.cpp with many sequences in it, called by one thread.

Two threads in one context abort the process, more tokens than a batch has rows too, so this module belongs to the
child (`child`) alone. What is decoded, and for whom, is `decoding`'s.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import llama_cpp.llama_cpp as llama
import numpy

from llm.sessions.batch import Row
from llm.sessions.sampling import Logits

KvType = Literal["f16", "q8_0", "q4_0"]

MAX_SEQUENCES = 256
"""llama.cpp's own limit (LLAMA_MAX_SEQ)."""
FIRST_PIECE_BYTES = 32
GPU_KINDS = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU
TILE_ROWS = 64
"""What a processor computes at a time. More are no faster (8,000 tokens of one text: 1.0 s with 64 as with 512), and
the memory for it grows with them. ggml computes attention of so many rows in tiles, which are quick for a long text and
slow where the cells of all other sequences are in the way; fewer rows pass over those: 130 single tokens among 12,480
cells of others take 13 ms in calls of fewer, and 30 in one.
"""
NO_SLOT = 1  # llama_decode: the cells left do not hold the batch


class ContextFailed(Exception):
    """llama.cpp did not do what it was called for."""


class ContextFull(ContextFailed):
    """The context has no room for these rows. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """cells: tokens of all sequences together, rounded up to 256 by llama.cpp.  rows: of a batch."""

    model: Path
    cells: int = 8192
    sequences: int = 64
    rows: int = 512
    threads: int = 2
    kv_type: KvType = "f16"
    flash_attention: bool = True
    gpu_layers: int = 99


class Context:
    """A loaded model and its context. Close it."""

    def __init__(self, settings: ContextSettings) -> None:
        """Load. Raises ContextFailed."""
        if not 1 <= settings.sequences <= MAX_SEQUENCES:
            raise ContextFailed(f"expected 1 to {MAX_SEQUENCES} sequences, got {settings.sequences}")
        self.settings = settings
        llama.llama_backend_init()
        self._model = _load_model(settings)
        self._context = llama.llama_init_from_model(self._model, _parameters(settings))
        if not self._context:
            raise ContextFailed(f"llama.cpp made no context of {settings.cells} cells for {settings.model.name}")
        self._vocabulary = llama.llama_model_get_vocab(self._model)
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(settings.rows, 0, 1)
        self.vocabulary_size = llama.llama_vocab_n_tokens(self._vocabulary)
        self.cells = llama.llama_n_ctx(self._context)
        self.trained_tokens = llama.llama_model_n_ctx_train(self._model)
        # A state that was folded over all tokens (Mamba's) is kept whole or not at all.
        self.can_cut = not (llama.llama_model_is_recurrent(self._model) or llama.llama_model_is_hybrid(self._model))
        # Tokens of unlike sequences to decode in one call.
        self.most_mixed_rows = settings.rows if _is_on_gpu(settings) else TILE_ROWS - 1
        self.can_shift = bool(llama.llama_memory_can_shift(self._memory))

    def close(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    # Text

    def tokenize(self, text: str, *, is_start: bool = False) -> list[int]:
        """The ids of `text`, control tokens read as such. is_start: put the model's first token before it."""
        raw = text.encode()
        room = len(raw) + 16
        ids = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocabulary, raw, len(raw), ids, room, is_start, True)
        if count < 0:
            raise ContextFailed(f"a text of {len(raw)} bytes became {-count} tokens, more than it has bytes")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of one token, of any length; none for a control token."""
        room = FIRST_PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = llama.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def control_text(self, token: int) -> str:
        """How a token is written, a control token too; "" for none."""
        text = llama.llama_vocab_get_text(self._vocabulary, token) if token >= 0 else b""
        return bytes(text or b"").decode(errors="replace")

    @property
    def first_and_last(self) -> tuple[str, str]:
        """What the vocabulary begins and ends a text with, as a chat template wants them."""
        begin, end = llama.llama_vocab_bos(self._vocabulary), llama.llama_vocab_eos(self._vocabulary)
        return self.control_text(begin), self.control_text(end)

    def is_end(self, token: int) -> bool:
        """Whether the model says with it that it has said everything."""
        return bool(llama.llama_vocab_is_eog(self._vocabulary, token))

    @property
    def chat_template(self) -> str:
        template = llama.llama_model_chat_template(self._model, None)
        return bytes(template).decode(errors="replace") if template else ""

    # Sequences

    def decode(self, rows: Sequence[Row]) -> list[Logits]:
        """Compute `rows`; the logits of those that want them, in order, which hold until the next call.

        Raises ContextFull, ContextFailed.
        """
        if not 0 < len(rows) <= self.settings.rows:
            raise ContextFailed(f"expected 1 to {self.settings.rows} rows in a batch, got {len(rows)}")
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, row in enumerate(rows):
            batch.token[index] = row.token
            batch.pos[index] = row.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = row.sequence
            batch.logits[index] = row.wants_logits
        status = llama.llama_decode(self._context, batch)
        if status == NO_SLOT:
            raise ContextFull(f"{len(rows)} rows do not fit into what is left of {self.cells} cells")
        if status:
            raise ContextFailed(f"llama_decode gave {status} for a batch of {len(rows)} rows")
        return [self._logits(index) for index, row in enumerate(rows) if row.wants_logits]

    def _logits(self, index: int) -> Logits:
        values = llama.llama_get_logits_ith(self._context, index)
        if not values:
            raise ContextFailed(f"llama.cpp has no logits for row {index}")
        return numpy.ctypeslib.as_array(values, shape=(self.vocabulary_size,))

    def cut(self, sequence: int, start: int) -> None:
        """Forget what the sequence has from position `start` on; from one above 0 only where `can_cut`."""
        if not llama.llama_memory_seq_rm(self._memory, sequence, start, -1):
            raise ContextFailed(f"this model's memory cannot be cut at position {start}")

    def slide(self, sequence: int, start: int, count: int) -> None:
        """Forget `count` positions from `start` on, and move what follows down. Only where `can_shift`."""
        if not self.can_shift:
            raise ContextFailed("this model's memory cannot be shifted; llama.cpp would abort")
        if not llama.llama_memory_seq_rm(self._memory, sequence, start, start + count):
            raise ContextFailed(f"positions {start} to {start + count} cannot be removed")
        llama.llama_memory_seq_add(self._memory, sequence, start + count, -1, -count)

    def live_bytes(self, sequence: int) -> int:
        """What the sequence's state takes."""
        return int(llama.llama_state_seq_get_size(self._context, sequence))

    def save(self, sequence: int) -> bytes:
        """The sequence's state, which `restore` takes back bit by bit."""
        size = self.live_bytes(sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = llama.llama_state_seq_get_data(self._context, buffer, size, sequence)
        if not written:
            raise ContextFailed(f"llama.cpp gave no state of sequence {sequence}")
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> None:
        """Put a state into an empty sequence. Raises ContextFull when it does not fit or is of another kind."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not llama.llama_state_seq_set_data(self._context, buffer, len(state), sequence):
            self.cut(sequence, 0)
            raise ContextFull(f"a state of {len(state)} bytes was not taken")


def _load_model(settings: ContextSettings) -> Any:
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = settings.gpu_layers
    model = llama.llama_model_load_from_file(str(settings.model).encode(), parameters)
    if not model:
        raise ContextFailed(f"llama.cpp cannot load {settings.model}")
    return model


def _parameters(settings: ContextSettings) -> Any:
    kinds = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "q4_0": llama.GGML_TYPE_Q4_0}
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = settings.cells
    parameters.n_batch = settings.rows
    parameters.n_ubatch = settings.rows if _is_on_gpu(settings) else min(settings.rows, TILE_ROWS)
    parameters.n_seq_max = settings.sequences
    parameters.n_threads = parameters.n_threads_batch = settings.threads
    parameters.type_k = parameters.type_v = kinds[settings.kv_type]
    parameters.flash_attn_type = int(settings.flash_attention)
    parameters.kv_unified = True  # sessions are of unlike lengths and share the cells
    parameters.no_perf = True
    return parameters


def _is_on_gpu(settings: ContextSettings) -> bool:
    """Not `llama_supports_gpu_offload`: a build that can use RPC servers says so of itself without any GPU."""
    device = llama._lib.ggml_backend_dev_by_type
    device.restype = ctypes.c_void_p
    return settings.gpu_layers > 0 and any(device(kind) is not None for kind in GPU_KINDS)


def be_quiet() -> None:
    """Have llama.cpp say nothing."""
    llama.llama_log_set(_SILENCE, None)


_SILENCE = llama.llama_log_callback(lambda level, text, data: None)  # llama.cpp keeps a pointer to it
