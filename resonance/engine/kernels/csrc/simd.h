// SIMD vectors of sixteen numbers, and the functions of them that a transformer needs.
//
// GCC's vector extensions compile to AVX-512, AVX2 or NEON. Instructions that the extensions cannot express are guarded
// by the macros of their instruction sets, with a portable version beside them.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace resonance {

constexpr int LANES = 16;
typedef float F32x16 __attribute__((vector_size(64)));
typedef int32_t I32x16 __attribute__((vector_size(64)));
typedef uint32_t U32x16 __attribute__((vector_size(64)));
typedef uint16_t U16x16 __attribute__((vector_size(32)));

template <class Vector>
inline Vector load(const void* from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

template <class Vector>
inline void store(void* to, Vector vector) {
    memcpy(to, &vector, sizeof vector);
}

inline F32x16 splat(float value) { return F32x16{} + value; }

inline U32x16 as_bits(F32x16 x) { return (U32x16)x; }

inline F32x16 to_floats(I32x16 x) { return __builtin_convertvector(x, F32x16); }

// bfloat16 is the upper half of a float.
inline F32x16 widen(const uint16_t* from) {
    return (F32x16)(__builtin_convertvector(load<U16x16>(from), U32x16) << 16);
}
inline F32x16 widen(const float* from) { return load<F32x16>(from); }

inline uint16_t to_bf16(float x) {  // rounds to nearest, ties to even
    uint32_t b;
    memcpy(&b, &x, 4);
    return (b + 0x7fff + ((b >> 16) & 1)) >> 16;
}

inline float from_bf16(uint16_t x) {
    uint32_t b = uint32_t(x) << 16;
    float value;
    memcpy(&value, &b, 4);
    return value;
}

inline void narrow(uint16_t* to, F32x16 x) {
#if defined(__AVX512BF16__)
    store(to, _mm512_cvtneps_pbh((__m512)x));
#else
    U32x16 b = as_bits(x);
    store(to, __builtin_convertvector((b + 0x7fff + ((b >> 16) & 1)) >> 16, U16x16));
#endif
}
inline void narrow(float* to, F32x16 x) { store(to, x); }

inline float horizontal_sum(F32x16 x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#else
    float total[LANES];
    store(total, x);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) total[i] += total[i + width];
    return total[0];
#endif
}

inline F32x16 fold_halves(F32x16 a, F32x16 b, I32x16 low, int distance) {
    return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, low + distance);
}

// The horizontal sums of sixteen vectors in one vector: each round folds pairs of vectors into one.
inline F32x16 horizontal_sums(F32x16 (&x)[LANES]) {
    const I32x16 low8{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
    const I32x16 low4{0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27};
    const I32x16 low2{0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29};
    const I32x16 low1{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    for (int i = 0; i < 8; i++) x[i] = fold_halves(x[2 * i], x[2 * i + 1], low8, 8);
    for (int i = 0; i < 4; i++) x[i] = fold_halves(x[2 * i], x[2 * i + 1], low4, 4);
    for (int i = 0; i < 2; i++) x[i] = fold_halves(x[2 * i], x[2 * i + 1], low2, 2);
    return fold_halves(x[0], x[1], low1, 1);
}

inline float horizontal_max(F32x16 x) {
    float top = x[0];
    for (int i = 1; i < LANES; i++) top = x[i] > top ? x[i] : top;
    return top;
}

inline F32x16 maximum(F32x16 x, F32x16 y) { return x > y ? x : y; }

// e^x with a relative error below 2e-7: 2^n by the exponent's bits times a polynomial (Cephes' coefficients).
inline F32x16 exponential(F32x16 x) {
    x = maximum(x, splat(-87.0f));
#if !defined(__AVX512F__)
    x = x < 88.0f ? x : splat(88.0f);
#endif
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    F32x16 n = x * 1.44269504f + round - round;
    F32x16 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    F32x16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
#if defined(__AVX512F__)
    return (F32x16)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    I32x16 power = (__builtin_convertvector(n, I32x16) + 127) << 23;
    return p * (F32x16)power;
#endif
}

// GELU in its tanh form: x * (1 + tanh(u)) / 2 = x / (1 + e^(-2u)).
inline F32x16 gelu(F32x16 x) {
    F32x16 u = x * (0.7978845608f + 0.7978845608f * 0.044715f * x * x);
    return x / (1.0f + exponential(-2.0f * u));
}

}  // namespace resonance
