"""Prints the names under which `ggml-rpc-server --cache` looks for tensors. A program of its own: it loads ggml.

Run as `python -I -S hash_tensors.py LIBRARY_DIR RPC_PORT GGUF ORDERS`, where the file ORDERS has a line `OFFSET
ROW_BYTES ROWS` a tensor; prints a line `OFFSET HASH` for each.

The name is a hash (64-bit FNV-1a) that llama.cpp computes inside its RPC client, and no function gives. FNV is serial,
so Python is no place for it. So llama.cpp is asked in the way it knows: its client is told to set a tensor, and asks
the server "do you have HASH?". That question is answered here, "yes", and nothing is sent; all else goes through to a
true server, which gives the client the memory that it wants to set (never touched, so never used).
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
import sys
import threading
from pathlib import Path

SET_TENSOR_HASH = 7
HEAD = struct.Struct("<BQ")
YES = struct.pack("<QB", 1, 1)
GGML_TYPE_I8 = 24
USAGE_WEIGHTS = 1
CONTEXT_BYTES = 1 << 16
POINTER = ctypes.c_void_p


class InitParameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", POINTER), ("no_alloc", ctypes.c_bool))


class Listener:
    """Stands between the client and the server; `hashes` grows by one with every tensor that the client sets."""

    def __init__(self, server_port: int) -> None:
        self.hashes: list[str] = []
        self._server_port = server_port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def run(self) -> None:
        while True:
            client, _ = self._socket.accept()
            with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
                answers = threading.Thread(target=_pass_on, args=(server, client))
                answers.start()
                self._listen(client, server)
                server.shutdown(socket.SHUT_RDWR)
                answers.join()

    def _listen(self, client: socket.socket, server: socket.socket) -> None:
        while head := _exactly(client, HEAD.size):
            command, length = HEAD.unpack(head)
            request = _exactly(client, length)
            if command == SET_TENSOR_HASH:
                self.hashes.append(f"{int.from_bytes(request[-8:], 'little'):016x}")
                client.sendall(YES)
            else:
                server.sendall(head + request)


def _exactly(source: socket.socket, count: int) -> bytes:
    """`count` bytes, or none at the end of the connection."""
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(1 << 16):
        sink.sendall(data)


class Ggml:
    """The few functions of ggml's C interface that are needed, on the RPC server at `port`."""

    def __init__(self, library_dir: Path, port: int) -> None:
        self._base = ctypes.CDLL(str(_library(library_dir, "libggml-base")), mode=ctypes.RTLD_GLOBAL)
        self._rpc = ctypes.CDLL(str(_library(library_dir, "libggml-rpc")), mode=ctypes.RTLD_GLOBAL)
        for function in (self._base.ggml_init, self._base.ggml_new_tensor_2d, self._rpc.ggml_backend_rpc_buffer_type):
            function.restype = POINTER
        self._base.ggml_backend_alloc_ctx_tensors_from_buft.restype = POINTER
        self._buffer_type = POINTER(self._rpc.ggml_backend_rpc_buffer_type(f"127.0.0.1:{port}".encode(), 0))

    def set_tensor(self, address: int, row_bytes: int, rows: int) -> None:
        """Have the client set a tensor of that many bytes, found at `address`."""
        base = self._base
        context = POINTER(base.ggml_init(InitParameters(CONTEXT_BYTES, None, True)))
        tensor = POINTER(
            base.ggml_new_tensor_2d(context, GGML_TYPE_I8, ctypes.c_int64(row_bytes), ctypes.c_int64(rows))
        )
        buffer = POINTER(base.ggml_backend_alloc_ctx_tensors_from_buft(context, self._buffer_type))
        if not buffer:
            raise MemoryError(f"the RPC server has no {row_bytes * rows} bytes for a tensor")
        base.ggml_backend_buffer_set_usage(buffer, USAGE_WEIGHTS)
        base.ggml_backend_tensor_set(tensor, POINTER(address), ctypes.c_size_t(0), ctypes.c_size_t(row_bytes * rows))
        base.ggml_backend_buffer_free(buffer)
        base.ggml_free(context)


def _library(folder: Path, stem: str) -> Path:
    """The wheel holds separate copies, and only `.so.0` is the one that finds its companions."""
    return min(folder.glob(f"{stem}.*"), key=lambda path: (not path.name.endswith((".so.0", ".0.dylib")), path.name))


def main(library_dir: Path, server_port: int, model: Path, orders: Path) -> None:
    listener = Listener(server_port)
    threading.Thread(target=listener.run, daemon=True).start()
    ggml = Ggml(library_dir, listener.port)
    with model.open("rb") as file:
        # Private and writable only because ctypes takes the address of nothing else; no page is ever written.
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        for line in orders.read_text().splitlines():
            offset, row_bytes, rows = map(int, line.split())
            ggml.set_tensor(start + offset, row_bytes, rows)
            print(offset, listener.hashes[-1], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
