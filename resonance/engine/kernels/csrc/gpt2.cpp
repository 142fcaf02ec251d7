// GPT-2's forward pass for a step of any mixture of rows: all layers in one call, on OpenMP threads. Python calls the
// C functions at the end of the file, which abi.h declares.

#include <omp.h>

#include <algorithm>
#include <type_traits>
#include <vector>

extern "C" {
#include "abi.h"
}
#include "attention.h"
#include "attention_amx.h"
#include "cross_entropy.h"
#include "document_attention.h"
#include "gelu.h"
#include "gemm.h"
#include "gemm_amx.h"
#include "layer_norm.h"
#include "weight_gradient.h"
#include "work_sharing.h"

using namespace resonance;

namespace {

struct Layer {
    LayerNormWeights norm1, norm2;
    Matrix qkv, attention_proj, fc, feed_forward_proj;
};

struct Model {
    int width, padded_width, heads, head_dim, context;
    float epsilon;
    bool bf16_cache;
    Matrix token_embedding, head;
    const float* position_embedding;  // (context, padded_width)
    LayerNormWeights norm;
    std::vector<Layer> layers;
    // Buffers of a step, (rows, a padded width) each.
    std::vector<float> residual, normed, qkv, attended, inner;
    Activations input, inner_input;
    PhaseCounters phases;
};

void layer_norm(const LayerNormWeights& norm, const float* x, int width, float epsilon, float* out) {
    float mean = 0, variance = 0;
#pragma omp simd reduction(+ : mean)
    for (int i = 0; i < width; i++) mean += x[i];
    mean /= width;
#pragma omp simd reduction(+ : variance)
    for (int i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / std::sqrt(variance / width + epsilon);
#pragma omp simd
    for (int i = 0; i < width; i++) out[i] = (x[i] - mean) * scale * norm.weight[i] + norm.bias[i];
}

template <class T, int D>
void attend_head(const LayerCache<T>& cache, const ChunkRows& chunk, int head, const HeadRows& rows,
                 std::vector<float>& scratch) {
    T* keys = cache.keys + cache.offset(chunk.slot, head, 0);
    T* values = cache.values + cache.offset(chunk.slot, head, 0);
    store_keys_values<T, D>(chunk, rows, keys, values);
    if constexpr (std::is_same_v<T, uint16_t> && D % 32 == 0)
        if (chunk.count >= 16 && amx_allowed())
            return attend_amx<D>(chunk, rows, keys, values, cache.context, scratch);
    attend<T, D>(chunk, rows, keys, values, scratch);
}

template <class T, class... Rest>
void attend_any(const LayerCache<T>& cache, Rest&&... rest) {
    if (cache.head_dim == 64) attend_head<T, 64>(cache, rest...);
    if (cache.head_dim == 128) attend_head<T, 128>(cache, rest...);
    if (cache.head_dim == 32) attend_head<T, 32>(cache, rest...);
    if (cache.head_dim == 16) attend_head<T, 16>(cache, rest...);
}

constexpr int MANY_ROWS = 32, ROWS_PER_ITEM = 8;  // from MANY_ROWS on, an item of work prepares ROWS_PER_ITEM
constexpr int HEAD_PANELS_PER_ITEM = 4;           // the head has many panels
constexpr int MAX_PREFETCH = 256 << 10;           // bytes that a waiting thread prefetches, well within its cache
constexpr int PHASES_PER_LAYER = 9;

// out = input * matrix^T, by the kernel that suits the number of rows.
void matmul(Worker& worker, const Matrix& matrix, const Activations& input, int rows, Epilogue epilogue, float* out,
            int panels_per_item = 1) {
    const auto kernel = use_amx_bf16(matrix, rows)   ? gemm_panel_amx
                        : use_amx_int8(matrix, rows) ? gemm_panel_amx_int8
                                                     : gemm_panel;
    const int panels = matrix.outputs / PANEL;
    worker.parallel_for((panels + panels_per_item - 1) / panels_per_item, [&](int item) {
        for (int panel = item * panels_per_item; panel < std::min(panels, (item + 1) * panels_per_item); panel++)
            kernel(matrix, input, rows, panel, epilogue, out, matrix.outputs);
    });
}

// The first bytes that a thread will read of a matrix.
PrefetchRange first_panels(const Worker& worker, const Matrix& matrix) {
    const int panels = matrix.outputs / PANEL;
    const uint8_t* first = matrix.data + worker.first_item(panels) * matrix.panel_bytes();
    return {first, std::min(first + MAX_PREFETCH, matrix.data + panels * matrix.panel_bytes())};
}

// Computes the rows of `from` by `compute(row)`, then converts them to the matrix's input.
template <class Compute>
void prepare_input(Worker& worker, const Matrix& matrix, Activations& input, int rows, const float* from, int stride,
                   Compute&& compute) {
    const int rows_per_item = rows < MANY_ROWS ? 1 : ROWS_PER_ITEM;
    worker.parallel_for((rows + rows_per_item - 1) / rows_per_item, [&](int item) {
        const int first = item * rows_per_item, last = std::min(rows, first + rows_per_item);
        for (int row = first; row < last; row++) compute(row);
        input.prepare(matrix, use_amx_bf16(matrix, rows), from, stride, first, last);
    }, first_panels(worker, matrix));
}

template <class T>
void run_layers(Model& m, Worker& worker, const HiddenCall& call) {
    const int P = m.padded_width, rows = call.rows;
    const size_t layer_size = size_t(m.heads) * m.context * m.head_dim;
    std::vector<float> scratch;
    for (size_t l = 0; l < m.layers.size(); l++) {
        const Layer& layer = m.layers[l];
        const int qkv_width = layer.qkv.outputs, inner_width = layer.fc.outputs;
        LayerCache<T> cache{(T*)call.keys + l * layer_size, (T*)call.values + l * layer_size,
                            m.layers.size() * layer_size, m.context, m.head_dim};
        auto normed = [&](const LayerNormWeights& norm) {
            return [&m, &norm, P](int row) {
                layer_norm(norm, &m.residual[size_t(row) * P], m.width, m.epsilon, &m.normed[size_t(row) * P]);
            };
        };
        auto computed = [](int) {};
        prepare_input(worker, layer.qkv, m.input, rows, m.normed.data(), P, normed(layer.norm1));
        matmul(worker, layer.qkv, m.input, rows, STORE, m.qkv.data());
        worker.parallel_for(call.n_chunks * m.heads, [&](int item) {
            const ChunkRows& chunk = call.chunks[item / m.heads];
            const int head = item % m.heads;
            const HeadRows head_rows{&m.qkv[size_t(chunk.row) * qkv_width + head * m.head_dim], qkv_width, m.width,
                                     &m.attended[size_t(chunk.row) * P + head * m.head_dim], P};
            attend_any(cache, chunk, head, head_rows, scratch);
        }, first_panels(worker, layer.attention_proj));
        prepare_input(worker, layer.attention_proj, m.input, rows, m.attended.data(), P, computed);
        matmul(worker, layer.attention_proj, m.input, rows, ADD, m.residual.data());
        prepare_input(worker, layer.fc, m.input, rows, m.normed.data(), P, normed(layer.norm2));
        matmul(worker, layer.fc, m.input, rows, GELU, m.inner.data());
        prepare_input(worker, layer.feed_forward_proj, m.inner_input, rows, m.inner.data(), inner_width, computed);
        matmul(worker, layer.feed_forward_proj, m.inner_input, rows, ADD, m.residual.data());
    }
}

}  // namespace

extern "C" {

void* resonance_create_model(const ModelWeights* weights) {
    auto padded = [](int n) { return (n + PANEL - 1) / PANEL * PANEL; };
    const int width = weights->n_embd, P = padded(width), inner = padded(4 * width);
    auto matrix = [&](const MatrixWeights& matrix, int outputs, int inputs) {
        return Matrix{Precision(weights->precision), outputs, inputs, matrix.data, matrix.scale, matrix.bias};
    };
    Model* m = new Model;
    m->width = width, m->padded_width = P;
    m->heads = weights->n_head, m->head_dim = width / weights->n_head, m->context = weights->context_length;
    m->epsilon = weights->layer_norm_epsilon;
    m->bf16_cache = weights->bf16_cache;
    m->token_embedding = matrix(weights->token_embedding, weights->padded_vocab_size, P);
    m->head = matrix(weights->head, weights->padded_vocab_size, P);
    m->position_embedding = weights->position_embedding;
    m->norm = weights->norm;
    for (int i = 0; i < weights->n_layer; i++) {
        const LayerWeights& layer = weights->layers[i];
        m->layers.push_back({layer.norm1, layer.norm2, matrix(layer.qkv, padded(3 * width), P),
                             matrix(layer.attention_proj, P, P), matrix(layer.fc, inner, P),
                             matrix(layer.feed_forward_proj, P, inner)});
    }
    return m;
}

void resonance_free_model(void* model) { delete (Model*)model; }

void resonance_hidden(void* model, const HiddenCall* arguments) {
    Model& m = *(Model*)model;
    const HiddenCall& call = *arguments;
    const int P = m.padded_width, inner = m.layers.empty() ? P : m.layers[0].fc.outputs;
    if (m.residual.size() < size_t(call.rows) * P) {
        for (auto* buffer : {&m.residual, &m.normed, &m.attended}) buffer->assign(size_t(call.rows) * P, 0);
        m.qkv.assign(size_t(call.rows) * (3 * P), 0);
        m.inner.assign(size_t(call.rows) * inner, 0);
        m.input.reserve(call.rows, P);
        m.inner_input.reserve(call.rows, inner);
    }
    std::vector<int> position(call.rows);
    for (const ChunkRows* chunk = call.chunks; chunk < call.chunks + call.n_chunks; chunk++)
        for (int i = 0; i < chunk->count; i++) position[chunk->row + i] = chunk->position + i;
    m.phases.reset(int(m.layers.size()) * PHASES_PER_LAYER + 2, call.threads);
#pragma omp parallel num_threads(call.threads)
    {
        AmxTiles tiles(call.rows);
        Worker worker(m.phases, omp_get_thread_num());
        worker.parallel_for(call.rows, [&](int row) {
            float* x = &m.residual[size_t(row) * P];
            unpack_row(m.token_embedding, call.token_ids[row], x);
            const float* embedding = m.position_embedding + size_t(position[row]) * P;
            for (int d = 0; d < P; d++) x[d] += embedding[d];
        });
        if (m.bf16_cache)
            run_layers<uint16_t>(m, worker, call);
        else
            run_layers<float>(m, worker, call);
        worker.parallel_for(call.n_hidden, [&](int i) {
            layer_norm(m.norm, &m.residual[size_t(call.hidden_rows[i]) * P], m.width, m.epsilon,
                       call.hidden + size_t(i) * m.width);
        });
    }
}

void resonance_logits(void* model, const LogitsCall* arguments) {
    Model& m = *(Model*)model;
    const LogitsCall& call = *arguments;
    const int P = m.padded_width;
    if (m.normed.size() < size_t(call.rows) * P) m.normed.assign(size_t(call.rows) * P, 0);
    m.input.reserve(call.rows, P);
    m.phases.reset(2, call.threads);
#pragma omp parallel num_threads(call.threads)
    {
        AmxTiles tiles(call.rows);
        Worker worker(m.phases, omp_get_thread_num());
        prepare_input(worker, m.head, m.input, call.rows, m.normed.data(), P, [&](int row) {
            memcpy(&m.normed[size_t(row) * P], call.hidden + size_t(row) * m.width, m.width * sizeof(float));
        });
        matmul(worker, m.head, m.input, call.rows, STORE, call.logits, HEAD_PANELS_PER_ITEM);
    }
}

void resonance_cross_entropy(const CrossEntropyCall* call) {
#pragma omp parallel for num_threads(call->threads) schedule(dynamic, 1)
    for (int row = 0; row < call->rows; row++) {
        if (call->bf16)
            cross_entropy_of_row<uint16_t>(*call, row);
        else
            cross_entropy_of_row<float>(*call, row);
    }
}

void resonance_gelu(const GeluCall* call) {
    const int64_t blocks = (call->count + GELU_BLOCK - 1) / GELU_BLOCK;
#pragma omp parallel for num_threads(call->threads) schedule(dynamic, 1)
    for (int64_t block = 0; block < blocks; block++) {
        if (call->bf16)
            gelu_block<uint16_t>(*call, block);
        else
            gelu_block<float>(*call, block);
    }
}

void resonance_layer_norm(const LayerNormCall* call) { layer_norm(*call); }

void resonance_document_attention(const DocumentAttentionCall* call) {
    if (call->bf16)
        document_attention<uint16_t>(*call);
    else
        document_attention<float>(*call);
}

void resonance_weight_gradient(const WeightGradientCall* call) { weight_gradient(*call); }

int32_t resonance_weight_gradient_pays() { return weight_gradient_pays(); }

uint32_t resonance_read(const uint8_t* memory, int64_t nbytes, int32_t threads) {
    const int64_t part = nbytes / threads / 512 * 512;
    uint32_t total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        const uint8_t* from = memory + omp_get_thread_num() * part;
        U32x16 sums[8] = {};
        for (const uint8_t* end = from + part; from < end; from += 512)
            for (int v = 0; v < 8; v++) {
                prefetch(from + v * 64 + PREFETCH_BYTES);
                sums[v] += load<U32x16>(from + v * 64);
            }
        for (int v = 0; v < 8; v++)
            for (int i = 0; i < LANES; i++) total += sums[v][i];
    }
    return total;
}
}
