// Attention of many new tokens on AMX tiles, sixteen queries at a time, over a bfloat16 cache.
//
// Scores are computed as keys times queries, (position, query): a position's scores of sixteen queries are one vector,
// so that the softmax needs no sums across a vector, and two positions' weights side by side are the operand that the
// product with the values wants. Those are transposed once for all queries.

#pragma once

#include <vector>

#include "attention.h"
#include "tiles.h"

namespace resonance {

#if RESONANCE_TILES

constexpr int TILE = 16, PAIR_STEP = 32;  // a tile's rows; the bfloat16 numbers in each

// The first of the memory's elements that lies on a cache line.
template <class T>
inline T* aligned(T* memory) {
    return (T*)(((uintptr_t)memory + 63) & ~uintptr_t(63));
}

// Scores of `padded` keys with sixteen queries, (padded, 16), still to be scaled. `queries` is (D / 2, 16, 2).
template <int D>
void score_tiles(const uint16_t* keys, const uint16_t* queries, int padded, float* scores) {
    for (int j = 0; j < padded; j += 2 * TILE) {
        _tile_zero(0);
        _tile_zero(1);
        for (int d = 0; d < D; d += PAIR_STEP) {
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

// Scores to weights in bfloat16, (padded / 2, 16, 2); query q sees the keys up to `first + q`. Returns their sums.
inline Floats weigh_tiles(const float* scores, int first, int padded, float scale, uint16_t* weights) {
    Floats own;  // the last position that each query sees
    for (int q = 0; q < TILE; q++) own[q] = first + q;
    auto score = [&](int j) {
        const Floats x = load<Floats>(scores + size_t(j) * TILE) * scale;
        return j <= first ? x : splat(float(j)) <= own ? x : splat(-1e30f);
    };
    Floats top = splat(-1e30f), total = {};
    for (int j = 0; j < padded; j++) top = maximum(top, score(j));
    for (int j = 0; j < padded; j += 2) {
        const Floats even = exponential(score(j) - top), odd = exponential(score(j + 1) - top);
        total += even + odd;
        store(weights + size_t(j) * TILE, pairs(rounded(even), rounded(odd)));
    }
    return total;
}

// The weights' mixtures of `values` (D, stride), transposed: out (D, 16).
template <int D>
void mix_tiles(const uint16_t* values, int stride, const uint16_t* weights, int padded, float* out) {
    for (int d = 0; d < D; d += 2 * TILE) {
        _tile_zero(0);
        _tile_zero(1);
        for (int j = 0; j < padded; j += PAIR_STEP) {
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

// `attend` for at least sixteen rows, in a thread that has full `Tiles`.
template <int D>
void attend_tiles(const Run& run, const Rows& rows, const uint16_t* keys, const uint16_t* values, int context,
                  std::vector<float>& scratch) {
    const int seen = run.position + run.count, longest = (seen + PAIR_STEP - 1) / PAIR_STEP * PAIR_STEP;
    if (longest > context) return attend<uint16_t, D>(run, rows, keys, values, scratch);
    const int stride = longest + PAIR_STEP;  // an odd number of cache lines, so that rows do not contend for the same
    scratch.resize(size_t(longest) * TILE * 2 + size_t(D) * stride / 2 + 64);
    float* scores = aligned(scratch.data());
    uint16_t* weights = (uint16_t*)(scores + size_t(longest) * TILE);
    uint16_t* transposed = weights + size_t(longest) * TILE;
    for (int j = 0; j < longest; j++)
        for (int d = 0; d < D; d++) transposed[size_t(d) * stride + j] = j < seen ? values[size_t(j) * D + d] : 0;
    alignas(64) uint16_t queries[D * TILE];
    alignas(64) float mixed[D * TILE];
    for (int row = 0; row < run.count; row += TILE) {
        const int count = std::min(TILE, run.count - row), first = run.position + row;
        const int padded = (first + count + PAIR_STEP - 1) / PAIR_STEP * PAIR_STEP;
        for (int q = 0; q < TILE; q++) {
            const float* query = rows.qkv + size_t(row + std::min(q, count - 1)) * rows.stride;
            for (int d = 0; d < D; d++) queries[d / 2 * TILE * 2 + q * 2 + d % 2] = to_bf16(query[d]);
        }
        score_tiles<D>(keys, queries, padded, scores);
        const Floats total = weigh_tiles(scores, first, padded, 1 / std::sqrt(float(D)), weights);
        mix_tiles<D>(transposed, stride, weights, padded, mixed);
        for (int d = 0; d < D; d++) store(mixed + d * TILE, load<Floats>(mixed + d * TILE) / total);
        for (int q = 0; q < count; q++)
            for (int d = 0; d < D; d++) rows.out[size_t(row + q) * rows.out_stride + d] = mixed[d * TILE + q];
    }
}

#else

template <int D>
void attend_tiles(const Run&, const Rows&, const uint16_t*, const uint16_t*, int, std::vector<float>&) {}

#endif

}  // namespace resonance
