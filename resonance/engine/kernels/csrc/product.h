// Products in registers, in blocks of 64 columns, for training: out (rows, columns) = left (rows, inner) * right (inner,
// columns), where `right` is packed so that a vector holds sixteen columns of one step of `inner`: one number in float,
// two adjacent ones in bfloat16, the layout of vdpbf16ps.

#pragma once

#include "gemm.h"
#include "simd.h"

namespace resonance {

// STEP: numbers of `inner` in a lane. Lane: what holds them.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
    static constexpr int STEP = 1;
    typedef float Lane;
    typedef F32x16 Vector;
    static F32x16 multiply_add(F32x16 sum, F32x16 right, float left) { return sum + right * left; }
    static F32x16 join(F32x16 first, F32x16) { return first; }
    static float join(float first, float) { return first; }
};
template <>
struct Lanes<uint16_t> {
    static constexpr int STEP = 2;
    typedef uint32_t Lane;
    typedef U32x16 Vector;
    static F32x16 multiply_add(F32x16 sum, U32x16 right, uint32_t left) { return dot2(sum, right, left); }
    static U32x16 join(F32x16 first, F32x16 second) {  // rounds to nearest, ties to even
        const U32x16 a = as_bits(first), b = as_bits(second);
        return ((a + 0x7fff + ((a >> 16) & 1)) >> 16) | ((b + 0x7fff + ((b >> 16) & 1)) & 0xffff0000u);
    }
    static uint32_t join(uint16_t first, uint16_t second) { return first | uint32_t(second) << 16; }
};

// out[r][c] += sum over k of left[r * row_stride + k * step_stride] * right[k][c], for COLUMNS vectors of columns.
template <class T, int ROWS, int COLUMNS>
inline void product_block(const typename Lanes<T>::Lane* left, size_t row_stride, size_t step_stride,
                          const typename Lanes<T>::Lane* right, size_t right_stride, int steps, float* out,
                          size_t out_stride, bool add) {
    F32x16 sums[ROWS][COLUMNS] = {};
    if (add)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++) sums[r][c] = load<F32x16>(out + r * out_stride + c * LANES);
    for (int k = 0; k < steps; k++) {
        typename Lanes<T>::Vector columns[COLUMNS];
        for (int c = 0; c < COLUMNS; c++)
            columns[c] = load<typename Lanes<T>::Vector>(right + k * right_stride + c * LANES);
        for (int r = 0; r < ROWS; r++) {
            const auto value = left[r * row_stride + k * step_stride];
            for (int c = 0; c < COLUMNS; c++) sums[r][c] = Lanes<T>::multiply_add(sums[r][c], columns[c], value);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) store(out + r * out_stride + c * LANES, sums[r][c]);
}

// The same for any number of rows, and for `columns`, a multiple of sixteen.
template <class T, int COLUMNS>
void product_rows(const typename Lanes<T>::Lane* left, size_t row_stride, size_t step_stride,
                  const typename Lanes<T>::Lane* right, size_t right_stride, int steps, int rows, float* out,
                  size_t out_stride, bool add) {
    int row = 0;
    for (; row + ROW_BLOCK <= rows; row += ROW_BLOCK)
        product_block<T, ROW_BLOCK, COLUMNS>(left + row * row_stride, row_stride, step_stride, right, right_stride,
                                             steps, out + row * out_stride, out_stride, add);
    for (; row + 2 <= rows; row += 2)
        product_block<T, 2, COLUMNS>(left + row * row_stride, row_stride, step_stride, right, right_stride, steps,
                                     out + row * out_stride, out_stride, add);
    for (; row < rows; row++)
        product_block<T, 1, COLUMNS>(left + row * row_stride, row_stride, step_stride, right, right_stride, steps,
                                     out + row * out_stride, out_stride, add);
}

template <class T>
void product(const typename Lanes<T>::Lane* left, size_t row_stride, size_t step_stride,
             const typename Lanes<T>::Lane* right, size_t right_stride, int steps, int rows, int columns, float* out,
             size_t out_stride, bool add) {
    int column = 0;
    for (; column + 4 * LANES <= columns; column += 4 * LANES)
        product_rows<T, 4>(left, row_stride, step_stride, right + column, right_stride, steps, rows, out + column,
                           out_stride, add);
    for (; column < columns; column += LANES)
        product_rows<T, 1>(left, row_stride, step_stride, right + column, right_stride, steps, rows, out + column,
                           out_stride, add);
}

}  // namespace resonance
