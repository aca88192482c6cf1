"""CUDA kernels on a GPU, or on the host by a plain C++ build of the same source."""
