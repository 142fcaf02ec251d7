// One step of GPT-2 for any mixture of rows: every layer in a single call, on OpenMP threads.
//
// Knows nothing of Python: plain C functions at the end of the file are called through ctypes (see __init__.py).

#include <omp.h>

#include <algorithm>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "tiles.h"

using namespace resonance;

namespace {

struct Norm {
    const float *weight, *bias;
};

struct Layer {
    Norm norm1, norm2;
    Matrix qkv, proj, fc, out;
};

struct Model {
    int width, padded, heads, head_dim, context;
    float epsilon;
    bool bf16_cache;
    Matrix tokens, head;
    const float* positions;  // (context, padded)
    Norm norm;
    std::vector<Layer> layers;
    // Buffers of one step: (rows, padded width) each.
    std::vector<float> residual, normed, qkv, attended, inner;
    Input input, inner_input;
};

// Consecutive new tokens of one slot: rows [row, row + count) of the step.
struct Run {
    int32_t slot, position, row, count;
};

void normalise(const Norm& norm, const float* x, int width, float epsilon, float* to) {
    float mean = 0, variance = 0;
#pragma omp simd reduction(+ : mean)
    for (int i = 0; i < width; i++) mean += x[i];
    mean /= width;
#pragma omp simd reduction(+ : variance)
    for (int i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / std::sqrt(variance / width + epsilon);
#pragma omp simd
    for (int i = 0; i < width; i++) to[i] = (x[i] - mean) * scale * norm.weight[i] + norm.bias[i];
}

template <class T, class... Rest>
void attend_any(const LayerCache<T>& cache, Rest&&... rest) {
    if (cache.head_dim == 64) attend<T, 64>(cache, rest...);
    if (cache.head_dim == 128) attend<T, 128>(cache, rest...);
    if (cache.head_dim == 32) attend<T, 32>(cache, rest...);
    if (cache.head_dim == 16) attend<T, 16>(cache, rest...);
}

template <class T>
void run_layers(Model& m, const Run* runs, int n_runs, int rows, T* keys, T* values, int thread, int threads) {
    const int P = m.padded, first = rows * thread / threads, last = rows * (thread + 1) / threads;
    std::vector<float> scratch;
    for (size_t l = 0; l < m.layers.size(); l++) {
        const Layer& layer = m.layers[l];
        const size_t layer_size = size_t(m.heads) * m.context * m.head_dim;
        LayerCache<T> cache{keys + l * layer_size, values + l * layer_size, m.layers.size() * layer_size, m.context,
                            m.head_dim};
        auto normed_input = [&](const Norm& norm, const Matrix& matrix) {
            for (int row = first; row < last; row++)
                normalise(norm, &m.residual[size_t(row) * P], m.width, m.epsilon, &m.normed[size_t(row) * P]);
            m.input.prepare(matrix, use_tiles(matrix, rows), m.normed.data(), P, first, last);
#pragma omp barrier
        };
        auto product = [&](const Matrix& matrix, const Input& input, Finish how, std::vector<float>& to) {
            const auto kernel = use_tiles(matrix, rows) ? multiply_tiles : multiply;
            kernel(matrix, input, rows, how, to.data(), matrix.outputs, thread, threads);
#pragma omp barrier
        };
        normed_input(layer.norm1, layer.qkv);
        product(layer.qkv, m.input, STORE, m.qkv);
        for (int item = thread; item < n_runs * m.heads; item += threads) {
            const Run& run = runs[item / m.heads];
            attend_any(cache, run.slot, item % m.heads, run.position, run.count,
                       &m.qkv[size_t(run.row) * layer.qkv.outputs], layer.qkv.outputs, m.width,
                       &m.attended[size_t(run.row) * P], P, scratch);
        }
#pragma omp barrier
        m.input.prepare(layer.proj, use_tiles(layer.proj, rows), m.attended.data(), P, first, last);
#pragma omp barrier
        product(layer.proj, m.input, ADD, m.residual);
        normed_input(layer.norm2, layer.fc);
        product(layer.fc, m.input, GELU, m.inner);
        m.inner_input.prepare(layer.out, use_tiles(layer.out, rows), m.inner.data(), layer.fc.outputs, first, last);
#pragma omp barrier
        product(layer.out, m.inner_input, ADD, m.residual);
    }
}

}  // namespace

extern "C" {

// `sizes`: width, padded, heads, context, layers, kind, whether the cache is bf16. `pointers`: data and scale of
// the token embedding, the same of the head, position embedding, the last norm's weight and bias; then of each
// layer both norms' weight and bias, and data, scale and bias of qkv, proj, fc, out. All memory stays the caller's.
void* resonance_model(const int64_t* sizes, float epsilon, int64_t vocab_padded, const void* const* pointers) {
    Model* m = new Model;
    m->width = sizes[0], m->padded = sizes[1], m->heads = sizes[2], m->context = sizes[3];
    m->head_dim = m->width / m->heads;
    m->epsilon = epsilon;
    const Kind kind = Kind(sizes[5]);
    m->bf16_cache = sizes[6];
    auto next = [&] { return *pointers++; };
    auto matrix = [&](int outputs, int inputs, bool biased) {
        auto data = (const uint8_t*)next();
        auto scale = (const float*)next();
        return Matrix{kind, outputs, inputs, data, scale, biased ? (const float*)next() : nullptr};
    };
    auto norm = [&] {
        auto weight = (const float*)next();
        return Norm{weight, (const float*)next()};
    };
    auto whole = [](int n) { return (n + PANEL - 1) / PANEL * PANEL; };
    m->tokens = matrix(vocab_padded, m->padded, false);
    m->head = matrix(vocab_padded, m->padded, false);
    m->positions = (const float*)next();
    m->norm = norm();
    const int inner = whole(4 * m->width);
    for (int i = 0; i < sizes[4]; i++) {
        Layer layer;
        layer.norm1 = norm(), layer.norm2 = norm();
        layer.qkv = matrix(whole(3 * m->width), m->padded, true);
        layer.proj = matrix(m->padded, m->padded, true);
        layer.fc = matrix(inner, m->padded, true);
        layer.out = matrix(m->padded, inner, true);
        m->layers.push_back(layer);
    }
    return m;
}

void resonance_free(void* model) { delete (Model*)model; }

// Compute `rows` tokens, which `runs` place in slots; leave their keys and values in the cache, and the hidden
// states after the last norm of the `n_wanted` rows named by `wanted` in `hidden` (n_wanted, width).
void resonance_hidden(void* model, const int32_t* runs, int n_runs, const int64_t* token_ids, int rows, void* keys,
                      void* values, const int32_t* wanted, int n_wanted, float* hidden, int threads) {
    Model& m = *(Model*)model;
    const Run* run = (const Run*)runs;
    const int P = m.padded, inner = m.layers.empty() ? P : m.layers[0].fc.outputs;
    if (m.residual.size() < size_t(rows) * P) {
        for (auto* buffer : {&m.residual, &m.normed, &m.attended}) buffer->assign(size_t(rows) * P, 0);
        m.qkv.assign(size_t(rows) * (3 * P), 0);
        m.inner.assign(size_t(rows) * inner, 0);
        m.input.reserve(rows, P);
        m.inner_input.reserve(rows, inner);
    }
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), count = omp_get_num_threads();
        for (int i = 0; i < n_runs; i++)
            for (int row = thread; row < run[i].count; row += count) {
                float* x = &m.residual[size_t(run[i].row + row) * P];
                unpack_row(m.tokens, token_ids[run[i].row + row], x);
                const float* position = m.positions + size_t(run[i].position + row) * P;
                for (int d = 0; d < P; d++) x[d] += position[d];
            }
#pragma omp barrier
        if (m.bf16_cache)
            run_layers(m, run, n_runs, rows, (uint16_t*)keys, (uint16_t*)values, thread, count);
        else
            run_layers(m, run, n_runs, rows, (float*)keys, (float*)values, thread, count);
        for (int i = thread; i < n_wanted; i += count)
            normalise(m.norm, &m.residual[size_t(wanted[i]) * P], m.width, m.epsilon, hidden + size_t(i) * m.width);
    }
}

// The head: `hidden` (rows, width) to `logits` (rows, padded vocabulary).
void resonance_logits(void* model, const float* hidden, int rows, float* logits, int threads) {
    Model& m = *(Model*)model;
    const int P = m.padded;
    if (m.normed.size() < size_t(rows) * P) m.normed.assign(size_t(rows) * P, 0);
    m.input.reserve(rows, P);
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), count = omp_get_num_threads();
        const int first = rows * thread / count, last = rows * (thread + 1) / count;
        for (int row = first; row < last; row++)
            memcpy(&m.normed[size_t(row) * P], hidden + size_t(row) * m.width, m.width * sizeof(float));
        m.input.prepare(m.head, use_tiles(m.head, rows), m.normed.data(), P, first, last);
#pragma omp barrier
        const auto kernel = use_tiles(m.head, rows) ? multiply_tiles : multiply;
        kernel(m.head, m.input, rows, STORE, logits, m.head.outputs, thread, count);
    }
}
}
