// Attention of new tokens over a slot's KV cache, and the storing of their own keys and values.

#pragma once

#include <algorithm>
#include <vector>

#include "abi.h"
#include "simd.h"

namespace resonance {

// The cache of one layer: keys and values (slot, head, position, head_dim), slots `slot_stride` elements apart.
template <class T>
struct LayerCache {
    T *keys, *values;
    size_t slot_stride;
    int context, head_dim;

    size_t offset(int slot, int head, int position) const {
        return slot * slot_stride + (size_t(head) * context + position) * head_dim;
    }
};

constexpr int QUERY_BLOCK = 4;      // rows that share a pass over the values
constexpr int PREFETCH_BLOCKS = 2;  // of sixteen keys

// A query in registers, for dot products with keys.
template <class T, int D>
struct Query {
    F32x16 parts[D / LANES];
    explicit Query(const float* from) {
        for (int i = 0; i < D / LANES; i++) parts[i] = load<F32x16>(from + i * LANES);
    }
    F32x16 dot(const T* key) const {  // sixteen partial sums
        F32x16 product = {};
        for (int i = 0; i < D / LANES; i++) product += parts[i] * widen(key + i * LANES);
        return product;
    }
};

#if defined(__AVX512BF16__)
template <int D>
struct BFloat16Query {
    U32x16 parts[D / (2 * LANES)];
    explicit BFloat16Query(const float* from) {
        uint16_t narrowed[D];
        for (int i = 0; i < D; i += LANES) narrow(narrowed + i, load<F32x16>(from + i));
        memcpy(parts, narrowed, sizeof narrowed);
    }
    F32x16 dot(const uint16_t* key) const {
        F32x16 product = {};
        for (int i = 0; i < D / (2 * LANES); i++)
            product = (F32x16)_mm512_dpbf16_ps((__m512)product, (__m512bh)load<U32x16>(key + i * 2 * LANES),
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

// The softmax weights of one query over `visible` keys, not yet divided by their sum, which is returned. `weights` has
// `padded` elements, a multiple of sixteen; those past `visible` are zero. Prefetches keys and values.
template <class T, int D>
float softmax_weights(const float* query, const T* keys, const T* values, int visible, int padded, float* weights) {
    const Query<T, D> q(query);
    const float scale = 1 / std::sqrt(float(D));
    F32x16 top = splat(-1e30f);
    constexpr int LINES = LANES * D * sizeof(T) / 64;  // of sixteen keys
    for (int j = 0; j < padded; j += LANES) {
        for (int i = 0; i < LINES; i++) {
            __builtin_prefetch((const char*)(keys + size_t(j) * D) + (PREFETCH_BLOCKS * LINES + i) * 64, 0, 3);
            __builtin_prefetch((const char*)(values + size_t(j) * D) + i * 64, 0, 2);
        }
        F32x16 products[LANES];
        for (int i = 0; i < LANES; i++) products[i] = q.dot(keys + size_t(std::min(j + i, visible - 1)) * D);
        F32x16 scores = horizontal_sums(products) * scale;
        if (j + LANES > visible)
            for (int i = std::max(visible - j, 0); i < LANES; i++) scores[i] = -1e30f;
        top = maximum(top, scores);
        store(weights + j, scores);
    }
    const F32x16 highest = splat(horizontal_max(top));
    F32x16 total = {};
    for (int j = 0; j < padded; j += LANES) {
        F32x16 e = exponential(load<F32x16>(weights + j) - highest);
        if (j + LANES > visible)
            for (int i = std::max(visible - j, 0); i < LANES; i++) e[i] = 0;
        total += e;
        store(weights + j, e);
    }
    return horizontal_sum(total);
}

// The values of `visible` positions, averaged by the weights of COUNT queries, `stride` apart.
template <class T, int D, int COUNT>
void weighted_sum(const float* weights, int stride, const T* values, int visible, const float* totals, float* out,
                  int out_stride) {
    constexpr int VECTOR_BLOCK = std::min(D / LANES, COUNT > 1 ? 2 : 4);
    for (int d = 0; d < D; d += VECTOR_BLOCK * LANES) {
        F32x16 mixed[2][COUNT][VECTOR_BLOCK] = {};  // of even and odd positions, to shorten the dependency chain
        for (int j = 0; j < visible; j += 2)
            for (int odd = 0; odd < 2 && j + odd < visible; odd++) {
                const T* value = values + size_t(j + odd) * D + d;
                for (int v = 0; v < VECTOR_BLOCK; v++) {
                    const F32x16 x = widen(value + v * LANES);
                    for (int q = 0; q < COUNT; q++)
                        mixed[odd][q][v] += weights[size_t(q) * stride + j + odd] * x;
                }
            }
        for (int q = 0; q < COUNT; q++)
            for (int v = 0; v < VECTOR_BLOCK; v++)
                store(out + size_t(q) * out_stride + d + v * LANES,
                      (mixed[0][q][v] + mixed[1][q][v]) * (1 / totals[q]));
    }
}

// One head of a chunk: `qkv` (rows, stride) has queries, keys and values, `width` apart; `out` is (rows, out_stride).
struct HeadRows {
    const float* qkv;
    int stride, width;
    float* out;
    int out_stride;
};

// Stores the new keys and values in the cache.
template <class T, int D>
void store_keys_values(const ChunkRows& chunk, const HeadRows& rows, T* keys, T* values) {
    for (int row = 0; row < chunk.count; row++)
        for (int d = 0; d < D; d += LANES) {
            const float* own = rows.qkv + size_t(row) * rows.stride + d;
            narrow(keys + size_t(chunk.position + row) * D + d, load<F32x16>(own + rows.width));
            narrow(values + size_t(chunk.position + row) * D + d, load<F32x16>(own + 2 * rows.width));
        }
}

template <class T, int D>
void attend(const ChunkRows& chunk, const HeadRows& rows, const T* keys, const T* values, std::vector<float>& scratch) {
    const int longest = (chunk.position + chunk.count + LANES - 1) / LANES * LANES;
    scratch.resize(size_t(longest) * QUERY_BLOCK);
    for (int row = 0; row < chunk.count; row += QUERY_BLOCK) {
        const int count = std::min(QUERY_BLOCK, chunk.count - row), before = chunk.position + row;
        const int padded = (before + count + LANES - 1) / LANES * LANES;
        float totals[QUERY_BLOCK];
        for (int q = 0; q < count; q++)
            totals[q] = softmax_weights<T, D>(rows.qkv + size_t(row + q) * rows.stride, keys, values, before + q + 1,
                                              padded, &scratch[size_t(q) * longest]);
        float* to = rows.out + size_t(row) * rows.out_stride;
        if (count == QUERY_BLOCK)
            weighted_sum<T, D, QUERY_BLOCK>(scratch.data(), longest, values, before + count, totals, to,
                                            rows.out_stride);
        else
            for (int q = 0; q < count; q++)
                weighted_sum<T, D, 1>(&scratch[size_t(q) * longest], longest, values, before + q + 1, totals + q,
                                      to + size_t(q) * rows.out_stride, rows.out_stride);
    }
}

}  // namespace resonance
