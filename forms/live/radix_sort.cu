// A stable sort of u64, least significant digit first. A thread counts, and later places, a run of neighbours by itself
// and in order: plain enough to say what the answer is on any device. CUB's sort, of which a GPU has one, is faster.
#include "host.h"

static const u32 DIGIT_BITS = 8;
static const u32 DIGITS = 1 << DIGIT_BITS;

static __device__ __forceinline__ u32 digit_of(u64 key, u32 shift) {
    return static_cast<u32>(key >> shift) & (DIGITS - 1);
}

// How often each digit occurs in each run. counts[digit * runs + run].
extern "C" __global__ void radix_count(u64 first, const u64 *keys, u64 count, u64 run_length, u64 runs, u32 shift,
                                       u64 *counts) {
    const u64 run = thread_number(first);
    if (run >= runs) return;
    for (u32 digit = 0; digit < DIGITS; digit++) counts[digit * runs + run] = 0;
    const u64 end = min(count, (run + 1) * run_length);
    for (u64 at = run * run_length; at < end; at++) counts[digit_of(keys[at], shift) * runs + run]++;
}

// A thread for each digit: its counts become places among its own, and `totals` says how many there are.
extern "C" __global__ void radix_add(u64 first, u64 *counts, u64 runs, u64 *totals) {
    const u64 digit = thread_number(first);
    if (digit >= DIGITS) return;
    u64 sum = 0;
    for (u64 run = 0; run < runs; run++) {
        const u64 here = counts[digit * runs + run];
        counts[digit * runs + run] = sum;
        sum += here;
    }
    totals[digit] = sum;
}

// A thread for each digit: those of lower digits come before all of its own.
extern "C" __global__ void radix_shift(u64 first, const u64 *totals, u64 *before) {
    const u64 digit = thread_number(first);
    if (digit >= DIGITS) return;
    u64 sum = 0;
    for (u64 lower = 0; lower < digit; lower++) sum += totals[lower];
    before[digit] = sum;
}

// Each run puts its keys in their places, and what belongs to them. carries: whether anything does.
extern "C" __global__ void radix_place(u64 first, const u64 *keys, const u64 *values, u64 count, u64 run_length,
                                       u64 runs, u32 shift, u64 *counts, const u64 *before, u32 carries,
                                       u64 *sorted_keys, u64 *sorted_values) {
    const u64 run = thread_number(first);
    if (run >= runs) return;
    const u64 end = min(count, (run + 1) * run_length);
    for (u64 at = run * run_length; at < end; at++) {
        const u32 digit = digit_of(keys[at], shift);
        const u64 place = before[digit] + counts[digit * runs + run]++;
        sorted_keys[place] = keys[at];
        if (carries) sorted_values[place] = values[at];
    }
}
