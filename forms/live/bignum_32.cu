static const int W = 32;

#include "bignum.cuh"
