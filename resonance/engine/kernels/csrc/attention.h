// Attention of new tokens over a slot's cache, and the writing of their own keys and values into it.

#pragma once

#include <algorithm>
#include <vector>

#include "vector.h"

namespace resonance {

// The cache of one layer: keys and values (slot, head, position, head_dim), `slot_stride` elements apart.
template <class T>
struct LayerCache {
    T *keys, *values;
    size_t slot_stride;
    int context, head_dim;

    size_t offset(int slot, int head, int position) const {
        return slot * slot_stride + (size_t(head) * context + position) * head_dim;
    }
};

constexpr int QUERIES = 4;       // rows that share a pass over the values
constexpr int AHEAD_BLOCKS = 2;  // of sixteen keys

// A query as the product with keys wants it.
template <class T, int D>
struct Query {
    Floats parts[D / LANES];
    explicit Query(const float* from) {
        for (int i = 0; i < D / LANES; i++) parts[i] = load<Floats>(from + i * LANES);
    }
    Floats times(const T* key) const {  // sixteen partial sums
        Floats product = {};
        for (int i = 0; i < D / LANES; i++) product += parts[i] * widen(key + i * LANES);
        return product;
    }
};

#if defined(__AVX512BF16__)
template <int D>
struct BFloat16Query {
    Words parts[D / (2 * LANES)];
    explicit BFloat16Query(const float* from) {
        uint16_t narrowed[D];
        for (int i = 0; i < D; i += LANES) narrow(narrowed + i, load<Floats>(from + i));
        memcpy(parts, narrowed, sizeof narrowed);
    }
    Floats times(const uint16_t* key) const {
        Floats product = {};
        for (int i = 0; i < D / (2 * LANES); i++)
            product = (Floats)_mm512_dpbf16_ps((__m512)product, (__m512bh)load<Words>(key + i * 2 * LANES),
                                               (__m512bh)parts[i]);
        return product;
    }
};
template <>
struct Query<uint16_t, 32> : BFloat16Query<32> {
    using BFloat16Query::BFloat16Query;
};
template <>
struct Query<uint16_t, 64> : BFloat16Query<64> {
    using BFloat16Query::BFloat16Query;
};
template <>
struct Query<uint16_t, 128> : BFloat16Query<128> {
    using BFloat16Query::BFloat16Query;
};
#endif

// The weights of one query over `seen` keys, not yet divided by their sum, which is returned. `weights` has room
// for `padded` of them, a multiple of sixteen; those not seen become zero.
// Keys, and the values that will be mixed next, are asked for ahead.
template <class T, int D>
float weigh(const float* query, const T* keys, const T* values, int seen, int padded, float* weights) {
    const Query<T, D> q(query);
    const float scale = 1 / std::sqrt(float(D));
    Floats top = splat(-1e30f);
    constexpr int LINES = LANES * D * sizeof(T) / 64;  // of sixteen keys
    for (int j = 0; j < padded; j += LANES) {
        for (int i = 0; i < LINES; i++) {
            __builtin_prefetch((const char*)(keys + size_t(j) * D) + (AHEAD_BLOCKS * LINES + i) * 64, 0, 3);
            __builtin_prefetch((const char*)(values + size_t(j) * D) + i * 64, 0, 2);
        }
        Floats products[LANES];
        for (int i = 0; i < LANES; i++) products[i] = q.times(keys + size_t(std::min(j + i, seen - 1)) * D);
        Floats scores = sums(products) * scale;
        if (j + LANES > seen)
            for (int i = std::max(seen - j, 0); i < LANES; i++) scores[i] = -1e30f;
        top = maximum(top, scores);
        store(weights + j, scores);
    }
    const Floats highest = splat(largest(top));
    Floats total = {};
    for (int j = 0; j < padded; j += LANES) {
        Floats e = exponential(load<Floats>(weights + j) - highest);
        if (j + LANES > seen)
            for (int i = std::max(seen - j, 0); i < LANES; i++) e[i] = 0;
        total += e;
        store(weights + j, e);
    }
    return sum(total);
}

// Mix the values of `seen` positions by the weights of COUNT queries, `stride` apart.
template <class T, int D, int COUNT>
void mix(const float* weights, int stride, const T* values, int seen, const float* totals, float* out, int out_stride) {
    constexpr int AT_ONCE = std::min(D / LANES, COUNT > 1 ? 2 : 4);
    for (int d = 0; d < D; d += AT_ONCE * LANES) {
        Floats mixed[2][COUNT][AT_ONCE] = {};  // of even and of odd positions: one sum would wait for itself
        for (int j = 0; j < seen; j += 2)
            for (int odd = 0; odd < 2 && j + odd < seen; odd++) {
                const T* value = values + size_t(j + odd) * D + d;
                for (int v = 0; v < AT_ONCE; v++) {
                    const Floats x = widen(value + v * LANES);
                    for (int q = 0; q < COUNT; q++)
                        mixed[odd][q][v] += weights[size_t(q) * stride + j + odd] * x;
                }
            }
        for (int q = 0; q < COUNT; q++)
            for (int v = 0; v < AT_ONCE; v++)
                store(out + size_t(q) * out_stride + d + v * LANES,
                      (mixed[0][q][v] + mixed[1][q][v]) * (1 / totals[q]));
    }
}

// Consecutive new tokens of one slot: rows [row, row + count) of the step.
struct Run {
    int32_t slot, position, row, count;
};

// One head of a run. `qkv` (rows, stride) holds the run's queries, keys and values side by side, `width` apart; `out`
// is (rows, out_stride).
struct Rows {
    const float* qkv;
    int stride, width;
    float* out;
    int out_stride;
};

// Put the new keys and values into the cache.
template <class T, int D>
void remember(const Run& run, const Rows& rows, T* keys, T* values) {
    for (int row = 0; row < run.count; row++)
        for (int d = 0; d < D; d += LANES) {
            const float* own = rows.qkv + size_t(row) * rows.stride + d;
            narrow(keys + size_t(run.position + row) * D + d, load<Floats>(own + rows.width));
            narrow(values + size_t(run.position + row) * D + d, load<Floats>(own + 2 * rows.width));
        }
}

template <class T, int D>
void attend(const Run& run, const Rows& rows, const T* keys, const T* values, std::vector<float>& scratch) {
    const int longest = (run.position + run.count + LANES - 1) / LANES * LANES;
    scratch.resize(size_t(longest) * QUERIES);
    for (int row = 0; row < run.count; row += QUERIES) {
        const int count = std::min(QUERIES, run.count - row), before = run.position + row;
        const int padded = (before + count + LANES - 1) / LANES * LANES;
        float totals[QUERIES];
        for (int q = 0; q < count; q++)
            totals[q] = weigh<T, D>(rows.qkv + size_t(row + q) * rows.stride, keys, values, before + q + 1, padded,
                                    &scratch[size_t(q) * longest]);
        float* to = rows.out + size_t(row) * rows.out_stride;
        if (count == QUERIES)
            mix<T, D, QUERIES>(scratch.data(), longest, values, before + count, totals, to, rows.out_stride);
        else
            for (int q = 0; q < count; q++)
                mix<T, D, 1>(&scratch[size_t(q) * longest], longest, values, before + q + 1, totals + q,
                             to + size_t(q) * rows.out_stride, rows.out_stride);
    }
}

}  // namespace resonance
