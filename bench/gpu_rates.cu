// What a card does at most: 32-bit multiply-adds and bit operations, eight chains a thread so that none waits.
#include "host.h"

static const u32 CHAINS = 8;

extern "C" __global__ void multiply_adds(u64 first, u32 *out, u32 by, u32 rounds, u64 count) {
    const u64 number = thread_number(first);
    if (number >= count) return;
    u32 x[CHAINS];
#pragma unroll
    for (u32 chain = 0; chain < CHAINS; chain++) x[chain] = static_cast<u32>(number) + chain;
    for (u32 round = 0; round < rounds; round++) {
#pragma unroll
        for (u32 chain = 0; chain < CHAINS; chain++) x[chain] = x[chain] * by + round;
    }
    u32 sum = 0;
#pragma unroll
    for (u32 chain = 0; chain < CHAINS; chain++) sum ^= x[chain];
    out[number] = sum;
}

// Three a step: a shift of two words joined, and two bit operations on three words.
extern "C" __global__ void bit_operations(u64 first, u32 *out, u32 by, u32 rounds, u64 count) {
    const u64 number = thread_number(first);
    if (number >= count) return;
    u32 x[CHAINS];
#pragma unroll
    for (u32 chain = 0; chain < CHAINS; chain++) x[chain] = static_cast<u32>(number) + chain;
    for (u32 round = 0; round < rounds; round++) {
#pragma unroll
        for (u32 chain = 0; chain < CHAINS; chain++)
            x[chain] = __funnelshift_l(x[chain], x[chain], 7) ^ (by & (x[chain] | round));
    }
    u32 sum = 0;
#pragma unroll
    for (u32 chain = 0; chain < CHAINS; chain++) sum ^= x[chain];
    out[number] = sum;
}

// Each thread many words, as far apart as there are threads: one launch, whose start is nothing beside what it takes.
extern "C" __global__ void copy(u64 first, const u64 *from, u64 *to, u64 threads, u64 count) {
    const u64 number = thread_number(first);
    if (number >= threads) return;
    for (u64 at = number; at < count; at += threads) to[at] = from[at];
}
