// GELU in its tanh form and its gradient, element by element.

#pragma once

#include "simd.h"

namespace resonance {

// gradient * d gelu(x) / dx, with s = 1 / (1 + e^(-2u)) and gelu(x) = x s.
inline F32x16 gelu_gradient(F32x16 x, F32x16 gradient) {
    const float scale = 0.7978845608f, cubic = 0.044715f;
    const F32x16 squared = x * x;
    const F32x16 u = scale * x * (1.0f + cubic * squared);
    const F32x16 s = 1.0f / (1.0f + exponential(-2.0f * u));
    const F32x16 slope = 2.0f * scale * (1.0f + 3.0f * cubic * squared);
    return gradient * (s + x * s * (1.0f - s) * slope);
}

constexpr int64_t GELU_BLOCK = 1 << 14;  // elements that a thread takes at once

template <class T>
void gelu_block(const GeluCall& call, int64_t block) {
    const int64_t end = std::min(call.count, (block + 1) * GELU_BLOCK);
    const T *in = (const T*)call.inputs, *gradient = (const T*)call.gradient;
    T* out = (T*)call.outputs;
    for (int64_t i = block * GELU_BLOCK; i < end; i += LANES) {
        const F32x16 x = widen(in + i);
        narrow(out + i, gradient ? gelu_gradient(x, widen(gradient + i)) : gelu(x));
    }
}

}  // namespace resonance
