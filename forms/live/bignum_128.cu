static const int W = 128;

#include "bignum.cuh"
