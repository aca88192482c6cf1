"""Mutual TLS without authorities: each end trusts exactly the certificates that it was told to expect.

A node's certificate is the self-signed one of its key, as for QUIC. Its bytes came over an admitted connection from
the node whose id is the digest of the key in it: `certificate_node` says so when it comes and when it is shown.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from transport.errors import ProtocolError
from transport.identity import NodeKey, node_id, self_signed_certificate
from transport.interface import NodeId

ALPN = "meshd-bulk/1"

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h): a pin is good while its ticket is, whatever the clocks say."""


class LaneIdentity:
    """What a node shows on its lanes. now: wall clock, for the certificate."""

    def __init__(self, key: NodeKey, now: float) -> None:
        certificate, private_key = self_signed_certificate(key, now)
        self.certificate = certificate.public_bytes(Encoding.DER)
        secret = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._pem = secret + certificate.public_bytes(Encoding.PEM)

    def context(self, *, is_server: bool, expected: Iterable[bytes]) -> ssl.SSLContext:
        """TLS 1.3 with a peer that shows one of the certificates in `expected` (DER), and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        # All these certificates have one subject. Only with this flag is the very certificate looked for, too.
        context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
        context.set_alpn_protocols([ALPN])
        if is_server:
            context.num_tickets = 0  # no resumption: every lane is opened with a ticket of ours
        self._load_key(context)
        for certificate in expected:
            context.load_verify_locations(cadata=certificate)
        return context

    def _load_key(self, context: ssl.SSLContext) -> None:
        """Python reads keys from files only: this one is in memory, and gone after the reading."""
        file = os.memfd_create("meshd-lane", os.MFD_CLOEXEC)
        try:
            os.write(file, self._pem)
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)


def certificate_node(certificate: bytes) -> NodeId:
    """Whose key is in a certificate (DER). Raises ProtocolError when there is none of ours in it."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ProtocolError(f"expected a certificate, got {len(certificate)} bytes that are none: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ProtocolError("expected a certificate with an Ed25519 key, got another kind")
    return node_id(key.public_bytes_raw())
