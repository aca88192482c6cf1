"""What needs an NVIDIA GPU and CuPy (the extra cuda12 or cuda13); skipped, and said so, where either is missing."""
