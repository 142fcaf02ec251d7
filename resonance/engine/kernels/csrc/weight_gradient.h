// The gradient of a linear layer's weights in training: outputs' gradient^T * inputs, summed in float.
//
// Both are packed in pairs of rows, the layout of vdpbf16ps. A thread packs a strip of the outputs' gradient, which then
// stays in its cache, and multiplies it with one panel of the inputs after the other.

#pragma once

#include <algorithm>
#include <vector>

#include "gemm_amx.h"
#include "product.h"

namespace resonance {

constexpr int STRIP = 32 * ROW_BLOCK;  // outputs that a thread takes at once, at most
constexpr int INPUT_PANEL = 4 * LANES;
constexpr int PACKED_ROWS = 1024;      // of them a strip stays in the second-level cache,
constexpr int ROWS_AT_ONCE = 256;      // and of these a part of an input panel in the first-level cache

// Rows 2 p and 2 p + 1 of 16 columns, from `from` on, side by side; a missing last row is 0.
inline U32x16 row_pair(const uint16_t* from, size_t stride, bool both) {
    const U32x16 first = __builtin_convertvector(load<U16x16>(from), U32x16);
    return both ? first | __builtin_convertvector(load<U16x16>(from + stride), U32x16) << 16 : first;
}

// Rows of a call that are packed at once.
struct PackedRows {
    const WeightGradientCall& call;
    int first, count, pairs;
    PackedRows(const WeightGradientCall& call, int first)
        : call(call), first(first), count(std::min(PACKED_ROWS, call.rows - first)), pairs((count + 1) / 2) {}

    // A pair of rows of the gradient or the inputs, `width` wide, from a column on.
    U32x16 pair(const void* matrix, int width, int p, int column) const {
        return row_pair((const uint16_t*)matrix + size_t(first + 2 * p) * width + column, width, 2 * p + 1 < count);
    }
};

// Packs columns of the inputs: [row pair][columns].
inline void pack_inputs(const PackedRows& rows, int first, int columns, uint32_t* to) {
    for (int p = 0; p < rows.pairs; p++)
        for (int c = 0; c < columns; c += LANES)
            store(to + size_t(p) * columns + c, rows.pair(rows.call.inputs, rows.call.n_inputs, p, first + c));
}

// Packs a strip of the outputs' gradient, [row pair][STRIP], and adds its rows to the bias's gradient.
inline void pack_strip(const PackedRows& rows, int first, int count, uint32_t* to) {
    float sums[STRIP] = {};
    for (int p = 0; p < rows.pairs; p++)
        for (int c = 0; c < count; c += LANES) {
            const U32x16 pair = rows.pair(rows.call.gradient, rows.call.n_outputs, p, first + c);
            store(to + size_t(p) * STRIP + c, pair);
            store(sums + c, load<F32x16>(sums + c) + (F32x16)(pair << 16) + (F32x16)(pair & 0xffff0000u));
        }
    if (!rows.call.bias_gradient) return;
    for (int c = 0; c < count; c++) rows.call.bias_gradient[first + c] += sums[c];
}

// Adds to outputs [first, first + count) of the weights' gradient, which begins with the first rows unless `call.add`.
inline void add_strip(const PackedRows& rows, int first, int count, const uint32_t* strip, const uint32_t* inputs) {
    const WeightGradientCall& call = rows.call;
    for (int column = 0; column < call.n_inputs; column += INPUT_PANEL) {
        const int columns = std::min(INPUT_PANEL, call.n_inputs - column);
        const uint32_t* panel = inputs + size_t(column) * rows.pairs;
        float* out = call.weight_gradient + size_t(first) * call.n_inputs + column;
        for (int p = 0; p < rows.pairs; p += ROWS_AT_ONCE / 2)
            product<uint16_t>(strip + size_t(p) * STRIP, 1, STRIP, panel + size_t(p) * columns, columns,
                              std::min(ROWS_AT_ONCE / 2, rows.pairs - p), count, columns, out, call.n_inputs,
                              call.add || rows.first || p);
    }
}

// Whether this machine multiplies bfloat16 by vdpbf16ps: without it, and on AMX, torch's product is faster.
inline bool weight_gradient_pays() {
#if defined(__AVX512BF16__)
    return !amx_allowed();
#else
    return false;
#endif
}

inline void weight_gradient(const WeightGradientCall& call) {
    auto* inputs = (uint32_t*)call.scratch;
    int width = STRIP;  // of a strip: small outputs are work for all threads, too
    while (width > STRIP / 4 && call.n_outputs < 2 * call.threads * width) width /= 2;
    if (call.bias_gradient) memset(call.bias_gradient, 0, call.n_outputs * sizeof(float));
#pragma omp parallel num_threads(call.threads)
    {
        std::vector<uint32_t> strip(size_t(PACKED_ROWS / 2) * STRIP);
        for (int row = 0; row < call.rows; row += PACKED_ROWS) {
            const PackedRows rows(call, row);
#pragma omp for schedule(dynamic, 1)
            for (int column = 0; column < call.n_inputs; column += INPUT_PANEL)
                pack_inputs(rows, column, std::min(INPUT_PANEL, call.n_inputs - column),
                            inputs + size_t(column) * rows.pairs);
#pragma omp for schedule(dynamic, 1)
            for (int first = 0; first < call.n_outputs; first += width) {
                const int count = std::min(width, call.n_outputs - first);
                pack_strip(rows, first, count, strip.data());
                add_strip(rows, first, count, strip.data(), inputs);
            }
        }
    }
}

}  // namespace resonance
