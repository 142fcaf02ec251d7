// Attention of many new tokens on AMX, sixteen queries at a time, over a bfloat16 cache.
//
// Scores are computed as keys times queries, (position, query): a position's scores for sixteen queries are one vector,
// so that the softmax needs no horizontal sums, and the interleaved weights of two positions are AMX's operand for the
// product with the values. The values are transposed once for all queries.

#pragma once

#include <vector>

#include "attention.h"
#include "gemm_amx.h"

namespace resonance {

#if RESONANCE_AMX

constexpr int TILE = 16, TILE_BF16 = 32;  // a tile's rows, and the bfloat16 numbers in a row

// The first element that is aligned to a cache line.
template <class T>
inline T* cache_line_aligned(T* memory) {
    return (T*)(((uintptr_t)memory + 63) & ~uintptr_t(63));
}

// Scores of `padded` keys with sixteen queries, (padded, 16), unscaled. `queries` is (D / 2, 16, 2).
template <int D>
void scores_amx(const uint16_t* keys, const uint16_t* queries, int padded, float* scores) {
    for (int j = 0; j < padded; j += 2 * TILE) {
        _tile_zero(0);
        _tile_zero(1);
        for (int d = 0; d < D; d += TILE_BF16) {
            _tile_loadd(6, queries + d * TILE, 64);
            _tile_loadd(5, keys + size_t(j) * D + d, D * 2);
            _tile_dpbf16ps(0, 5, 6);
            _tile_loadd(7, keys + size_t(j + TILE) * D + d, D * 2);
            _tile_dpbf16ps(1, 7, 6);
        }
        _tile_stored(0, scores + size_t(j) * TILE, 64);
        _tile_stored(1, scores + size_t(j + TILE) * TILE, 64);
    }
}

// Scores to weights in bfloat16, (padded / 2, 16, 2); query q attends to keys up to `first + q`. Returns their sums.
inline F32x16 softmax_weights_amx(const float* scores, int first, int padded, float scale, uint16_t* weights) {
    F32x16 last;  // the last position that each query attends to
    for (int q = 0; q < TILE; q++) last[q] = first + q;
    auto score = [&](int j) {
        const F32x16 x = load<F32x16>(scores + size_t(j) * TILE) * scale;
        return j <= first ? x : splat(float(j)) <= last ? x : splat(-1e30f);
    };
    F32x16 top = splat(-1e30f), total = {};
    for (int j = 0; j < padded; j++) top = maximum(top, score(j));
    for (int j = 0; j < padded; j += 2) {
        const F32x16 even = exponential(score(j) - top), odd = exponential(score(j + 1) - top);
        total += even + odd;
        store(weights + size_t(j) * TILE, interleave(round_to_bf16(even), round_to_bf16(odd)));
    }
    return total;
}

// The weighted sums of `values` (D, stride), transposed: out (D, 16).
template <int D>
void weighted_sum_amx(const uint16_t* values, int stride, const uint16_t* weights, int padded, float* out) {
    for (int d = 0; d < D; d += 2 * TILE) {
        _tile_zero(0);
        _tile_zero(1);
        for (int j = 0; j < padded; j += TILE_BF16) {
            _tile_loadd(6, weights + size_t(j) * TILE, 64);
            _tile_loadd(5, values + size_t(d) * stride + j, stride * 2);
            _tile_dpbf16ps(0, 5, 6);
            _tile_loadd(7, values + size_t(d + TILE) * stride + j, stride * 2);
            _tile_dpbf16ps(1, 7, 6);
        }
        _tile_stored(0, out + d * TILE, 64);
        _tile_stored(1, out + (d + TILE) * TILE, 64);
    }
}

// `attend` for at least sixteen rows; the calling thread has full `AmxTiles`.
template <int D>
void attend_amx(const ChunkRows& chunk, const HeadRows& rows, const uint16_t* keys, const uint16_t* values, int context,
                  std::vector<float>& scratch) {
    const int visible = chunk.position + chunk.count, longest = (visible + TILE_BF16 - 1) / TILE_BF16 * TILE_BF16;
    if (longest > context) return attend<uint16_t, D>(chunk, rows, keys, values, scratch);
    const int stride = longest + TILE_BF16;  // an odd number of cache lines, so that rows map to different cache sets
    scratch.resize(size_t(longest) * TILE * 2 + size_t(D) * stride / 2 + 64);
    float* scores = cache_line_aligned(scratch.data());
    uint16_t* weights = (uint16_t*)(scores + size_t(longest) * TILE);
    uint16_t* transposed = weights + size_t(longest) * TILE;
    for (int j = 0; j < longest; j++)
        for (int d = 0; d < D; d++) transposed[size_t(d) * stride + j] = j < visible ? values[size_t(j) * D + d] : 0;
    alignas(64) uint16_t queries[D * TILE];
    alignas(64) float mixed[D * TILE];
    for (int row = 0; row < chunk.count; row += TILE) {
        const int count = std::min(TILE, chunk.count - row), first = chunk.position + row;
        const int padded = (first + count + TILE_BF16 - 1) / TILE_BF16 * TILE_BF16;
        for (int q = 0; q < TILE; q++) {
            const float* query = rows.qkv + size_t(row + std::min(q, count - 1)) * rows.stride;
            for (int d = 0; d < D; d++) queries[d / 2 * TILE * 2 + q * 2 + d % 2] = to_bf16(query[d]);
        }
        scores_amx<D>(keys, queries, padded, scores);
        const F32x16 total = softmax_weights_amx(scores, first, padded, 1 / std::sqrt(float(D)), weights);
        weighted_sum_amx<D>(transposed, stride, weights, padded, mixed);
        for (int d = 0; d < D; d++) store(mixed + d * TILE, load<F32x16>(mixed + d * TILE) / total);
        for (int q = 0; q < count; q++)
            for (int d = 0; d < D; d++) rows.out[size_t(row + q) * rows.out_stride + d] = mixed[d * TILE + q];
    }
}

#else

template <int D>
void attend_amx(const ChunkRows&, const HeadRows&, const uint16_t*, const uint16_t*, int, std::vector<float>&) {}

#endif

}  // namespace resonance
