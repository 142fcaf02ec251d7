// Causal attention inside each document of packed rows, and its gradient, for training.
//
// Each item of work is one head of one document. Scores are computed again in the backward pass from each row's
// log-sum-exp (Dao et al. 2022, "FlashAttention"); keys after a block of queries are left out.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "product.h"

namespace resonance {

constexpr int QUERIES = 60;  // of a block: whole register blocks, an even number

inline int rounded_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// One head of one document, with `length` rows `stride` apart.
template <class T>
struct DocumentHead {
    const T *query, *key, *value;
    int length, head_dim;
    size_t stride;

    typedef typename Lanes<T>::Lane Lane;
    static constexpr int STEP = Lanes<T>::STEP;
    int steps() const { return rounded_up(length, STEP) / STEP; }
    int columns() const { return rounded_up(length, LANES); }  // of scores
};

// Scratch memory of a thread.
template <class T>
struct Scratch {
    typedef typename Lanes<T>::Lane Lane;
    std::vector<Lane> keys_by_dim, values_by_dim, keys, values, queries, gradients;  // packed
    std::vector<Lane> left, weights, slopes;  // weights and slopes: (queries / STEP, columns)
    std::vector<float> scores, products, out, key_gradient, value_gradient, delta;
};

// Rows (length, D) packed for products over D: [D / STEP][columns].
template <class T>
void pack_by_dim(const T* from, size_t stride, int length, int columns, int D,
                 std::vector<typename Lanes<T>::Lane>& to) {
    typedef typename Lanes<T>::Lane Lane;
    const int steps = D / Lanes<T>::STEP;
    to.resize(size_t(steps) * columns);
    for (int j = 0; j < columns; j += LANES)
        for (int d = 0; d < steps; d++) {
            Lane column[LANES] = {};
            for (int i = 0; i < std::min(LANES, length - j); i++) column[i] = element<Lane>(from + (j + i) * stride, d);
            memcpy(&to[size_t(d) * columns + j], column, sizeof column);
        }
}

// Rows (length, D) packed for products over rows: [length / STEP][D].
template <class T>
void pack_by_row(const T* from, size_t stride, int length, int D, std::vector<typename Lanes<T>::Lane>& to) {
    constexpr int STEP = Lanes<T>::STEP;
    to.resize(size_t(rounded_up(length, STEP) / STEP) * D);
    for (int j = 0; j < length; j += STEP)
        for (int d = 0; d < D; d++)
            to[size_t(j / STEP) * D + d] =
                Lanes<T>::join(from[j * stride + d], j + STEP - 1 < length ? from[(j + STEP - 1) * stride + d] : T(0));
}

// Rows of `from` as the left side of products over D: (rows, D / STEP).
template <class T>
void copy_rows(const T* from, size_t stride, int rows, int D, std::vector<typename Lanes<T>::Lane>& to) {
    to.resize(size_t(QUERIES) * D);
    for (int r = 0; r < rows; r++) memcpy((T*)to.data() + size_t(r) * D, from + r * stride, D * sizeof(T));
}

// The keys that a block of queries from `first` on attends to, and as columns.
struct Visible {
    int first, rows, keys, columns;
    Visible(int first, int length)
        : first(first), rows(std::min(QUERIES, length - first)), keys(first + rows), columns(rounded_up(keys, LANES)) {}
};

inline F32x16 visible_only(F32x16 x, int column, int keys, float otherwise) {
    const I32x16 lanes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lanes < keys - column ? x : splat(otherwise);
}

template <class T>
void attend_document(const DocumentHead<T>& head, T* out, size_t out_stride, float* log_sums, Scratch<T>& s) {
    constexpr int STEP = Lanes<T>::STEP;
    const int D = head.head_dim, columns = head.columns();
    const float scale = 1 / std::sqrt(float(D));
    pack_by_dim<T>(head.key, head.stride, head.length, columns, D, s.keys_by_dim);
    pack_by_row<T>(head.value, head.stride, head.length, D, s.values);
    s.scores.resize(size_t(QUERIES) * columns);
    s.weights.resize(size_t(QUERIES) * columns);
    s.out.resize(size_t(QUERIES) * D);
    for (int first = 0; first < head.length; first += QUERIES) {
        const Visible block(first, head.length);
        copy_rows<T>(head.query + first * head.stride, head.stride, block.rows, D, s.left);
        product<T>(s.left.data(), D / STEP, 1, s.keys_by_dim.data(), columns, D / STEP, block.rows, block.columns,
                   s.scores.data(), columns, false);
        float totals[QUERIES];
        for (int r = 0; r < block.rows; r++) {
            float* scores = &s.scores[size_t(r) * columns];
            T* weights = (T*)s.weights.data() + size_t(r) * columns;
            const int keys = first + r + 1;
            F32x16 tops = splat(-INFINITY), sums = {};
            for (int j = 0; j < keys; j += LANES)
                tops = maximum(tops, visible_only(load<F32x16>(scores + j), j, keys, -INFINITY));
            const float top = horizontal_max(tops);
            for (int j = 0; j < block.columns; j += LANES) {
                F32x16 e = {};
                if (j < keys)
                    e = visible_only(exponential((load<F32x16>(scores + j) - top) * scale), j, keys, 0);
                sums += e;
                narrow(weights + j, e);
            }
            totals[r] = horizontal_sum(sums);
            log_sums[first + r] = top * scale + std::log(totals[r]);
        }
        product<T>(s.weights.data(), columns / STEP, 1, s.values.data(), D, rounded_up(block.keys, STEP) / STEP,
                   block.rows, D, s.out.data(), D, false);
        for (int r = 0; r < block.rows; r++)
            for (int d = 0; d < D; d += LANES)
                narrow(out + (first + r) * out_stride + d, load<F32x16>(&s.out[size_t(r) * D + d]) * (1 / totals[r]));
    }
}

// The gradients of a head's queries, keys and values, which `to` describes, from that of its output.
template <class T>
void attend_document_backward(const DocumentHead<T>& head, const T* out, const T* gradient, size_t out_stride,
                              const float* log_sums, T* query_gradient, T* key_gradient, T* value_gradient,
                              Scratch<T>& s) {
    constexpr int STEP = Lanes<T>::STEP;
    const int D = head.head_dim, columns = head.columns();
    const float scale = 1 / std::sqrt(float(D));
    pack_by_dim<T>(head.key, head.stride, head.length, columns, D, s.keys_by_dim);
    pack_by_dim<T>(head.value, head.stride, head.length, columns, D, s.values_by_dim);
    pack_by_row<T>(head.key, head.stride, head.length, D, s.keys);
    for (auto* buffer : {&s.scores, &s.products}) buffer->resize(size_t(QUERIES) * columns);
    for (auto* buffer : {&s.weights, &s.slopes}) buffer->resize(size_t(QUERIES / STEP) * columns);
    s.left.resize(size_t(QUERIES) * std::max(columns, D));
    s.out.resize(size_t(QUERIES) * D);
    for (auto* buffer : {&s.key_gradient, &s.value_gradient}) buffer->assign(size_t(head.length) * D, 0);
    for (int first = 0; first < head.length; first += QUERIES) {
        const Visible block(first, head.length);
        const T *queries = head.query + first * head.stride, *gradients = gradient + first * out_stride;
        copy_rows<T>(queries, head.stride, block.rows, D, s.left);
        product<T>(s.left.data(), D / STEP, 1, s.keys_by_dim.data(), columns, D / STEP, block.rows, block.columns,
                   s.scores.data(), columns, false);
        copy_rows<T>(gradients, out_stride, block.rows, D, s.left);
        product<T>(s.left.data(), D / STEP, 1, s.values_by_dim.data(), columns, D / STEP, block.rows, block.columns,
                   s.products.data(), columns, false);
        pack_by_row<T>(queries, head.stride, block.rows, D, s.queries);
        pack_by_row<T>(gradients, out_stride, block.rows, D, s.gradients);
        s.left.resize(size_t(QUERIES) * std::max(columns, D));
        T* rows_of_slopes = (T*)s.left.data();  // (rows, columns), the left side of the queries' gradient
        for (int row = 0; row < block.rows; row += STEP) {
            for (int j = 0; j < block.columns; j += LANES) {
                F32x16 weight[2] = {}, slope[2] = {};
                for (int i = 0; i < STEP && row + i < block.rows; i++) {
                    const int r = row + i, keys = first + r + 1;
                    if (j < keys) {
                        const size_t at = size_t(r) * columns + j;
                        const T *y = out + (first + r) * out_stride, *dy = gradients + r * out_stride;
                        if (j == 0) {
                            F32x16 sum = {};
                            for (int d = 0; d < D; d += LANES) sum += widen(y + d) * widen(dy + d);
                            s.delta.resize(QUERIES);
                            s.delta[r] = horizontal_sum(sum);
                        }
                        weight[i] = visible_only(exponential(load<F32x16>(&s.scores[at]) * scale - log_sums[first + r]),
                                                 j, keys, 0);
                        slope[i] = weight[i] * (load<F32x16>(&s.products[at]) - s.delta[r]) * scale;
                    }
                    narrow(rows_of_slopes + size_t(r) * columns + j, slope[i]);
                }
                const size_t at = size_t(row / STEP) * columns + j;
                store(&s.weights[at], Lanes<T>::join(weight[0], weight[1]));
                store(&s.slopes[at], Lanes<T>::join(slope[0], slope[1]));
            }
        }
        product<T>(s.left.data(), columns / STEP, 1, s.keys.data(), D, rounded_up(block.keys, STEP) / STEP, block.rows,
                   D, s.out.data(), D, false);
        for (int r = 0; r < block.rows; r++)
            for (int d = 0; d < D; d += LANES)
                narrow(query_gradient + (first + r) * head.stride + d, load<F32x16>(&s.out[size_t(r) * D + d]));
        const int steps = rounded_up(block.rows, STEP) / STEP;
        product<T>(s.weights.data(), 1, columns, s.gradients.data(), D, steps, block.keys, D, s.value_gradient.data(),
                   D, true);
        product<T>(s.slopes.data(), 1, columns, s.queries.data(), D, steps, block.keys, D, s.key_gradient.data(), D,
                   true);
    }
    for (int j = 0; j < head.length; j++)
        for (int d = 0; d < D; d += LANES) {
            narrow(key_gradient + j * head.stride + d, load<F32x16>(&s.key_gradient[size_t(j) * D + d]));
            narrow(value_gradient + j * head.stride + d, load<F32x16>(&s.value_gradient[size_t(j) * D + d]));
        }
}

// All heads of all documents: `call.qkv` is (tokens, 3, heads, head_dim).
template <class T>
void document_attention(const DocumentAttentionCall& call) {
    const int D = call.head_dim, H = call.heads;
    const size_t width = size_t(H) * D;
#pragma omp parallel num_threads(call.threads)
    {
        Scratch<T> scratch;
#pragma omp for schedule(dynamic, 1)
        for (int item = 0; item < call.documents * H; item++) {
            const int h = item % H;
            const int64_t start = call.starts[item / H], end = call.starts[item / H + 1];
            const size_t at = start * 3 * width + size_t(h) * D, out_at = start * width + size_t(h) * D;
            const T* qkv = (const T*)call.qkv + at;
            const DocumentHead<T> head{qkv, qkv + width, qkv + 2 * width, int(end - start), D, 3 * width};
            float* log_sums = call.log_sums + h * call.starts[call.documents] + start;
            if (call.gradient) {
                T* to = (T*)call.qkv_gradient + at;
                attend_document_backward<T>(head, (const T*)call.out + out_at, (const T*)call.gradient + out_at, width,
                                            log_sums, to, to + width, to + 2 * width, scratch);
            } else {
                attend_document<T>(head, (T*)call.out + out_at, width, log_sums, scratch);
            }
        }
    }
}

}  // namespace resonance
