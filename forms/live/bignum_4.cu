#define W 4

#include "bignum.cuh"
