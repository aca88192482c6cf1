"""How many nonces go through the network at once. Pure."""

from __future__ import annotations

from forms.poc.profile import Profile

SHARE_OF_FREE = 0.8
MOST = 512
BYTES_PER_VALUE = 4


def weights_bytes(profile: Profile) -> int:
    """What the weights take."""
    return BYTES_PER_VALUE * profile.parameters


def nonce_bytes(profile: Profile) -> int:
    """What one nonce takes at its largest: five states, three inner ones, scores, and the words of its input."""
    states = profile.sequence * (5 * profile.width + 3 * profile.inner)
    scores = 2 * profile.heads * profile.sequence**2
    words = 14 * profile.sequence * profile.width
    return BYTES_PER_VALUE * (states + scores + words + 4 * profile.outputs)


def batch_size(profile: Profile, free_bytes: int, most: int = MOST) -> int:
    """As many as `free_bytes` holds beside the weights, up to `most`; 1 at least."""
    room = int(free_bytes * SHARE_OF_FREE) - weights_bytes(profile)
    return max(1, min(most, room // nonce_bytes(profile)))
