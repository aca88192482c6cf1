// secp256k1 (SEC 2, section 2.4.1): many scalars times one point, one scalar per thread.
//
// A product is left in Jacobian coordinates (x = X/Z², y = Y/Z³; Z = 0 is infinity), and `affine` then divides for a
// whole run of items with one inversion. Tables hold affine points as the wire does: x‖y, 32 bytes each, little-endian,
// zeros for infinity. Nothing here is constant in time: scalars of this form are public.

#include "host.h"

#define INLINE __device__ __forceinline__

// A residue modulo p = 2^256 - 2^32 - 977 by any representative below 2^256; `lowest` makes it the one below p.
struct Field {
    u32 limb[8];
};

struct Affine {
    Field x, y;
};

struct Jacobian {
    Field x, y, z;
};

INLINE Field small(u32 value) {
    Field r = {{value, 0, 0, 0, 0, 0, 0, 0}};
    return r;
}

// Add top · 2^256, which is top · (2^32 + 977). top < 2^34. A second round is as good as never needed.
INLINE void fold(Field& r, u64 top) {
    while (top) {
        u64 sum = r.limb[0] + top * 977;
        r.limb[0] = (u32)sum;
        sum = (sum >> 32) + r.limb[1] + top;
        r.limb[1] = (u32)sum;
        top = sum >> 32;
#pragma unroll
        for (int i = 2; i < 8; i++) {
            top += r.limb[i];
            r.limb[i] = (u32)top;
            top >>= 32;
        }
    }
}

INLINE Field add(const Field& a, const Field& b) {
    Field r;
    u64 carry = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        carry += (u64)a.limb[i] + b.limb[i];
        r.limb[i] = (u32)carry;
        carry >>= 32;
    }
    fold(r, carry);
    return r;
}

// r = a - b modulo 2^256; the borrow, 0 or 1.
INLINE u32 subtract_limbs(Field& r, const Field& a, const Field& b) {
    u64 borrow = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u64 difference = (u64)a.limb[i] - b.limb[i] - borrow;
        r.limb[i] = (u32)difference;
        borrow = difference >> 63;
    }
    return (u32)borrow;
}

INLINE Field subtract(const Field& a, const Field& b) {
    Field r;
    const Field step = {{977, 1, 0, 0, 0, 0, 0, 0}};
    u32 borrow = subtract_limbs(r, a, b);
    while (borrow) borrow = subtract_limbs(r, r, step);  // - 2^256 is - (2^32 + 977)
    return r;
}

// The low half plus (2^32 + 977) times the high half.
INLINE Field reduce(const u32* wide) {
    Field r;
    u64 sum = 0;
    u32 below = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum += (u64)wide[8 + i] * 977 + wide[i] + below;
        r.limb[i] = (u32)sum;
        sum >>= 32;
        below = wide[8 + i];
    }
    fold(r, sum + below);
    return r;
}

INLINE Field multiply(const Field& a, const Field& b) {
    u32 wide[16];
    u64 carry = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        carry += (u64)a.limb[0] * b.limb[j];
        wide[j] = (u32)carry;
        carry >>= 32;
    }
    wide[8] = (u32)carry;
#pragma unroll
    for (int i = 1; i < 8; i++) {
        carry = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            carry += (u64)a.limb[i] * b.limb[j] + wide[i + j];
            wide[i + j] = (u32)carry;
            carry >>= 32;
        }
        wide[i + 8] = (u32)carry;
    }
    return reduce(wide);
}

// Each product of two different limbs once, doubled, then the squares of limbs.
INLINE Field square(const Field& a) {
    u32 wide[16];
#pragma unroll
    for (int i = 0; i < 16; i++) wide[i] = 0;
    u64 carry;
#pragma unroll
    for (int i = 0; i < 7; i++) {
        carry = 0;
#pragma unroll
        for (int j = i + 1; j < 8; j++) {
            carry += (u64)a.limb[i] * a.limb[j] + wide[i + j];
            wide[i + j] = (u32)carry;
            carry >>= 32;
        }
        wide[i + 8] = (u32)carry;
    }
    carry = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u64 own = (u64)a.limb[i] * a.limb[i];
        carry += ((u64)wide[2 * i] << 1) + (u32)own;
        wide[2 * i] = (u32)carry;
        carry = (carry >> 32) + ((u64)wide[2 * i + 1] << 1) + (own >> 32);
        wide[2 * i + 1] = (u32)carry;
        carry >>= 32;
    }
    return reduce(wide);
}

// a^(2^times) · b. A call, not inlined: `invert` has a dozen of them, and is rare.
__device__ __noinline__ Field square_times_multiply(Field a, int times, Field b) {
#pragma unroll 1
    for (int i = 0; i < times; i++) a = square(a);
    return multiply(a, b);
}

INLINE Field lowest(const Field& a) {
    const u32 ones = 0xFFFFFFFF;
    const Field prime = {{0xFFFFFC2F, 0xFFFFFFFE, ones, ones, ones, ones, ones, ones}};
    Field r;
    return subtract_limbs(r, a, prime) ? a : r;
}

INLINE bool is_zero(const Field& a) {
    Field r = lowest(a);
    u32 any = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) any |= r.limb[i];
    return any == 0;
}

// a^(p-2) by Fermat. From the top p-2 is 223 ones, a zero, 22 ones, then 0000101101; `ones_n` is a^(2^n - 1).
__device__ Field invert(const Field& a) {
    Field ones_2 = square_times_multiply(a, 1, a);
    Field ones_3 = square_times_multiply(ones_2, 1, a);
    Field ones_6 = square_times_multiply(ones_3, 3, ones_3);
    Field ones_9 = square_times_multiply(ones_6, 3, ones_3);
    Field ones_11 = square_times_multiply(ones_9, 2, ones_2);
    Field ones_22 = square_times_multiply(ones_11, 11, ones_11);
    Field ones_44 = square_times_multiply(ones_22, 22, ones_22);
    Field ones_88 = square_times_multiply(ones_44, 44, ones_44);
    Field r = square_times_multiply(ones_88, 88, ones_88);  // 176 ones
    r = square_times_multiply(r, 44, ones_44);              // 220
    r = square_times_multiply(r, 3, ones_3);                // 223
    r = square_times_multiply(r, 23, ones_22);
    r = square_times_multiply(r, 5, a);
    r = square_times_multiply(r, 3, ones_2);
    return square_times_multiply(r, 2, a);
}

INLINE Jacobian infinity() {
    Jacobian r = {small(0), small(1), small(0)};
    return r;
}

// Infinity stays infinity, since Z is a factor of the new Z. No point of this curve has y = 0.
__device__ __noinline__ Jacobian twice(Jacobian a) {
    Jacobian r;
    Field y_square = square(a.y);
    Field s = multiply(a.x, y_square);
    s = add(s, s);
    s = add(s, s);
    Field m = square(a.x);
    m = add(add(m, m), m);
    r.x = subtract(square(m), add(s, s));
    Field y_fourth = square(y_square);
    y_fourth = add(y_fourth, y_fourth);
    y_fourth = add(y_fourth, y_fourth);
    r.y = subtract(multiply(m, subtract(s, r.x)), add(y_fourth, y_fourth));
    r.z = multiply(a.y, a.z);
    r.z = add(r.z, r.z);
    return r;
}

// Any a, infinity and ±b included; b is no infinity.
__device__ __noinline__ Jacobian plus(Jacobian a, Affine b) {
    if (is_zero(a.z)) {
        Jacobian r = {b.x, b.y, small(1)};
        return r;
    }
    Field z_square = square(a.z);
    Field h = subtract(multiply(b.x, z_square), a.x);
    Field r_y = subtract(multiply(b.y, multiply(z_square, a.z)), a.y);
    if (is_zero(h)) return is_zero(r_y) ? twice(a) : infinity();
    Field h_square = square(h);
    Field h_cube = multiply(h_square, h);
    Field v = multiply(a.x, h_square);
    Jacobian r;
    r.x = subtract(subtract(square(r_y), h_cube), add(v, v));
    r.y = subtract(multiply(r_y, subtract(v, r.x)), multiply(a.y, h_cube));
    r.z = multiply(a.z, h);
    return r;
}

// Rows of 8 limbs on the wire and in tables.
INLINE Field read_row(const u32* row) {
    Field r;
#pragma unroll
    for (int i = 0; i < 8; i++) r.limb[i] = row[i];
    return r;
}

INLINE void write_row(u32* row, const Field& value) {
#pragma unroll
    for (int i = 0; i < 8; i++) row[i] = value.limb[i];
}

INLINE Affine read_point(const u32* row) {
    Affine r = {read_row(row), read_row(row + 8)};
    return r;
}

// Between kernels limb k of all items lies together, so that neighbouring threads touch neighbouring words.
INLINE Field read_column(const u32* columns, int first, u64 item, u64 count) {
    Field r;
#pragma unroll
    for (int i = 0; i < 8; i++) r.limb[i] = columns[(first + i) * count + item];
    return r;
}

INLINE void write_columns(u32* columns, const Jacobian& value, u64 item, u64 count) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        columns[i * count + item] = value.x.limb[i];
        columns[(8 + i) * count + item] = value.y.limb[i];
        columns[(16 + i) * count + item] = value.z.limb[i];
    }
}

// Bits of a scalar, which need not be below the order of the group: `plus` knows every pair of points.
INLINE u32 read_digit(const u32* scalar, u32 place, u32 width) {
    u32 limb = place / 32;
    return __funnelshift_r(scalar[limb], limb < 7 ? scalar[limb + 1] : 0, place % 32) & ((1u << width) - 1);
}

// Windows of `width` bits, the topmost of `windows` first. table: blocks of 2^width points, row d of a block d times
// its row 1. Either there is a block for each window, 2^width times the one below, and adding is enough; or a block serves
// `items` threads, and the sum is doubled from window to window.
extern "C" __global__ void multiply_point(u64 first, const u32* table, u32 width, u32 windows, u32 is_by_window,
                                          u32 items, const u32* scalars, u32* products, u32 count) {
    u64 item = thread_number(first);
    if (item >= count) return;
    Jacobian sum = infinity();
#pragma unroll 1
    for (int window = (int)windows - 1; window >= 0; window--) {
#pragma unroll 1
        for (u32 bit = is_by_window ? width : 0; bit < width; bit++) sum = twice(sum);
        u32 digit = read_digit(scalars + 8 * item, window * width, width);
        u64 block = is_by_window ? window : item / items;
        if (digit) sum = plus(sum, read_point(table + 16 * ((block << width) + digit)));
    }
    write_columns(products, sum, item, count);
}

// Montgomery's trick: thread t divides for the items t, t + threads, … with one inversion. Until an item's own turn
// comes back, its place in `points` keeps the product of the Z before it.
extern "C" __global__ void affine(u64 first, const u32* products, u32* points, u32 threads, u32 count) {
    u64 own = thread_number(first);
    if (own >= threads) return;
    Field product = small(1);
    u64 item = own;
#pragma unroll 1
    for (; item < count; item += threads) {
        write_row(points + 16 * item, product);
        Field z = read_column(products, 16, item, count);
        if (!is_zero(z)) product = multiply(product, z);
    }
    Field inverse = invert(product);
#pragma unroll 1
    while (item > own) {
        item -= threads;
        Field z = read_column(products, 16, item, count);
        Field x = small(0), y = small(0);
        if (!is_zero(z)) {
            Field of_z = multiply(inverse, read_row(points + 16 * item));
            inverse = multiply(inverse, z);
            Field of_square = square(of_z);
            x = lowest(multiply(read_column(products, 0, item, count), of_square));
            y = lowest(multiply(read_column(products, 8, item, count), multiply(of_square, of_z)));
        }
        write_row(points + 16 * item, x);
        write_row(points + 16 * item + 8, y);
    }
}
