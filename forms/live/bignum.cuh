// Arithmetic on pairs of large numbers under one modulus, one pair per thread; exact for every modulus but 0 and 1.
//
// Products are reduced by Barrett's method under a modulus shifted to the full width (Handbook of Applied Cryptography,
// 14.42): odd or even, it takes about three products a reduction, where Montgomery's way in and out would take four.
// Powers, which stay inside, are Montgomery's where the modulus is odd (14.36) and Barrett's where it is even.
// Inverses are binary (14.61). What depends on the modulus alone the caller works out once: struct Modulus.
//
// A file bignum_W.cu is this one for numbers of up to W limbs. Where W is small the compiler knows the width, and
// numbers stay in registers, padded to W; elsewhere they lie in local memory, and loops run over the limbs there are.

#include "host.h"

#define INLINE __device__ __forceinline__

typedef const u32* Rows;  // numbers of `words` limbs each, least significant first

static const bool IS_SMALL = W <= 8;  // 16 limbs unrolled take a compiler twenty seconds
static const int UNROLL = IS_SMALL ? 2 * W : 1;
static const int UNROLL_PRODUCTS = IS_SMALL ? W : 4;
static const int WINDOW = 4;  // bits of an exponent at a time

INLINE int limbs_of(u32 words) { return IS_SMALL ? W : (int)words; }

// n limbs each: m, m · 2^shift with its top bit set, the reciprocal of that, R² and R mod m; R is 2^32n.
// reciprocal: floor((2^64n - 1) / (m · 2^shift)) - 2^32n.  negative_inverse: -1/m mod 2^32, for an odd m.
struct Modulus {
    const u32 *value, *shifted, *reciprocal, *r_square, *r;
    u32 shift, negative_inverse, is_odd;

    INLINE Modulus(const u32* constants, int n)
        : value(constants), shifted(constants + n), reciprocal(constants + 2 * n), r_square(constants + 3 * n),
          r(constants + 4 * n), shift(constants[5 * n]), negative_inverse(constants[5 * n + 1]),
          is_odd(constants[5 * n + 2]) {}
};

// A sum of products of limbs, of which the lowest limb is taken off, column by column.
struct Column {
    u64 low;
    u32 high;

    INLINE Column() : low(0), high(0) {}

    INLINE void add(u64 value) {
        low += value;
        high += low < value;
    }

    // Σ a[j] · b[column - j] for from <= j < to.
    INLINE void add_products(const u32* a, const u32* b, int column, int from, int to) {
#pragma unroll UNROLL_PRODUCTS
        for (int j = from; j < to; j++) add((u64)a[j] * b[column - j]);
    }

    INLINE u32 take() {
        u32 limb = (u32)low;
        low = low >> 32 | (u64)high << 32;
        high = 0;
        return limb;
    }
};

INLINE void load(u32* r, Rows rows, u64 item, u32 words) {
    const u32* row = rows + item * words;
#pragma unroll UNROLL
    for (int i = 0; i < limbs_of(words); i++) r[i] = i < (int)words ? row[i] : 0;
}

INLINE void store(u32* rows, const u32* a, u64 item, u32 words) {
    u32* row = rows + item * words;
#pragma unroll UNROLL
    for (int i = 0; i < limbs_of(words); i++)
        if (i < (int)words) row[i] = a[i];
}

INLINE void copy(u32* r, const u32* a, int n) {
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) r[i] = a[i];
}

INLINE void set(u32* r, u32 value, int n) {
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) r[i] = i ? 0 : value;
}

INLINE bool is(const u32* a, u32 value, int n) {
    u32 different = a[0] ^ value;
#pragma unroll UNROLL
    for (int i = 1; i < n; i++) different |= a[i];
    return different == 0;
}

// r = a + b; the carry.
INLINE u32 add(u32* r, const u32* a, const u32* b, int n) {
    u64 carry = 0;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        carry += (u64)a[i] + b[i];
        r[i] = (u32)carry;
        carry >>= 32;
    }
    return (u32)carry;
}

// r = a - b; the borrow.
INLINE u32 subtract(u32* r, const u32* a, const u32* b, int n) {
    u64 borrow = 0;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        u64 difference = (u64)a[i] - b[i] - borrow;
        r[i] = (u32)difference;
        borrow = difference >> 63;
    }
    return (u32)borrow;
}

INLINE bool is_less(const u32* a, const u32* b, int n) {
    u64 borrow = 0;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) borrow = ((u64)a[i] - b[i] - borrow) >> 63;
    return borrow;
}

// Subtract b until less than b is left. top: the limb above a's.
INLINE void subtract_while_it_fits(u32* a, u32 top, const u32* b, int n) {
    while (top || !is_less(a, b, n)) top -= subtract(a, a, b, n);
}

// By whole limbs first: one at a time where limbs are registers, which have no index.
INLINE void shift_left(u32* a, u32 shift, int n) {
    int limbs = (int)(shift / 32);
    if (IS_SMALL) {
#pragma unroll 1
        for (; limbs; limbs--) {
#pragma unroll UNROLL
            for (int i = n - 1; i > 0; i--) a[i] = a[i - 1];
            a[0] = 0;
        }
    }
#pragma unroll UNROLL
    for (int i = n - 1; i >= 0; i--) {
        u32 upper = i >= limbs ? a[i - limbs] : 0, lower = i > limbs ? a[i - limbs - 1] : 0;
        a[i] = __funnelshift_l(lower, upper, shift % 32);
    }
}

INLINE void shift_right(u32* a, u32 shift, int n) {
    int limbs = (int)(shift / 32);
    if (IS_SMALL) {
#pragma unroll 1
        for (; limbs; limbs--) {
#pragma unroll UNROLL
            for (int i = 0; i + 1 < n; i++) a[i] = a[i + 1];
            a[n - 1] = 0;
        }
    }
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        u32 lower = i + limbs < n ? a[i + limbs] : 0, upper = i + limbs + 1 < n ? a[i + limbs + 1] : 0;
        a[i] = __funnelshift_r(lower, upper, shift % 32);
    }
}

// The low n limbs of a product.
INLINE void multiply_low(u32* r, const u32* a, const u32* b, int n) {
    Column column;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        column.add_products(a, b, i, 0, i + 1);
        r[i] = column.take();
    }
}

// All 2n limbs of it.
INLINE void multiply(u32* wide, const u32* a, const u32* b, int n) {
    Column column;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        column.add_products(a, b, i, 0, i + 1);
        wide[i] = column.take();
    }
#pragma unroll UNROLL
    for (int i = n; i < 2 * n; i++) {
        column.add_products(a, b, i, i - n + 1, n);
        wide[i] = column.take();
    }
}

// The remainder of 2n limbs by m · 2^shift, in the lower n; what is reduced is below m · 2^(shift + 32n).
// The quotient, taken from the upper half alone, is at most three too small. It takes that half's place: a column of
// the product does not look at what earlier columns have written over.
INLINE void reduce_wide(u32* wide, const Modulus& m, int n) {
    u32 top = wide[n];
    u32* upper = wide + n;
    Column quotient, product;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        quotient.add_products(upper, m.reciprocal, i, 0, i + 1);
        quotient.take();
    }
#pragma unroll UNROLL
    for (int i = n; i < 2 * n; i++) {
        quotient.add_products(upper, m.reciprocal, i, i - n + 1, n);
        quotient.add(wide[i]);
        wide[i] = quotient.take();
    }
    u64 borrow = 0;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        product.add_products(upper, m.shifted, i, 0, i + 1);
        u64 difference = (u64)wide[i] - product.take() - borrow;
        wide[i] = (u32)difference;
        borrow = difference >> 63;
    }
    product.add_products(upper, m.shifted, n, 1, n);
    top -= product.take() + (u32)borrow;
    subtract_while_it_fits(wide, top, m.shifted, n);
}

// a mod m, in place. wide: room for 2n limbs.
INLINE void reduce(u32* a, u32* wide, const Modulus& m, int n) {
    if (is_less(a, m.value, n)) return;
    copy(wide, a, n);
    set(wide + n, 0, n);
    shift_left(wide, m.shift, 2 * n);
    reduce_wide(wide, m, n);
    shift_right(wide, m.shift, n);
    copy(a, wide, n);
}

// a · b mod m in the lower half of wide. a < m, and comes out shifted; b is any number of n limbs.
INLINE void multiply_reduced(u32* wide, u32* a, const u32* b, const Modulus& m, int n) {
    shift_left(a, m.shift, n);
    multiply(wide, a, b, n);
    reduce_wide(wide, m, n);
    shift_right(wide, m.shift, n);
}

// r = a · b / R mod m. a or b below m, the other any number of n limbs; r is neither. The multiples of m that clear
// each column are kept in r until its own columns come.
INLINE void multiply_montgomery(u32* r, const u32* a, const u32* b, const Modulus& m, int n) {
    Column column;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        column.add_products(a, b, i, 0, i + 1);
        column.add_products(r, m.value, i, 0, i);
        r[i] = (u32)column.low * m.negative_inverse;
        column.add((u64)r[i] * m.value[0]);
        column.take();
    }
#pragma unroll UNROLL
    for (int i = n; i < 2 * n; i++) {
        column.add_products(a, b, i, i - n + 1, n);
        column.add_products(r, m.value, i, i - n + 1, n);
        r[i - n] = column.take();
    }
    subtract_while_it_fits(r, (u32)column.low, m.value, n);
}

// a + b, a - b, or the low half of a · b, as `operation` has it.
extern "C" __global__ void wrapping(u64 first, Rows a, Rows b, u32 operation, u32* out, u32 words, u32 count) {
    const u64 item = thread_number(first);
    if (item >= count) return;
    const int n = limbs_of(words);
    u32 x[W], y[W], r[W];
    load(x, a, item, words);
    load(y, b, item, words);
    if (operation == 0) add(r, x, y, n);
    if (operation == 1) subtract(r, x, y, n);
    if (operation == 2) multiply_low(r, x, y, n);
    store(out, r, item, words);
}

// a + b mod m, or a - b mod m.
extern "C" __global__ void mod_sum(u64 first, Rows a, Rows b, u32 is_difference, Rows constants, u32* out, u32 words,
                                   u32 count) {
    const u64 item = thread_number(first);
    if (item >= count) return;
    const int n = limbs_of(words);
    const Modulus m(constants, n);
    u32 x[W], y[W], wide[2 * W];
    load(x, a, item, words);
    load(y, b, item, words);
    reduce(x, wide, m, n);
    reduce(y, wide, m, n);
    if (is_difference) {
        if (subtract(x, x, y, n)) add(x, x, m.value, n);
    } else {
        subtract_while_it_fits(x, add(x, x, y, n), m.value, n);
    }
    store(out, x, item, words);
}

// a · b mod m.
extern "C" __global__ void mod_mul(u64 first, Rows a, Rows b, Rows constants, u32* out, u32 words, u32 count) {
    const u64 item = thread_number(first);
    if (item >= count) return;
    const int n = limbs_of(words);
    const Modulus m(constants, n);
    u32 x[W], y[W], wide[2 * W];
    load(x, a, item, words);
    load(y, b, item, words);
    reduce(x, wide, m, n);
    multiply_reduced(wide, x, y, m, n);
    store(out, wide, item, words);
}

struct Number {
    u32 limb[W];
};

// A power has five places for a product. Unrolled it is long, and called, with its numbers in registers.
#if W <= 8
#define PRODUCT __device__ __noinline__ Number
typedef Number Operand;
#else
#define PRODUCT INLINE Number
typedef const Number& Operand;
#endif

// Products inside a power. In Montgomery's form all numbers are multiples of R.
struct Montgomery {
    static PRODUCT multiply(Operand a, Operand b, Rows constants, u32 words) {
        const int n = limbs_of(words);
        Number r;
        multiply_montgomery(r.limb, a.limb, b.limb, Modulus(constants, n), n);
        return r;
    }

    static INLINE Number enter(const Number& a, Rows constants, u32 words) {
        const int n = limbs_of(words);
        Number r_square;
        copy(r_square.limb, Modulus(constants, n).r_square, n);
        return multiply(a, r_square, constants, words);
    }

    static INLINE Number one(Rows constants, u32 words) {
        const int n = limbs_of(words);
        Number r;
        copy(r.limb, Modulus(constants, n).r, n);
        return r;
    }

    static INLINE Number leave(const Number& a, Rows constants, u32 words) {
        Number one;
        set(one.limb, 1, limbs_of(words));
        return multiply(a, one, constants, words);
    }
};

struct Barrett {
    static PRODUCT multiply(Operand a, Operand b, Rows constants, u32 words) {
        const int n = limbs_of(words);
        Number r = a;
        u32 wide[2 * W];
        multiply_reduced(wide, r.limb, b.limb, Modulus(constants, n), n);
        copy(r.limb, wide, n);
        return r;
    }

    static INLINE Number enter(Number a, Rows constants, u32 words) {
        const int n = limbs_of(words);
        u32 wide[2 * W];
        reduce(a.limb, wide, Modulus(constants, n), n);
        return a;
    }

    static INLINE Number one(Rows, u32 words) {
        Number r;
        set(r.limb, 1, limbs_of(words));
        return r;
    }

    static INLINE Number leave(const Number& a, Rows, u32) { return a; }
};

// a^b mod m from the exponent's top window on. table: the powers 1 to 15 of each thread's a, neighbours side by side.
template <typename Form>
INLINE void power(u64 item, Rows a, Rows b, Rows constants, u32* table, u32* out, u32 words, u32 count) {
    const int n = limbs_of(words);
    Number x;
    load(x.limb, a, item, words);
    x = Form::enter(x, constants, words);
    Number r = x;
#pragma unroll 1
    for (int entry = 0;; entry++) {
#pragma unroll UNROLL
        for (int i = 0; i < n; i++) table[((u64)entry * n + i) * count + item] = r.limb[i];
        if (entry + 2 == 1 << WINDOW) break;
        r = Form::multiply(r, x, constants, words);
    }
    r = Form::one(constants, words);
    bool is_one = true;
#pragma unroll 1
    for (int place = (int)words * 32 - WINDOW; place >= 0; place -= WINDOW) {
#pragma unroll 1
        for (int i = 0; i < WINDOW && !is_one; i++) r = Form::multiply(r, r, constants, words);
        u32 digit = b[item * words + place / 32] >> place % 32 & ((1 << WINDOW) - 1);
        if (!digit) continue;
#pragma unroll UNROLL
        for (int i = 0; i < n; i++) x.limb[i] = table[((u64)(digit - 1) * n + i) * count + item];
        r = Form::multiply(r, x, constants, words);
        is_one = false;
    }
    r = Form::leave(r, constants, words);
    store(out, r.limb, item, words);
}

extern "C" __global__ void mod_pow(u64 first, Rows a, Rows b, Rows constants, u32* table, u32* out, u32 words,
                                   u32 count) {
    const u64 item = thread_number(first);
    if (item >= count) return;
    if (Modulus(constants, limbs_of(words)).is_odd)
        power<Montgomery>(item, a, b, constants, table, out, words, count);
    else
        power<Barrett>(item, a, b, constants, table, out, words, count);
}

// 1/odd mod 2^32: each step doubles the bits that are right, of which the first guess has three.
INLINE u32 inverse_of_limb(u32 odd) {
    u32 r = odd;
    for (int i = 0; i < 4; i++) r *= 2 - odd * r;
    return r;
}

// a = (a + c · y) / 2^shift, with the c that makes it whole. 0 < shift < 32; a < y stays so.
INLINE void divide_modulo(u32* a, u32 shift, const u32* y, u32 negative_inverse, int n) {
    u32 c = a[0] * negative_inverse & ((1u << shift) - 1), below = 0;
    u64 carry = 0;
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        carry += (u64)c * y[i] + a[i];
        if (i) a[i - 1] = __funnelshift_r(below, (u32)carry, shift);
        below = (u32)carry;
        carry >>= 32;
    }
    a[n - 1] = __funnelshift_r(below, (u32)carry, shift);
}

INLINE void swap(u32* a, u32* b, int n) {
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        u32 kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

// r = 1/x mod y; false where there is none. y is odd and above 1; x is any number, and is lost.
// Always x_now = p · x and v = r · x modulo y; the pair comes down to (0, gcd).
INLINE bool invert(u32* r, u32* x, const u32* y, int n) {
    u32 v[W], p[W];
    const u32 negative_inverse = 0 - inverse_of_limb(y[0]);
    copy(v, y, n);
    set(p, 1, n);
    set(r, 0, n);
#pragma unroll 1
    while (!is(x, 0, n)) {
#pragma unroll 1
        while (!(x[0] & 1)) {
            u32 shift = x[0] ? __ffs((int)x[0]) - 1 : 31;
            shift_right(x, shift, n);
            divide_modulo(p, shift, y, negative_inverse, n);
        }
        if (is_less(x, v, n)) {
            swap(x, v, n);
            swap(p, r, n);
        }
        subtract(x, x, v, n);
        if (subtract(p, p, r, n)) add(p, p, y, n);
    }
    return is(v, 1, n);
}

// r = (1 + m · a) / d, which is whole and fits: limb by limb, from below. d is odd.
INLINE void divide_exactly(u32* r, const u32* m, const u32* a, const u32* d, int n) {
    const u32 inverse = inverse_of_limb(d[0]);
    Column given, divided;
    given.add(1);
#pragma unroll UNROLL
    for (int i = 0; i < n; i++) {
        given.add_products(m, a, i, 0, i + 1);
        divided.add_products(r, d, i, 0, i);
        r[i] = (given.take() - (u32)divided.low) * inverse;
        divided.add((u64)r[i] * d[0]);
        divided.take();
    }
}

// 1/a mod m, 0 where there is none. Halving needs an odd modulus; under an even one a has to be odd itself, and
// 1/a mod m = (1 + m · (-1/m mod a)) / a.
extern "C" __global__ void mod_inv(u64 first, Rows a, Rows constants, u32* out, u32 words, u32 count) {
    const u64 item = thread_number(first);
    if (item >= count) return;
    const int n = limbs_of(words);
    const Modulus m(constants, n);
    u32 x[W], y[W], r[W];
    load(x, a, item, words);
    copy(y, m.value, n);
    if (!m.is_odd) swap(x, y, n);
    bool exists = y[0] & 1;
    if (exists && is(y, 1, n)) {
        set(r, 1, n);
    } else if (exists) {
        exists = invert(r, x, y, n);
        if (exists && !m.is_odd) {
            subtract(r, y, r, n);
            divide_exactly(x, m.value, r, y, n);
            copy(r, x, n);
        }
    }
    if (!exists) set(r, 0, n);
    store(out, r, item, words);
}
