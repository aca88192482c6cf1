// Rows of bytes in one buffer, as forms/rows.py has them, and whole words out of places that no word is aligned to.
#pragma once
#include "host.h"

struct Row {
    const u8 *at;
    u64 length;
};

// is_even: `places` holds where the first row starts, from one to the next, the length of all; otherwise where each of
// the `count` rows starts, and then how long each is.
static __device__ __forceinline__ Row row_of(const u8 *data, const u64 *places, u32 is_even, u64 count, u64 number) {
    if (is_even) return {data + places[0] + number * places[1], places[2]};
    return {data + places[number], places[count + number]};
}

static __device__ __forceinline__ bool is_aligned(const u8 *at, u32 bytes) {
    return reinterpret_cast<u64>(at) % bytes == 0;
}

// Four bytes, the first the lowest.
static __device__ __forceinline__ u32 read_u32(const u8 *at) {
    if (is_aligned(at, 4)) return *reinterpret_cast<const u32 *>(at);
    return at[0] | static_cast<u32>(at[1]) << 8 | static_cast<u32>(at[2]) << 16 | static_cast<u32>(at[3]) << 24;
}

static __device__ __forceinline__ u64 read_u64(const u8 *at) {
    if (is_aligned(at, 8)) return *reinterpret_cast<const u64 *>(at);
    return read_u32(at) | static_cast<u64>(read_u32(at + 4)) << 32;
}

static __device__ __forceinline__ void write_u32(u8 *at, u32 word) {
    if (is_aligned(at, 4)) {
        *reinterpret_cast<u32 *>(at) = word;
        return;
    }
#pragma unroll
    for (int byte = 0; byte < 4; byte++) at[byte] = static_cast<u8>(word >> (8 * byte));
}

static __device__ __forceinline__ void write_u64(u8 *at, u64 word) {
    if (is_aligned(at, 8)) {
        *reinterpret_cast<u64 *>(at) = word;
        return;
    }
    write_u32(at, static_cast<u32>(word));
    write_u32(at + 4, static_cast<u32>(word >> 32));
}

// Fewer bytes than a word has; those above are 0.
static __device__ __forceinline__ u64 read_some(const u8 *at, u64 bytes) {
    u64 word = 0;
    for (u64 byte = 0; byte < bytes; byte++) word |= static_cast<u64>(at[byte]) << (8 * byte);
    return word;
}

static __device__ __forceinline__ void write_some(u8 *at, u64 bytes, u64 word) {
    for (u64 byte = 0; byte < bytes; byte++) at[byte] = static_cast<u8>(word >> (8 * byte));
}
