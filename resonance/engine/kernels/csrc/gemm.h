// GEMM of activations with packed weights: out = in * weights^T + bias.
//
// A matrix is packed in panels of 64 outputs. Within a panel the weights of one input are adjacent, so that the weights
// are read once and sequentially for any number of rows. Each output is summed in the order of the inputs: a row's
// result does not depend on the other rows.
//
//   fp32   [input][output] float
//   bf16   [input / 2][output][2] bfloat16: two inputs a lane, the layout of vdpbf16ps and AMX tiles
//   int8   [input / 4][output][4] weight + 128 in a byte: four inputs a lane, the layout of vpdpbusd
//   int4   groups of 32 inputs: 64 scales (bfloat16), then [input / 8][output][4] bytes: weight + 8 of input i in the
//          low nibble, of input i + 4 in the high nibble
//
// For int8 and int4 the activations are quantized too, with a scale for each row and group of inputs. Since the weights
// are stored with an offset, a group's sum starts at minus the offset times the sum of its activations.

#pragma once

#include <vector>

#include "simd.h"

namespace resonance {

constexpr int PANEL = 64;           // outputs of a panel
constexpr int VECTORS = PANEL / LANES;
constexpr int ROW_BLOCK = 6;        // rows of a register block: with four vectors each they fill the registers
constexpr int INT8_GROUP = 64, INT4_GROUP = 32;

enum Precision { FP32, BF16, INT8, INT4 };
enum Epilogue { STORE, GELU, ADD };  // ADD: to the residual stream in `out`

struct Matrix {
    Precision precision;
    int outputs, inputs;            // padded: to whole panels, to whole groups
    const uint8_t* data;
    const float* scale;             // int8: (outputs,)
    const float* bias;              // (outputs,) or null

    size_t panel_bytes() const {
        size_t weights = size_t(PANEL) * inputs;
        if (precision == FP32) return weights * 4;
        if (precision == BF16) return weights * 2;
        if (precision == INT8) return weights;
        return weights / 2 + weights / INT4_GROUP * 2;
    }
    int group() const { return precision == INT4 ? INT4_GROUP : INT8_GROUP; }
};

// Rows of activations, converted to the type that a matrix of some precision is multiplied with.
struct Activations {
    const float* floats;
    int stride;                     // between rows of floats
    std::vector<uint16_t> bf16;
    std::vector<int8_t> bytes;      // for int8 and int4 weights
    std::vector<float> scales;      // (rows, groups)
    std::vector<int32_t> sums;      // (rows, groups)
    int inputs, groups;

    // Allocates at least this many rows, rounded up to the rows that an AMX block reads.
    void reserve(int rows, int inputs) {
        const size_t size = size_t(rows + 31) / 32 * 32 * inputs;
        if (bf16.size() >= size) return;
        bf16.resize(size);
        bytes.resize(size);
        scales.resize(size / INT4_GROUP);
        sums.resize(size / INT4_GROUP);
    }

    // Converts rows [first, last) of `from`, whose padding must be zero.
    void prepare(const Matrix& matrix, bool as_bf16, const float* from, int from_stride, int first, int last) {
        floats = from, stride = from_stride, inputs = matrix.inputs, groups = inputs / matrix.group();
        if (matrix.precision == FP32) return;
        for (int row = first; row < last; row++) {
            const float* x = from + size_t(row) * from_stride;
            if (matrix.precision == BF16 || as_bf16) {
                for (int i = 0; i < inputs; i += LANES) narrow(&bf16[size_t(row) * inputs + i], load<F32x16>(x + i));
            } else {
                for (int g = 0; g < groups; g++) quantize(x, row, g, matrix.group());
            }
        }
    }

  private:
    void quantize(const float* x, int row, int g, int group) {
        x += g * group;
        F32x16 top = splat(0);
        for (int i = 0; i < group; i += LANES) {
            F32x16 v = load<F32x16>(x + i);
            top = maximum(top, maximum(v, -v));
        }
        float scale = horizontal_max(top) / 127, inverse = scale > 0 ? 1 / scale : 0;
        int8_t* to = &bytes[size_t(row) * inputs + g * group];
        const float round = 12582912.0f;
        I32x16 total = {};
        for (int i = 0; i < group; i += LANES) {
            I32x16 q = (I32x16)(load<F32x16>(x + i) * inverse + round) - 0x4b400000;  // the integer is in the mantissa
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

// acc += four products in each lane: unsigned weights with signed activations.
inline I32x16 dot4(I32x16 acc, U32x16 weights, int32_t activations) {
#if defined(__AVX512VNNI__)
    return (I32x16)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)weights, _mm512_set1_epi32(activations));
#else
    for (int i = 0; i < 4; i++)
        acc += (I32x16)((weights >> (8 * i)) & 0xff) * int32_t(int8_t(activations >> (8 * i)));
    return acc;
#endif
}

inline F32x16 dot2(F32x16 acc, U32x16 weights, uint32_t activations) {
#if defined(__AVX512BF16__)
    return (F32x16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(activations));
#else
    acc += (F32x16)(weights << 16) * from_bf16(activations & 0xffff);
    return acc + (F32x16)(weights & 0xffff0000u) * from_bf16(activations >> 16);
#endif
}

template <class T>
inline T element(const void* base, size_t index) {
    T value;
    memcpy(&value, (const T*)base + index, sizeof value);
    return value;
}

inline void prefetch(const uint8_t* address) { __builtin_prefetch(address, 0, 3); }
constexpr int PREFETCH_BYTES = 8192;  // ahead of the read position; panels are read sequentially

template <int ROWS>
inline void panel_fp32(const Matrix& m, const Activations& in, int row, const uint8_t* panel,
                       F32x16 (&acc)[ROWS][VECTORS]) {
    for (int i = 0; i < m.inputs; i++) {
        F32x16 w[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            const uint8_t* from = panel + (size_t(i) * VECTORS + v) * 64;
            prefetch(from + PREFETCH_BYTES);
            w[v] = load<F32x16>(from);
        }
        for (int r = 0; r < ROWS; r++) {
            F32x16 x = splat(in.floats[size_t(row + r) * in.stride + i]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] += x * w[v];
        }
    }
}

template <int ROWS>
inline void panel_bf16(const Matrix& m, const Activations& in, int row, const uint8_t* panel,
                       F32x16 (&acc)[ROWS][VECTORS]) {
    for (int i = 0; i < m.inputs / 2; i++) {
        U32x16 w[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            const uint8_t* from = panel + (size_t(i) * VECTORS + v) * 64;
            prefetch(from + PREFETCH_BYTES);
            w[v] = load<U32x16>(from);
        }
        for (int r = 0; r < ROWS; r++) {
            uint32_t x = element<uint32_t>(&in.bf16[size_t(row + r) * m.inputs], i);
            for (int v = 0; v < VECTORS; v++) acc[r][v] = dot2(acc[r][v], w[v], x);
        }
    }
}

template <int ROWS>
inline void panel_int8(const Matrix& m, const Activations& in, int row, const uint8_t* panel,
                       F32x16 (&acc)[ROWS][VECTORS]) {
    for (int g = 0; g < in.groups; g++) {
        I32x16 part[ROWS][VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) part[r][v] = I32x16{} - 128 * in.sums[size_t(row + r) * in.groups + g];
        for (int i = g * INT8_GROUP / 4; i < (g + 1) * INT8_GROUP / 4; i++) {
            U32x16 w[VECTORS];
            for (int v = 0; v < VECTORS; v++) {
                const uint8_t* from = panel + (size_t(i) * VECTORS + v) * 64;
                prefetch(from + PREFETCH_BYTES);
                w[v] = load<U32x16>(from);
            }
            for (int r = 0; r < ROWS; r++) {
                int32_t x = element<int32_t>(&in.bytes[size_t(row + r) * m.inputs], i);
                for (int v = 0; v < VECTORS; v++) part[r][v] = dot4(part[r][v], w[v], x);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            F32x16 scale = splat(in.scales[size_t(row + r) * in.groups + g]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] += to_floats(part[r][v]) * scale;
        }
    }
}

template <int ROWS>
inline void panel_int4(const Matrix& m, const Activations& in, int row, const uint8_t* panel,
                       F32x16 (&acc)[ROWS][VECTORS]) {
    for (int g = 0; g < in.groups; g++) {
        const uint16_t* scales = (const uint16_t*)panel;
        panel += PANEL * 2;
        I32x16 part[ROWS][VECTORS];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) part[r][v] = I32x16{} - 8 * in.sums[size_t(row + r) * in.groups + g];
        for (int i = g * INT4_GROUP / 4; i < (g + 1) * INT4_GROUP / 4; i += 2, panel += PANEL * 4) {
            U32x16 low[VECTORS], high[VECTORS];
            for (int v = 0; v < VECTORS; v++) {
                prefetch(panel + v * 64 + PREFETCH_BYTES);
                U32x16 both = load<U32x16>(panel + v * 64);
                low[v] = both & 0x0f0f0f0f;
                high[v] = (both >> 4) & 0x0f0f0f0f;
            }
            for (int r = 0; r < ROWS; r++) {
                const int8_t* x = &in.bytes[size_t(row + r) * m.inputs];
                for (int v = 0; v < VECTORS; v++) {
                    part[r][v] = dot4(part[r][v], low[v], element<int32_t>(x, i));
                    part[r][v] = dot4(part[r][v], high[v], element<int32_t>(x, i + 1));
                }
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            F32x16 scale = widen(scales + v * LANES);
            for (int r = 0; r < ROWS; r++)
                acc[r][v] += to_floats(part[r][v]) * (scale * in.scales[size_t(row + r) * in.groups + g]);
        }
    }
}

// Applies scale, bias and activation function, and stores or adds to the output.
inline void apply_epilogue(const Matrix& m, Epilogue epilogue, int output, F32x16 x, float* to) {
    if (m.precision == INT8) x *= load<F32x16>(m.scale + output);
    if (m.bias) x += load<F32x16>(m.bias + output);
    if (epilogue == GELU) x = gelu(x);
    if (epilogue == ADD) x += load<F32x16>(to);
    store(to, x);
}

template <int ROWS>
void panel_rows(const Matrix& m, const Activations& in, int row, int panel, Epilogue epilogue, float* out,
                int out_stride) {
    const uint8_t* weights = m.data + panel * m.panel_bytes();
    F32x16 acc[ROWS][VECTORS] = {};
    if (m.precision == FP32) panel_fp32<ROWS>(m, in, row, weights, acc);
    if (m.precision == BF16) panel_bf16<ROWS>(m, in, row, weights, acc);
    if (m.precision == INT8) panel_int8<ROWS>(m, in, row, weights, acc);
    if (m.precision == INT4) panel_int4<ROWS>(m, in, row, weights, acc);
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) {
            int output = panel * PANEL + v * LANES;
            apply_epilogue(m, epilogue, output, acc[r][v], out + size_t(row + r) * out_stride + output);
        }
}

// Computes one panel's outputs for all rows.
inline void gemm_panel(const Matrix& m, const Activations& in, int rows, int panel, Epilogue epilogue, float* out,
                       int out_stride) {
    typedef void (*Kernel)(const Matrix&, const Activations&, int, int, Epilogue, float*, int);
    static const Kernel kernels[] = {panel_rows<1>, panel_rows<2>, panel_rows<3>,
                                     panel_rows<4>, panel_rows<5>, panel_rows<6>};
    const int blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    for (int block = 0; block < blocks; block++) {
        int row = rows * block / blocks, next = rows * (block + 1) / blocks;
        kernels[next - row - 1](m, in, row, panel, epilogue, out, out_stride);
    }
}

// Unpacks one row of a matrix to floats: a token's embedding.
inline void unpack_row(const Matrix& m, int output, float* to) {
    const uint8_t* panel = m.data + output / PANEL * m.panel_bytes();
    int column = output % PANEL;
    for (int i = 0; i < m.inputs; i++) {
        if (m.precision == FP32) to[i] = element<float>(panel, size_t(i) * PANEL + column);
        if (m.precision == BF16)
            to[i] = from_bf16(element<uint16_t>(panel, size_t(i / 2) * PANEL * 2 + column * 2 + i % 2));
        if (m.precision == INT8)
            to[i] = (panel[size_t(i / 4) * PANEL * 4 + column * 4 + i % 4] - 128) * m.scale[output];
        if (m.precision == INT4) {
            const uint8_t* group = panel + i / INT4_GROUP * (PANEL * 2 + PANEL * INT4_GROUP / 2);
            int within = i % INT4_GROUP;
            uint8_t both = group[PANEL * 2 + within / 8 * PANEL * 4 + column * 4 + within % 4];
            to[i] = ((within % 8 < 4 ? both & 15 : both >> 4) - 8) * from_bf16(element<uint16_t>(group, column));
        }
    }
}

}  // namespace resonance
