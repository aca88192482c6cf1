static const int W = 8;

#include "bignum.cuh"
