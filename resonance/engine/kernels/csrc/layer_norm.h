// Training's layer normalisation from float to bfloat16, and its gradient.

#pragma once

#include <cmath>
#include <vector>

#include "simd.h"

namespace resonance {

inline void layer_norm_row(const LayerNormCall& call, int64_t row) {
    const int width = call.width;
    const float* x = call.inputs + row * width;
    F32x16 sum = {}, squares = {};
    for (int i = 0; i < width; i += LANES) sum += load<F32x16>(x + i);
    const float mean = horizontal_sum(sum) / width;
    for (int i = 0; i < width; i += LANES) {
        const F32x16 centred = load<F32x16>(x + i) - mean;
        squares += centred * centred;
    }
    const float scale = 1 / std::sqrt(horizontal_sum(squares) / width + call.epsilon);
    call.means[row] = mean, call.scales[row] = scale;
    for (int i = 0; i < width; i += LANES)
        narrow((uint16_t*)call.outputs + row * width + i,
               (load<F32x16>(x + i) - mean) * scale * load<F32x16>(call.weight + i) + load<F32x16>(call.bias + i));
}

// The gradient of a row's inputs; adds to a thread's gradients of weight and bias, one after the other.
inline void layer_norm_gradient_row(const LayerNormCall& call, int64_t row, float* of_weight_and_bias) {
    const int width = call.width;
    const float *x = call.inputs + row * width, mean = call.means[row], scale = call.scales[row];
    const uint16_t* gradient = (const uint16_t*)call.gradient + row * width;
    float *of_weight = of_weight_and_bias, *of_bias = of_weight + width, *out = call.inputs_gradient + row * width;
    F32x16 sum = {}, product = {};  // of the normalised inputs' gradient, and of it with the normalised inputs
    for (int i = 0; i < width; i += LANES) {
        const F32x16 normed = (load<F32x16>(x + i) - mean) * scale, dy = widen(gradient + i);
        const F32x16 slope = dy * load<F32x16>(call.weight + i);
        sum += slope;
        product += slope * normed;
        store(of_weight + i, load<F32x16>(of_weight + i) + dy * normed);
        store(of_bias + i, load<F32x16>(of_bias + i) + dy);
    }
    const float mean_slope = horizontal_sum(sum) / width, mean_product = horizontal_sum(product) / width;
    for (int i = 0; i < width; i += LANES) {
        const F32x16 normed = (load<F32x16>(x + i) - mean) * scale;
        const F32x16 slope = widen(gradient + i) * load<F32x16>(call.weight + i);
        store(out + i, (slope - mean_slope - normed * mean_product) * scale);
    }
}

inline void layer_norm(const LayerNormCall& call) {
    std::vector<float> sums(call.gradient ? size_t(call.threads) * 2 * call.width : 0);
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int row = 0; row < call.rows; row++) {
        if (call.gradient)
            layer_norm_gradient_row(call, row, &sums[size_t(omp_get_thread_num()) * 2 * call.width]);
        else
            layer_norm_row(call, row);
    }
    if (!call.gradient) return;
    for (int i = 0; i < call.width; i++) {
        call.weight_gradient[i] = call.bias_gradient[i] = 0;
        for (int thread = 0; thread < call.threads; thread++) {
            const float* of_thread = &sums[size_t(thread) * 2 * call.width];
            call.weight_gradient[i] += of_thread[i];
            call.bias_gradient[i] += of_thread[call.width + i];
        }
    }
}

}  // namespace resonance
