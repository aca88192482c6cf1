// BLAKE3 of many inputs: their chunks side by side, then the tree of each above its chunks, a level at a time
// (BLAKE3, §2.4 to §2.6). What ends as the root is squeezed to as many bytes as are wanted.
#include "host.h"
#include "rows.h"

static const u32 CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8;
static const u32 BLOCK_BYTES = 64;
static const u32 CHUNK_BYTES = 1024;

__constant__ u32 IV[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

// What goes into a compression, all but the counter.
struct Node {
    u32 chaining[8];
    u32 words[16];
    u32 length;
    u32 flags;
};

static __device__ __forceinline__ u32 rotated(u32 x, u32 by) { return x >> by | x << (32 - by); }

static __device__ __forceinline__ void mix(u32 &a, u32 &b, u32 &c, u32 &d, u32 x, u32 y) {
    a += b + x;
    d = rotated(d ^ a, 16);
    c += d;
    b = rotated(b ^ c, 12);
    a += b + y;
    d = rotated(d ^ a, 8);
    c += d;
    b = rotated(b ^ c, 7);
}

static __device__ __forceinline__ void permute(u32 m[16]) {
    const u32 old[16] = {m[0], m[1], m[2],  m[3],  m[4],  m[5],  m[6],  m[7],
                         m[8], m[9], m[10], m[11], m[12], m[13], m[14], m[15]};
    m[0] = old[2], m[1] = old[6], m[2] = old[3], m[3] = old[10], m[4] = old[7], m[5] = old[0], m[6] = old[4];
    m[7] = old[13], m[8] = old[1], m[9] = old[11], m[10] = old[12], m[11] = old[5], m[12] = old[9];
    m[13] = old[14], m[14] = old[15], m[15] = old[8];
}

// The 16 words of the state after the last round: its two halves added give a chaining value.
static __device__ __forceinline__ void compress(const Node &node, u64 counter, u32 state[16]) {
    u32 m[16];
#pragma unroll
    for (int word = 0; word < 16; word++) m[word] = node.words[word];
#pragma unroll
    for (int word = 0; word < 8; word++) state[word] = node.chaining[word];
#pragma unroll
    for (int word = 0; word < 4; word++) state[8 + word] = IV[word];
    state[12] = static_cast<u32>(counter);
    state[13] = static_cast<u32>(counter >> 32);
    state[14] = node.length;
    state[15] = node.flags;
#pragma unroll
    for (int round = 0; round < 7; round++) {
        mix(state[0], state[4], state[8], state[12], m[0], m[1]);
        mix(state[1], state[5], state[9], state[13], m[2], m[3]);
        mix(state[2], state[6], state[10], state[14], m[4], m[5]);
        mix(state[3], state[7], state[11], state[15], m[6], m[7]);
        mix(state[0], state[5], state[10], state[15], m[8], m[9]);
        mix(state[1], state[6], state[11], state[12], m[10], m[11]);
        mix(state[2], state[7], state[8], state[13], m[12], m[13]);
        mix(state[3], state[4], state[9], state[14], m[14], m[15]);
        permute(m);
    }
}

static __device__ __forceinline__ void chain(const Node &node, u64 counter, u32 chaining[8]) {
    u32 state[16];
    compress(node, counter, state);
#pragma unroll
    for (int word = 0; word < 8; word++) chaining[word] = state[word] ^ state[word + 8];
}

// The root's output: as many bytes as are wanted, 64 a compression.
static __device__ void squeeze(Node &node, u8 *to, u64 wanted) {
    node.flags |= ROOT;
    for (u64 block = 0; block * BLOCK_BYTES < wanted; block++) {
        u32 state[16];
        compress(node, block, state);
#pragma unroll
        for (int word = 0; word < 16; word++) {
            const u64 before = block * BLOCK_BYTES + 4 * word;
            const u32 out = state[word] ^ (word < 8 ? state[(word + 8) & 15] : node.chaining[word & 7]);
            if (wanted >= before + 4)
                write_u32(to + before, out);
            else if (wanted > before)
                write_some(to + before, wanted - before, out);
        }
    }
}

static __device__ __forceinline__ void read_block(const u8 *from, u64 length, Node &node) {
#pragma unroll
    for (int word = 0; word < 16; word++) {
        const u64 before = 4 * word;
        node.words[word] = length >= before + 4 ? read_u32(from + before)
                           : length > before    ? static_cast<u32>(read_some(from + before, length - before))
                                                : 0;
    }
    node.length = static_cast<u32>(length);
}

// A chunk all but its last compression. number: its place in its input.
static __device__ __forceinline__ void read_chunk(const u8 *from, u64 left, u64 number, Node &node) {
#pragma unroll
    for (int word = 0; word < 8; word++) node.chaining[word] = IV[word];
    node.flags = CHUNK_START;
    for (; left > BLOCK_BYTES; left -= BLOCK_BYTES, from += BLOCK_BYTES) {
        read_block(from, BLOCK_BYTES, node);
        chain(node, number, node.chaining);
        node.flags = 0;
    }
    read_block(from, left, node);
    node.flags |= CHUNK_END;
}

// Of `count` rising numbers with one more behind them: the place of the last that is not above `sought`.
static __device__ __forceinline__ u64 place_of(const u64 *rising, u64 count, u64 sought) {
    u64 low = 0, high = count;
    while (high - low > 1) {
        const u64 middle = (low + high) / 2;
        if (rising[middle] <= sought)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// A thread for each chunk of all inputs. chunk_starts: which is the first chunk of each input, and how many in all;
// not looked at when each input has but one. Such an input is done with; of others each chunk leaves its chaining value.
extern "C" __global__ void blake3_chunks(u64 first, const u8 *data, const u64 *places, u32 is_even, u64 count,
                                         const u64 *chunk_starts, u32 *chaining, u8 *digests, u64 out_bytes,
                                         u64 chunks) {
    const u64 number = thread_number(first);
    if (number >= chunks) return;
    const bool all_single = chunks == count;
    const u64 input = all_single ? number : place_of(chunk_starts, count, number);
    const u64 in_input = all_single ? 0 : number - chunk_starts[input];
    const Row row = row_of(data, places, is_even, count, input);
    const u64 before = in_input * CHUNK_BYTES;
    Node node;
    read_chunk(row.at + before, min(row.length - before, static_cast<u64>(CHUNK_BYTES)), in_input, node);
    if (all_single || chunk_starts[input + 1] - chunk_starts[input] == 1)
        squeeze(node, digests + input * out_bytes, out_bytes);
    else
        chain(node, in_input, chaining + 8 * number);
}

static __device__ __forceinline__ void join(const u32 *left, const u32 *right, Node &node) {
#pragma unroll
    for (int word = 0; word < 8; word++) {
        node.chaining[word] = IV[word];
        node.words[word] = left[word];
        node.words[8 + word] = right[word];
    }
    node.length = BLOCK_BYTES;
    node.flags = PARENT;
}

// One level of every tree: a thread for each pair of neighbours, which lie `apart` and leave their parent in the
// place of the left one. pair_starts: which is the first pair of each tree, and how many in all.
extern "C" __global__ void blake3_parents(u64 first, u32 *chaining, const u64 *tree_starts, const u64 *pair_starts,
                                          u64 trees, u64 apart, u64 pairs) {
    const u64 number = thread_number(first);
    if (number >= pairs) return;
    const u64 tree = place_of(pair_starts, trees, number);
    u32 *left = chaining + 8 * (tree_starts[tree] + 2 * apart * (number - pair_starts[tree]));
    Node node;
    join(left, left + 8 * apart, node);
    chain(node, 0, left);
}

// The two nodes that each tree is left with. apart: how far, of each; inputs: whose tree it is.
extern "C" __global__ void blake3_roots(u64 first, const u32 *chaining, const u64 *tree_starts, const u64 *apart,
                                        const u64 *inputs, u8 *digests, u64 out_bytes, u64 trees) {
    const u64 tree = thread_number(first);
    if (tree >= trees) return;
    const u32 *left = chaining + 8 * tree_starts[tree];
    Node node;
    join(left, left + 8 * apart[tree], node);
    squeeze(node, digests + inputs[tree] * out_bytes, out_bytes);
}
