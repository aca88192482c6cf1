#define W 8

#include "bignum.cuh"
