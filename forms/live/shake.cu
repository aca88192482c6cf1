// SHAKE-256 of many inputs, one a thread (FIPS 202). The state stays in registers: every index into it is known when
// this is compiled, so each loop over lanes is unrolled.
#include "host.h"
#include "rows.h"

static const int RATE_BYTES = 136;
static const int RATE_LANES = RATE_BYTES / 8;

__constant__ u64 ROUND_CONSTANTS[24] = {
    0x0000000000000001ULL, 0x0000000000008082ULL, 0x800000000000808aULL, 0x8000000080008000ULL,
    0x000000000000808bULL, 0x0000000080000001ULL, 0x8000000080008081ULL, 0x8000000000008009ULL,
    0x000000000000008aULL, 0x0000000000000088ULL, 0x0000000080008009ULL, 0x000000008000000aULL,
    0x000000008000808bULL, 0x800000000000008bULL, 0x8000000000008089ULL, 0x8000000000008003ULL,
    0x8000000000008002ULL, 0x8000000000000080ULL, 0x000000000000800aULL, 0x800000008000000aULL,
    0x8000000080008081ULL, 0x8000000000008080ULL, 0x0000000080000001ULL, 0x8000000080008008ULL,
};

static __device__ __forceinline__ u64 rotated(u64 x, int by) { return x << by | x >> (64 - by); }

// One step of rho and pi: lane `to` takes what the step before took, rotated.
#define MOVE(to, by)                  \
    {                                 \
        const u64 next = state[to];   \
        state[to] = rotated(last, by); \
        last = next;                  \
    }

// Keccak-f[1600]; lane (x, y) is state[x + 5 y].
static __device__ __forceinline__ void permute(u64 state[25]) {
#pragma unroll 1
    for (int round = 0; round < 24; round++) {
        u64 column[5];
#pragma unroll
        for (int x = 0; x < 5; x++)
            column[x] = state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20];
#pragma unroll
        for (int x = 0; x < 5; x++) {
            const u64 mixed = column[(x + 4) % 5] ^ rotated(column[(x + 1) % 5], 1);
#pragma unroll
            for (int y = 0; y < 25; y += 5) state[x + y] ^= mixed;
        }

        u64 last = state[1];
        MOVE(10, 1) MOVE(7, 3) MOVE(11, 6) MOVE(17, 10) MOVE(18, 15) MOVE(3, 21) MOVE(5, 28) MOVE(16, 36)
        MOVE(8, 45) MOVE(21, 55) MOVE(24, 2) MOVE(4, 14) MOVE(15, 27) MOVE(23, 41) MOVE(19, 56) MOVE(13, 8)
        MOVE(12, 25) MOVE(2, 43) MOVE(20, 62) MOVE(14, 18) MOVE(22, 39) MOVE(9, 61) MOVE(6, 20) MOVE(1, 44)

#pragma unroll
        for (int y = 0; y < 25; y += 5) {
            const u64 a = state[y], b = state[y + 1], c = state[y + 2], d = state[y + 3], e = state[y + 4];
            state[y] = a ^ (~b & c);
            state[y + 1] = b ^ (~c & d);
            state[y + 2] = c ^ (~d & e);
            state[y + 3] = d ^ (~e & a);
            state[y + 4] = e ^ (~a & b);
        }
        state[0] ^= ROUND_CONSTANTS[round];
    }
}

static __device__ __forceinline__ void hash(const u8 *from, u64 left, u8 *to, u64 out_bytes) {
    u64 state[25];
#pragma unroll
    for (int lane = 0; lane < 25; lane++) state[lane] = 0;
    for (; left >= RATE_BYTES; left -= RATE_BYTES, from += RATE_BYTES) {
#pragma unroll
        for (int lane = 0; lane < RATE_LANES; lane++) state[lane] ^= read_u64(from + 8 * lane);
        permute(state);
    }
    // What is left, then 1111 (SHAKE, and the first bit of the padding), zeros, and the padding's last bit.
#pragma unroll
    for (int lane = 0; lane < RATE_LANES; lane++) {
        const u64 before = 8 * lane;
        if (left >= before + 8)
            state[lane] ^= read_u64(from + before);
        else if (left >= before)
            state[lane] ^= read_some(from + before, left - before) | 0x1fULL << (8 * (left - before));
    }
    state[RATE_LANES - 1] ^= 1ULL << 63;

    for (u64 wanted = out_bytes;; wanted -= RATE_BYTES, to += RATE_BYTES) {
        permute(state);
#pragma unroll
        for (int lane = 0; lane < RATE_LANES; lane++) {
            const u64 before = 8 * lane;
            if (wanted >= before + 8)
                write_u64(to + before, state[lane]);
            else if (wanted > before)
                write_some(to + before, wanted - before, state[lane]);
        }
        if (wanted <= RATE_BYTES) return;
    }
}

extern "C" __global__ void shake256(u64 first, const u8 *data, const u64 *places, u32 is_even, u8 *digests,
                                    u64 out_bytes, u64 count) {
    const u64 number = thread_number(first);
    if (number >= count) return;
    const Row row = row_of(data, places, is_even, count, number);
    hash(row.at, row.length, digests + number * out_bytes, out_bytes);
}
