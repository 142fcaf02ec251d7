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

constexpr int QUERIES = 4;  // rows that share a pass over the values

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
template <class T, int D>
float weigh(const float* query, const T* keys, int seen, int padded, float* weights) {
    const Query<T, D> q(query);
    const float scale = 1 / std::sqrt(float(D));
    Floats top = splat(-1e30f);
    for (int j = 0; j < padded; j += LANES) {
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
    constexpr int AT_ONCE = D / LANES < 4 ? D / LANES : 4;
    for (int d = 0; d < D; d += AT_ONCE * LANES) {
        Floats mixed[COUNT][AT_ONCE] = {};
        for (int j = 0; j < seen; j++) {
            Floats value[AT_ONCE];
            for (int v = 0; v < AT_ONCE; v++) value[v] = widen(values + size_t(j) * D + d + v * LANES);
            for (int q = 0; q < COUNT; q++)
                for (int v = 0; v < AT_ONCE; v++) mixed[q][v] += weights[size_t(q) * stride + j] * value[v];
        }
        for (int q = 0; q < COUNT; q++)
            for (int v = 0; v < AT_ONCE; v++)
                store(out + size_t(q) * out_stride + d + v * LANES, mixed[q][v] * (1 / totals[q]));
    }
}

// One head of consecutive new tokens of one slot. `qkv` (rows, stride) holds queries, keys and values side by side,
// `width` apart; `out` is (rows, out_stride). The first token stands at `position`.
template <class T, int D>
void attend(const LayerCache<T>& cache, int slot, int head, int position, int rows, const float* qkv, int stride,
            int width, float* out, int out_stride, std::vector<float>& scratch) {
    qkv += head * D, out += head * D;
    T* keys = cache.keys + cache.offset(slot, head, 0);
    T* values = cache.values + cache.offset(slot, head, 0);
    for (int row = 0; row < rows; row++)
        for (int d = 0; d < D; d += LANES) {
            const float* own = qkv + size_t(row) * stride + d;
            narrow(keys + size_t(position + row) * D + d, load<Floats>(own + width));
            narrow(values + size_t(position + row) * D + d, load<Floats>(own + 2 * width));
        }
    const int longest = (position + rows + LANES - 1) / LANES * LANES;
    scratch.resize(size_t(longest) * QUERIES);
    for (int row = 0; row < rows; row += QUERIES) {
        const int count = std::min(QUERIES, rows - row), seen = position + row + count;
        const int padded = (seen + LANES - 1) / LANES * LANES;
        float totals[QUERIES];
        for (int q = 0; q < count; q++)
            totals[q] = weigh<T, D>(qkv + size_t(row + q) * stride, keys, position + row + q + 1, padded,
                                    &scratch[size_t(q) * longest]);
        float* to = out + size_t(row) * out_stride;
        if (count == QUERIES)
            mix<T, D, QUERIES>(scratch.data(), longest, values, seen, totals, to, out_stride);
        else
            for (int q = 0; q < count; q++)
                mix<T, D, 1>(&scratch[size_t(q) * longest], longest, values, position + row + q + 1, totals + q,
                             to + size_t(q) * out_stride, out_stride);
    }
}

}  // namespace resonance
