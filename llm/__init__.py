"""Places a chat on a host that can answer it, and answers it there."""
