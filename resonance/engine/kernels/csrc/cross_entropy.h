// The cross-entropy of rows of logits and its gradient, which replaces the logits, in one visit to each row.

#pragma once

#include <cmath>

#include "simd.h"

namespace resonance {

// Calls visit(i, x, mask) for all vectors of a row: x is the logits at i plus the log weights, and `mask` selects the
// lanes inside the vocabulary. Rows are padded to whole vectors.
template <class T, class Visit>
inline void for_logits(const T* row, const float* log_weights, int vocab_size, Visit&& visit) {
    const I32x16 lanes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int i = 0; i < vocab_size; i += LANES) {
        F32x16 x = widen(row + i);
        if (log_weights) x += load<F32x16>(log_weights + i);
        visit(i, x, lanes < vocab_size - i);
    }
}

template <class T>
void cross_entropy_of_row(const CrossEntropyCall& call, int64_t index) {
    T* row = (T*)call.logits + index * call.padded_vocab_size;
    const int vocab_size = call.vocab_size, target = (int)call.targets[index];
    const float scale = call.scales ? call.scales[index] : 1.0f;
    const float spread = call.smoothing / vocab_size;  // of the target's probability, to each token
    const float target_logit =
        (sizeof(T) == 2 ? from_bf16((uint16_t)row[target]) : (float)row[target]) +
        (call.log_weights ? call.log_weights[target] : 0.0f);
    F32x16 tops = splat(-INFINITY), sums{}, exponentials{};
    for_logits(row, call.log_weights, vocab_size, [&](int, F32x16 x, I32x16 mask) {
        tops = maximum(tops, mask ? x : splat(-INFINITY));
        sums += mask ? x : F32x16{};
    });
    const float top = horizontal_max(tops);
    for_logits(row, call.log_weights, vocab_size,
               [&](int, F32x16 x, I32x16 mask) { exponentials += mask ? exponential(x - top) : F32x16{}; });
    const float total = horizontal_sum(exponentials), log_sum = top + std::log(total);
    const float mean = horizontal_sum(sums) / vocab_size;
    const float likelihood = (1 - call.smoothing) * (target_logit - log_sum) + call.smoothing * (mean - log_sum);
    call.losses[index] = -scale * (mean == mean ? likelihood : NAN);  // `exponential` drops a NaN, a sum keeps it
    if (!call.gradient) return;
    const float factor = scale / total;
    for_logits(row, call.log_weights, vocab_size, [&](int i, F32x16 x, I32x16 mask) {
        F32x16 gradient = exponential(x - top) * factor - spread * scale;
        if (target >= i && target < i + LANES) gradient[target - i] -= (1 - call.smoothing) * scale;
        narrow(row + i, mask ? gradient : F32x16{});
    });
    const int64_t whole = (vocab_size + LANES - 1) / LANES * LANES;
    memset(row + whole, 0, (call.padded_vocab_size - whole) * sizeof(T));
}

}  // namespace resonance
