// Attention of new tokens over a slot's cache, and the writing of their own keys and values into it.

#pragma once

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

// One head of consecutive new tokens of one slot. `qkv` (rows, stride) holds queries, keys and values side by side,
// `width` apart; `out` is (rows, out_stride). The first token stands at `position`.
template <class T>
void attend(const LayerCache<T>& cache, int slot, int head, int position, int rows, const float* qkv, int stride,
            int width, float* out, int out_stride, std::vector<float>& scratch) {
    const int D = cache.head_dim;
    const float scale = 1 / std::sqrt(float(D));
    for (int row = 0; row < rows; row++) {
        const float* own = qkv + size_t(row) * stride + head * D;
        size_t place = cache.offset(slot, head, position + row);
        for (int d = 0; d < D; d += LANES) {
            narrow(cache.keys + place + d, load<Floats>(own + width + d));
            narrow(cache.values + place + d, load<Floats>(own + 2 * width + d));
        }
    }
    const T* keys = cache.keys + cache.offset(slot, head, 0);
    const T* values = cache.values + cache.offset(slot, head, 0);
    for (int row = 0; row < rows; row++) {
        const float* query = qkv + size_t(row) * stride + head * D;
        const int seen = position + row + 1, padded = (seen + LANES - 1) / LANES * LANES;
        scratch.resize(padded);
        float* weights = scratch.data();
        for (int j = 0; j < seen; j++) {
            Floats product = {};
            for (int d = 0; d < D; d += LANES) product += load<Floats>(query + d) * widen(keys + size_t(j) * D + d);
            weights[j] = sum(product) * scale;
        }
        for (int j = seen; j < padded; j++) weights[j] = -1e30f;
        Floats top = splat(-1e30f), total = {};
        for (int j = 0; j < padded; j += LANES) top = maximum(top, load<Floats>(weights + j));
        Floats highest = splat(largest(top));
        for (int j = 0; j < padded; j += LANES) {
            Floats e = exponential(load<Floats>(weights + j) - highest);
            total += e;
            store(weights + j, e);
        }
        float inverse = 1 / sum(total);
        float* to = out + size_t(row) * out_stride + head * D;
        for (int d = 0; d < D; d += 4 * LANES) {  // four vectors at a time stay in registers
            const int vectors = (D - d < 4 * LANES ? D - d : 4 * LANES) / LANES;
            Floats mixed[4] = {};
            if (vectors == 4)
                for (int j = 0; j < seen; j++)
                    for (int v = 0; v < 4; v++)
                        mixed[v] += weights[j] * widen(values + size_t(j) * D + d + v * LANES);
            else
                for (int j = 0; j < seen; j++)
                    for (int v = 0; v < vectors; v++)
                        mixed[v] += weights[j] * widen(values + size_t(j) * D + d + v * LANES);
            for (int v = 0; v < vectors; v++) store(to + d + v * LANES, mixed[v] * inverse);
        }
    }
}

}  // namespace resonance
