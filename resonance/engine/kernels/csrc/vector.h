// Sixteen numbers at a time, and the few functions of them that a transformer needs.
//
// GCC's vector extensions make this AVX-512, AVX2 or NEON code, whatever the machine has; instructions that the
// extensions cannot express stand behind the macros that say they are there, with a portable twin beside them.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace resonance {

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

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

inline Floats splat(float value) { return Floats{} + value; }

inline Words bits(Floats x) { return (Words)x; }

inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

// bfloat16 is the upper half of a float.
inline Floats widen(const uint16_t* from) {
    return (Floats)(__builtin_convertvector(load<Halves>(from), Words) << 16);
}
inline Floats widen(const float* from) { return load<Floats>(from); }

inline uint16_t to_bf16(float x) {  // to the nearest, ties to even
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

inline void narrow(uint16_t* to, Floats x) {
    Words b = bits(x);
    store(to, __builtin_convertvector((b + 0x7fff + ((b >> 16) & 1)) >> 16, Halves));
}
inline void narrow(float* to, Floats x) { store(to, x); }

inline float sum(Floats x) {
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

inline Floats fold(Floats a, Floats b, Ints low, int distance) {
    return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, low + distance);
}

// The sums of sixteen vectors, in one: in each round neighbours are folded in half and share a vector.
inline Floats sums(Floats (&x)[LANES]) {
    const Ints low8{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
    const Ints low4{0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27};
    const Ints low2{0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29};
    const Ints low1{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    for (int i = 0; i < 8; i++) x[i] = fold(x[2 * i], x[2 * i + 1], low8, 8);
    for (int i = 0; i < 4; i++) x[i] = fold(x[2 * i], x[2 * i + 1], low4, 4);
    for (int i = 0; i < 2; i++) x[i] = fold(x[2 * i], x[2 * i + 1], low2, 2);
    return fold(x[0], x[1], low1, 1);
}

inline float largest(Floats x) {
    float top = x[0];
    for (int i = 1; i < LANES; i++) top = x[i] > top ? x[i] : top;
    return top;
}

inline Floats maximum(Floats x, Floats y) { return x > y ? x : y; }

// e^x with a relative error under 2e-7: 2^n by the exponent's bits, the rest by a polynomial (Cephes' coefficients).
inline Floats exponential(Floats x) {
    x = maximum(x, splat(-87.0f));
    x = x < 88.0f ? x : splat(88.0f);
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves no room for a fraction
    Floats n = x * 1.44269504f + round - round;
    Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    return p * (Floats)power;
}

// GELU in its tanh form: x * (1 + tanh(u)) / 2 = x / (1 + e^(-2u)).
inline Floats gelu(Floats x) {
    Floats u = x * (0.7978845608f + 0.7978845608f * 0.044715f * x * x);
    return x / (1.0f + exponential(-2.0f * u));
}

}  // namespace resonance
