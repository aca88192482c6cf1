#define W 128

#include "bignum.cuh"
