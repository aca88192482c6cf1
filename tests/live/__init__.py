"""Real agents, real QUIC, real llama-server, real signals, all on this machine."""
