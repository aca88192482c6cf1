"""Several nodes in one process, over real QUIC on loopback."""
