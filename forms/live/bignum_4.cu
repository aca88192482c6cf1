static const int W = 4;

#include "bignum.cuh"
