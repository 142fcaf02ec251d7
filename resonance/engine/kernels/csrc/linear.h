// Products of activations with packed weights: out = in * weights^T + bias.
//
// A matrix is cut into panels of 64 outputs. Within a panel, the weights that one step along the inputs needs stand
// side by side, so that any number of rows streams through memory once, front to back. Each output is a sum in the
// order of the inputs whatever the number of rows: a row's result does not depend on the rows beside it.
//
//   fp32   [input][output] float
//   bf16   [input / 2][output][2] bfloat16: two inputs a lane, as vdpbf16ps and AMX tiles read them
//   int8   [input / 4][output][4] weight + 128 in a byte: four inputs a lane, as vpdpbusd reads them
//   int4   groups of 32 inputs: 64 scales (bfloat16), then [input / 8][output][4] bytes, each of which holds
//          weight + 8 of input i in its low half and of input i + 4 in its high half
//
// For int8 and int4 the activations are quantised as well, each row in groups of inputs with a scale of its own.
// Weights being stored with an offset, a group's sum starts at minus the offset times the activations' sum.

#pragma once

#include <vector>

#include "vector.h"

namespace resonance {

constexpr int PANEL = 64;           // outputs a panel
constexpr int VECTORS = PANEL / LANES;
constexpr int MAX_ROWS = 6;         // rows computed at once: with four vectors each they fill the registers
constexpr int INT8_GROUP = 64, INT4_GROUP = 32;

enum Kind { FP32, BF16, INT8, INT4 };
enum Finish { STORE, GELU, ADD };   // ADD: onto what the output holds, the residual stream

struct Matrix {
    Kind kind;
    int outputs, inputs;            // padded: to whole panels, to whole groups
    const uint8_t* data;
    const float* scale;             // int8: one an output
    const float* bias;              // one an output, or null

    size_t panel_bytes() const {
        size_t weights = size_t(PANEL) * inputs;
        if (kind == FP32) return weights * 4;
        if (kind == BF16) return weights * 2;
        if (kind == INT8) return weights;
        return weights / 2 + weights / INT4_GROUP * 2;
    }
    int group() const { return kind == INT4 ? INT4_GROUP : INT8_GROUP; }
};

// Rows of activations as a kind of weights wants them.
struct Input {
    const float* floats;
    int stride;                     // between rows of floats
    std::vector<uint16_t> halves;   // bf16
    std::vector<int8_t> bytes;      // int8
    std::vector<float> scales;      // (rows, groups)
    std::vector<int32_t> sums;      // (rows, groups)
    int inputs, groups;

    // Room for so many rows at least, and for those beyond them that a block of tiles reads.
    void reserve(int rows, int inputs) {
        const size_t size = size_t(rows + 31) / 32 * 32 * inputs;
        if (halves.size() >= size) return;
        halves.resize(size);
        bytes.resize(size);
        scales.resize(size / INT4_GROUP);
        sums.resize(size / INT4_GROUP);
    }

    // Take rows [first, last) of `from`, whose padding beyond its width must be zero.
    void prepare(const Matrix& matrix, bool as_bf16, const float* from, int from_stride, int first, int last) {
        floats = from, stride = from_stride, inputs = matrix.inputs, groups = inputs / matrix.group();
        if (matrix.kind == FP32) return;
        for (int row = first; row < last; row++) {
            const float* x = from + size_t(row) * from_stride;
            if (matrix.kind == BF16 || as_bf16) {
                for (int i = 0; i < inputs; i += LANES) narrow(&halves[size_t(row) * inputs + i], load<Floats>(x + i));
            } else {
                for (int g = 0; g < groups; g++) quantise(x, row, g, matrix.group());
            }
        }
    }

  private:
    void quantise(const float* x, int row, int g, int group) {
        x += g * group;
        Floats top = splat(0);
        for (int i = 0; i < group; i += LANES) {
            Floats v = load<Floats>(x + i);
            top = maximum(top, maximum(v, -v));
        }
        float scale = largest(top) / 127, inverse = scale > 0 ? 1 / scale : 0;
        int8_t* to = &bytes[size_t(row) * inputs + g * group];
        const float round = 12582912.0f;
        Ints total = {};
        for (int i = 0; i < group; i += LANES) {
            Ints q = (Ints)(load<Floats>(x + i) * inverse + round) - 0x4b400000;  // the mantissa is the integer
            total += q;
            typedef int8_t Bytes __attribute__((vector_size(16)));
            store(to + i, __builtin_convertvector(q, Bytes));
        }
        int32_t s = 0;
        for (int i = 0; i < LANES; i++) s += total[i];
        scales[size_t(row) * groups + g] = scale;
        sums[size_t(row) * groups + g] = s;
    }
};

// acc += four products a lane: unsigned weights with signed activations.
inline Ints dot4(Ints acc, Words weights, int32_t activations) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)weights, _mm512_set1_epi32(activations));
#else
    for (int i = 0; i < 4; i++)
        acc += (Ints)((weights >> (8 * i)) & 0xff) * int32_t(int8_t(activations >> (8 * i)));
    return acc;
#endif
}

inline Floats dot2(Floats acc, Words weights, uint32_t activations) {
#if defined(__AVX512BF16__)
    return (Floats)_mm512_dpbf16_ps((__m512)acc, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(activations));
#else
    acc += (Floats)(weights << 16) * from_bf16(activations & 0xffff);
    return acc + (Floats)(weights & 0xffff0000u) * from_bf16(activations >> 16);
#endif
}

template <class T>
inline T at(const void* base, size_t index) {
    T value;
    memcpy(&value, (const T*)base + index, sizeof value);
    return value;
}

inline void prefetch(const uint8_t* address) { __builtin_prefetch(address, 0, 3); }
constexpr int AHEAD = 8192;  // bytes: a panel is read front to back, and the next one follows it

template <int ROWS>
inline void panel_fp32(const Matrix& m, const Input& in, int row, const uint8_t* panel, Floats (&acc)[ROWS][VECTORS]) {
    for (int i = 0; i < m.inputs; i++) {
        Floats w[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            const uint8_t* from = panel + (size_t(i) * VECTORS + v) * 64;
            prefetch(from + AHEAD);
            w[v] = load<Floats>(from);
        }
        for (int r = 0; r < ROWS; r++) {
            Floats x = splat(in.floats[size_t(row + r) * in.stride + i]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] += x * w[v];
        }
    }
}

template <int ROWS>
inline void panel_bf16(const Matrix& m, const Input& in, int row, const uint8_t* panel, Floats (&acc)[ROWS][VECTORS]) {
    for (int i = 0; i < m.inputs / 2; i++) {
        Words w[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            const uint8_t* from = panel + (size_t(i) * VECTORS + v) * 64;
            prefetch(from + AHEAD);
            w[v] = load<Words>(from);
        }
        for (int r = 0; r < ROWS; r++) {
            uint32_t x = at<uint32_t>(&in.halves[size_t(row + r) * m.inputs], i);
            for (int v = 0; v < VECTORS; v++) acc[r][v] = dot2(acc[r][v], w[v], x);
        }
    }
}

template <int ROWS>
inline void panel_int8(const Matrix& m, const Input& in, int row, const uint8_t* panel, Floats (&acc)[ROWS][VECTORS]) {
    for (int g = 0; g < in.groups; g++) {
        Ints part[ROWS][VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) part[r][v] = Ints{} - 128 * in.sums[size_t(row + r) * in.groups + g];
        for (int i = g * INT8_GROUP / 4; i < (g + 1) * INT8_GROUP / 4; i++) {
            Words w[VECTORS];
            for (int v = 0; v < VECTORS; v++) {
                const uint8_t* from = panel + (size_t(i) * VECTORS + v) * 64;
                prefetch(from + AHEAD);
                w[v] = load<Words>(from);
            }
            for (int r = 0; r < ROWS; r++) {
                int32_t x = at<int32_t>(&in.bytes[size_t(row + r) * m.inputs], i);
                for (int v = 0; v < VECTORS; v++) part[r][v] = dot4(part[r][v], w[v], x);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            Floats scale = splat(in.scales[size_t(row + r) * in.groups + g]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] += to_floats(part[r][v]) * scale;
        }
    }
}

template <int ROWS>
inline void panel_int4(const Matrix& m, const Input& in, int row, const uint8_t* panel, Floats (&acc)[ROWS][VECTORS]) {
    for (int g = 0; g < in.groups; g++) {
        const uint16_t* scales = (const uint16_t*)panel;
        panel += PANEL * 2;
        Ints part[ROWS][VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) part[r][v] = Ints{} - 8 * in.sums[size_t(row + r) * in.groups + g];
        for (int i = g * INT4_GROUP / 4; i < (g + 1) * INT4_GROUP / 4; i += 2, panel += PANEL * 4) {
            Words low[VECTORS], high[VECTORS];
            for (int v = 0; v < VECTORS; v++) {
                prefetch(panel + v * 64 + AHEAD);
                Words both = load<Words>(panel + v * 64);
                low[v] = both & 0x0f0f0f0f;
                high[v] = (both >> 4) & 0x0f0f0f0f;
            }
            for (int r = 0; r < ROWS; r++) {
                const int8_t* x = &in.bytes[size_t(row + r) * m.inputs];
                for (int v = 0; v < VECTORS; v++) {
                    part[r][v] = dot4(part[r][v], low[v], at<int32_t>(x, i));
                    part[r][v] = dot4(part[r][v], high[v], at<int32_t>(x, i + 1));
                }
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            Floats scale = widen(scales + v * LANES);
            for (int r = 0; r < ROWS; r++)
                acc[r][v] += to_floats(part[r][v]) * (scale * in.scales[size_t(row + r) * in.groups + g]);
        }
    }
}

// Scale, bias, activation, and into the output.
inline void finish(const Matrix& m, Finish how, int output, Floats x, float* to) {
    if (m.kind == INT8) x *= load<Floats>(m.scale + output);
    if (m.bias) x += load<Floats>(m.bias + output);
    if (how == GELU) x = gelu(x);
    if (how == ADD) x += load<Floats>(to);
    store(to, x);
}

template <int ROWS>
void panel_rows(const Matrix& m, const Input& in, int row, int panel, Finish how, float* out, int out_stride) {
    const uint8_t* weights = m.data + panel * m.panel_bytes();
    Floats acc[ROWS][VECTORS] = {};
    if (m.kind == FP32) panel_fp32<ROWS>(m, in, row, weights, acc);
    if (m.kind == BF16) panel_bf16<ROWS>(m, in, row, weights, acc);
    if (m.kind == INT8) panel_int8<ROWS>(m, in, row, weights, acc);
    if (m.kind == INT4) panel_int4<ROWS>(m, in, row, weights, acc);
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) {
            int output = panel * PANEL + v * LANES;
            finish(m, how, output, acc[r][v], out + size_t(row + r) * out_stride + output);
        }
}

// One panel, for all rows.
inline void multiply(const Matrix& m, const Input& in, int rows, int panel, Finish how, float* out, int out_stride) {
    typedef void (*Kernel)(const Matrix&, const Input&, int, int, Finish, float*, int);
    static const Kernel kernels[] = {panel_rows<1>, panel_rows<2>, panel_rows<3>,
                                     panel_rows<4>, panel_rows<5>, panel_rows<6>};
    const int blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (int block = 0; block < blocks; block++) {
        int row = rows * block / blocks, next = rows * (block + 1) / blocks;
        kernels[next - row - 1](m, in, row, panel, how, out, out_stride);
    }
}

// One row of a packed matrix as floats: a token's embedding.
inline void unpack_row(const Matrix& m, int output, float* to) {
    const uint8_t* panel = m.data + output / PANEL * m.panel_bytes();
    int place = output % PANEL;
    for (int i = 0; i < m.inputs; i++) {
        if (m.kind == FP32) to[i] = at<float>(panel, size_t(i) * PANEL + place);
        if (m.kind == BF16) to[i] = from_bf16(at<uint16_t>(panel, size_t(i / 2) * PANEL * 2 + place * 2 + i % 2));
        if (m.kind == INT8)
            to[i] = (panel[size_t(i / 4) * PANEL * 4 + place * 4 + i % 4] - 128) * m.scale[output];
        if (m.kind == INT4) {
            const uint8_t* group = panel + i / INT4_GROUP * (PANEL * 2 + PANEL * INT4_GROUP / 2);
            int within = i % INT4_GROUP;
            uint8_t both = group[PANEL * 2 + within / 8 * PANEL * 4 + place * 4 + within % 4];
            to[i] = ((within % 8 < 4 ? both & 15 : both >> 4) - 8) * from_bf16(at<uint16_t>(group, place));
        }
    }
}

}  // namespace resonance
