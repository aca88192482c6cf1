"""A stranger that knows admission's words, says any of them at any time, and takes no for nothing.

It completes TLS, answers the server's hello with whatever proof the test made, and opens streams whether it was let
in or not.
"""

from __future__ import annotations

import ssl
from typing import TextIO, cast

from aioquic.quic.configuration import QuicConfiguration

from tests.transport.stranger import Stranger
from transport import wire
from transport.handshake import MAX_MESSAGE_BYTES, ClientProof, Refusal, ServerFinish
from transport.interface import Address, RecordKind, StreamHeader
from transport.quic.greeting import GREETING_STREAM
from transport.quic.session import ALPN, SessionSecrets
from transport.record import RecordReader, encode_record

OWN_STREAM = 0
"""The first stream that the end which dialled may open, when it may."""


class Intruder(Stranger):
    """Use as `async with`."""

    def __init__(self, target: Address) -> None:
        self._secrets = SessionSecrets()
        configuration = QuicConfiguration(
            alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE, secrets_log_file=cast(TextIO, self._secrets)
        )
        super().__init__(target, configuration=configuration)

    @property
    def binding(self) -> bytes:
        return self._secrets.binding()

    async def hear_hello(self) -> bytes:
        """Complete TLS and wait for the server's first message."""
        await self.shake_hands()
        await self.until(lambda: len(self._heard()) >= 1)
        return self._heard()[0]

    def say(self, message: bytes) -> None:
        """Answer on the greeting."""
        self.quic.send_stream_data(GREETING_STREAM, encode_record(RecordKind.MESSAGE, message))
        self.transmit()

    async def verdict(self) -> ServerFinish | Refusal:
        """What the server made of that."""
        await self.until(lambda: len(self._heard()) >= 2)
        answer: ServerFinish | Refusal = wire.decode(
            self._heard()[1], ServerFinish | Refusal, peer=None, max_bytes=MAX_MESSAGE_BYTES
        )
        return answer

    def force_stream(self, protocol: str) -> None:
        """Open a stream, whatever the server's limits say."""
        self.quic._remote_max_streams_bidi = 10
        header = encode_record(RecordKind.OPEN, wire.encode(StreamHeader(protocol, "", 0)))
        self.quic.send_stream_data(OWN_STREAM, header + encode_record(RecordKind.MESSAGE, b"let me in"))
        self.transmit()

    def hang_up(self) -> None:
        self.quic.close()
        self.transmit()

    def _heard(self) -> list[bytes]:
        return [record.payload for record in RecordReader().feed(self.received(GREETING_STREAM))]


def read_proof(message: bytes) -> ClientProof:
    return wire.decode(message, ClientProof, peer=None, max_bytes=MAX_MESSAGE_BYTES)
