// What a kernel may use beside CUDA's own words, and, for a plain C++ compiler, those words of CUDA that our kernels
// use. A `.cu` begins with #include "host.h"; a GPU's compiler takes the first part of it only.
//
// Run on the host, threads come one after the other, so what needs them at once (__shared__, __syncthreads, shuffles)
// is left out on purpose: a kernel that uses it does not compile here, unless #ifdef MESHD_HOST offers another way.
#pragma once

#ifndef __CUDACC__
#define MESHD_HOST 1
#include <cstddef>
#include <type_traits>
#include <utility>
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef MESHD_HOST

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

namespace meshd_host {
struct Place {
    u32 x, y, z;
};
}  // namespace meshd_host
static thread_local meshd_host::Place threadIdx, blockIdx, blockDim, gridDim;

static inline u32 __umulhi(u32 a, u32 b) { return static_cast<u32>((static_cast<u64>(a) * b) >> 32); }
static inline u64 __umul64hi(u64 a, u64 b) {
    return static_cast<u64>((static_cast<unsigned __int128>(a) * b) >> 64);
}
static inline int __popc(u32 x) { return __builtin_popcount(x); }
static inline int __popcll(u64 x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<u32>(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<u64>(x)) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline u32 __funnelshift_l(u32 low, u32 high, u32 by) {
    return static_cast<u32>(((static_cast<u64>(high) << 32 | low) << (by & 31)) >> 32);
}
static inline u32 __funnelshift_r(u32 low, u32 high, u32 by) {
    return static_cast<u32>((static_cast<u64>(high) << 32 | low) >> (by & 31));
}
// Each nibble of `choice` names one byte of the eight in b:a; its top bit, which spreads a sign, is not used by us.
static inline u32 __byte_perm(u32 a, u32 b, u32 choice) {
    const u64 both = static_cast<u64>(b) << 32 | a;
    u32 chosen = 0;
    for (int at = 0; at < 4; at++)
        chosen |= static_cast<u32>((both >> (8 * (choice >> (4 * at) & 7))) & 0xff) << (8 * at);
    return chosen;
}
template <typename T> static inline T __ldg(const T *at) { return *at; }
template <typename T> static inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> static inline T max(T a, T b) { return a < b ? b : a; }
template <typename T> static inline T atomicAdd(T *at, T by) { return __atomic_fetch_add(at, by, __ATOMIC_RELAXED); }
template <typename T> static inline T atomicOr(T *at, T by) { return __atomic_fetch_or(at, by, __ATOMIC_RELAXED); }
template <typename T> static inline T atomicXor(T *at, T by) { return __atomic_fetch_xor(at, by, __ATOMIC_RELAXED); }

// How the host device calls a kernel whose parameters only the compiler knows.
namespace meshd_host {

// 'P' for a pointer, else the digit of a parameter's size in bytes; the caller compares it with what it hands over.
template <typename... Parameters> static const char *parameters(void (*)(Parameters...)) {
    static const char letters[] = {(std::is_pointer<Parameters>::value ? 'P' : char('0' + sizeof(Parameters)))..., 0};
    return letters;
}

template <typename... Parameters, std::size_t... Index>
static inline void call(void (*kernel)(Parameters...), void *const *arguments, std::index_sequence<Index...>) {
    kernel(*static_cast<std::remove_cv_t<Parameters> *>(arguments[Index])...);
}

// Threads of one launch may run in any order: `backwards` takes the other end first, to show who relied on one.
template <typename... Parameters>
static void launch(void (*kernel)(Parameters...), void *const *arguments, u32 blocks, u32 block, int backwards) {
    gridDim = {blocks, 1, 1};
    blockDim = {block, 1, 1};
    const u64 threads = static_cast<u64>(blocks) * block;
    for (u64 number = 0; number < threads; number++) {
        const u64 at = backwards ? threads - 1 - number : number;
        blockIdx = {static_cast<u32>(at / block), 0, 0};
        threadIdx = {static_cast<u32>(at % block), 0, 0};
        call(kernel, arguments, std::index_sequence_for<Parameters...>());
    }
}

}  // namespace meshd_host

#endif  // MESHD_HOST

// This thread's number. first: the number of its launch's first thread, every kernel's first parameter.
static __device__ __forceinline__ u64 thread_number(u64 first) {
    return first + static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
}
