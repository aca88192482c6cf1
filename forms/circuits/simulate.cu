// Runs lowered circuits: one thread, one batch of 64 shots, the whole program.
//
// Why not several threads a batch: of the public point addition's 12.8 million operations at most 1.96 on average could
// go side by side, however far one looks ahead. Each waits for the one before, so what counts is how long the state
// takes to answer: it lies in shared memory where it fits, 15 KB a batch for that circuit. No thread looks at another's.
#include "host.h"

// Kinds and the two signs are those of kernels.py; the layout of both records is packing.py's.
enum Kind : u32 {
    NEG = 0, BIT_INVERT = 3, BIT_STORE0 = 4, BIT_STORE1 = 5, X = 6, Z = 7, CX = 8, CZ = 9, SWAP = 10, R = 11,
    HMR = 12, CCX = 13, CCZ = 14, PUSH = 15, POP = 16, CLEAR = 17
};
static constexpr u32 KIND = 31, CONDITIONED = 32, CONDITION_SHIFT = 6;
static constexpr u64 ALL = ~0ull;

// One operation. head: the kind, whether it is conditioned, and the condition's row.
struct alignas(16) Instruction {
    u32 head, a, b, c;
};

// What the threads of one block have in common: a program, and their places in words and states, all counted in items.
struct Group {
    u64 code, instructions, words, words_a_batch, state, rows, stack, used;
};

// 48 KB, what every GPU gives a block unasked.
static constexpr u32 NEAR_WORDS = 6144;

struct Batch {
    u64 *state;
    const u64 *random;
    u64 drawn, base, phase, toffoli, clifford;
    u32 stride, top, lfsr;

    __device__ __forceinline__ u64 &row(u32 number) { return state[static_cast<u64>(number) * stride]; }

    // xorshift64* (xof.py) from the batch's first state; or from memory, one ahead: after the last stands one more.
    __device__ __forceinline__ u64 next_word() {
        if (lfsr) {
            drawn ^= drawn >> 12;
            drawn ^= drawn << 25;
            drawn ^= drawn >> 27;
            return drawn * 0x2545F4914F6CDD1Dull;
        }
        const u64 word = drawn;
        drawn = *++random;
        return word;
    }
};

static __device__ __forceinline__ void step(Batch &at, const Instruction op) {
    const u32 kind = op.head & KIND;
    u64 active = ALL;
    if (op.head & CONDITIONED) {
        active = at.base & at.row(op.head >> CONDITION_SHIFT);
        if (kind >= CX) (kind >= CCX ? at.toffoli : at.clifford) += __popcll(active);
    }
    switch (kind) {
    case CX: at.row(op.a) ^= active & at.row(op.b); break;
    case CCX: at.row(op.a) ^= active & at.row(op.b) & at.row(op.c); break;
    case X: at.row(op.a) ^= active; break;
    case CZ: at.phase ^= active & at.row(op.a) & at.row(op.b); break;
    case HMR: {
        const u64 word = at.next_word(), target = at.row(op.a);
        at.row(op.c) = (at.row(op.c) & ~active) ^ (word & active);
        at.phase ^= target & word & active;
        at.row(op.a) = target & ~active;
        break;
    }
    case R: {
        const u64 word = at.next_word(), target = at.row(op.a);
        at.phase ^= target & word & active;
        at.row(op.a) = target & ~active;
        break;
    }
    case SWAP: {
        const u64 a = at.row(op.a), b = at.row(op.b), moved = (a ^ b) & active;
        at.row(op.a) = a ^ moved;
        at.row(op.b) = b ^ moved;
        break;
    }
    case Z: at.phase ^= active & at.row(op.a); break;
    case CCZ: at.phase ^= active & at.row(op.a) & at.row(op.b) & at.row(op.c); break;
    case NEG: at.phase ^= active; break;
    case BIT_INVERT: at.row(op.a) ^= active; break;
    case BIT_STORE0: at.row(op.a) &= ~active; break;
    case BIT_STORE1: at.row(op.a) |= active; break;
    case CLEAR: at.row(op.a) = 0; break;
    case PUSH:
        at.row(at.top++) = at.base;
        at.base &= at.row(op.head >> CONDITION_SHIFT);
        break;
    case POP: at.base = at.row(--at.top); break;
    }
}

// Four operations are fetched while four are run; programs are filled up to whole fours, and four more, by packing.py.
static __device__ __forceinline__ void run(Batch &at, const Instruction *__restrict__ code, u64 instructions) {
    Instruction now[4] = {code[0], code[1], code[2], code[3]};
    for (u64 done = 4; done <= instructions; done += 4) {
        const Instruction next[4] = {code[done], code[done + 1], code[done + 2], code[done + 3]};
#pragma unroll
        for (int i = 0; i < 4; i++) step(at, now[i]);
#pragma unroll
        for (int i = 0; i < 4; i++) now[i] = next[i];
    }
}

static __device__ __forceinline__ void simulate(
    u64 *state, u32 stride, const Group &group, u32 lane, const Instruction *code, const u64 *words, u64 *ends,
    u32 lfsr) {
    const u64 *random = words + group.words + lane * group.words_a_batch;
    Batch at = {state, random, *random, ALL, 0, 0, 0, stride, static_cast<u32>(group.stack), lfsr};
    run(at, code + group.code, group.instructions);
    ends[0] = at.phase;
    ends[1] = at.toffoli;
    ends[2] = at.clifford;
}

// The state stays where it was uploaded: for circuits of any size. words: of a batch one after the other, or with `lfsr`
// its first state alone.  state: [group][row][lane].  ends: [thread][3].
extern "C" __global__ void __launch_bounds__(32) simulate_far(
    u64 first, const Group *groups, const Instruction *code, const u64 *words, u64 *state, u64 *ends, u32 lanes,
    u64 threads, u32 lfsr) {
    const u64 thread = thread_number(first);
    if (thread >= threads) return;
    const Group group = groups[thread / lanes];
    const u32 lane = static_cast<u32>(thread % lanes);
    if (lane >= group.used) return;
    simulate(state + group.state + lane, lanes, group, lane, code, words, ends + 3 * thread, lfsr);
}

// The state is brought near for the run: for circuits of few rows, rows × lanes ≤ NEAR_WORDS.
extern "C" __global__ void __launch_bounds__(32) simulate_near(
    u64 first, const Group *groups, const Instruction *code, const u64 *words, u64 *state, u64 *ends, u32 lanes,
    u64 threads, u32 lfsr) {
#ifdef MESHD_HOST
    static thread_local u64 near_state[NEAR_WORDS];
#else
    __shared__ u64 near_state[NEAR_WORDS];
#endif
    const u64 thread = thread_number(first);
    if (thread >= threads) return;
    const Group group = groups[thread / lanes];
    const u32 lane = static_cast<u32>(thread % lanes);
    if (lane >= group.used) return;
    u64 *far_state = state + group.state + lane, *own = near_state + lane;
    for (u64 row = 0; row < group.rows; row++) own[row * lanes] = far_state[row * lanes];
    simulate(own, lanes, group, lane, code, words, ends + 3 * thread, lfsr);
    for (u64 row = 0; row < group.rows; row++) far_state[row * lanes] = own[row * lanes];
}
