#define W 32

#include "bignum.cuh"
