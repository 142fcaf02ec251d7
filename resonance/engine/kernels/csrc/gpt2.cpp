// One step of GPT-2 for any mixture of rows: every layer in a single call, on OpenMP threads.
//
// Knows nothing of Python: plain C functions at the end of the file are called through ctypes (see __init__.py).

#include <omp.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "attention.h"
#include "attention_tiles.h"
#include "linear.h"
#include "team.h"
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
    Phases phases;
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

template <class T, int D>
void attend_head(const LayerCache<T>& cache, const Run& run, int head, const Rows& rows, std::vector<float>& scratch) {
    T* keys = cache.keys + cache.offset(run.slot, head, 0);
    T* values = cache.values + cache.offset(run.slot, head, 0);
    remember<T, D>(run, rows, keys, values);
    if constexpr (std::is_same_v<T, uint16_t> && D % 32 == 0)
        if (run.count >= 16 && tiles_allowed())
            return attend_tiles<D>(run, rows, keys, values, cache.context, scratch);
    attend<T, D>(run, rows, keys, values, scratch);
}

template <class T, class... Rest>
void attend_any(const LayerCache<T>& cache, Rest&&... rest) {
    if (cache.head_dim == 64) attend_head<T, 64>(cache, rest...);
    if (cache.head_dim == 128) attend_head<T, 128>(cache, rest...);
    if (cache.head_dim == 32) attend_head<T, 32>(cache, rest...);
    if (cache.head_dim == 16) attend_head<T, 16>(cache, rest...);
}

constexpr int MANY_ROWS = 32, ROWS_AN_ITEM = 8;  // of many rows, so many are prepared together
constexpr int PANELS_AN_ITEM = 4;  // of the head, which has many
constexpr int MOST_AHEAD = 256 << 10;  // bytes that a waiting thread reads ahead: well within its cache
constexpr int PHASES_A_LAYER = 9;

// Products by whichever kernel suits the number of rows.
void product(Member& member, const Matrix& matrix, const Input& input, int rows, Finish how, float* out,
             int panels_an_item = 1) {
    const auto kernel = use_tiles(matrix, rows)        ? multiply_tiles
                        : use_byte_tiles(matrix, rows) ? multiply_byte_tiles
                                                       : multiply;
    const int panels = matrix.outputs / PANEL;
    member.share((panels + panels_an_item - 1) / panels_an_item, [&](int item) {
        for (int panel = item * panels_an_item; panel < std::min(panels, (item + 1) * panels_an_item); panel++)
            kernel(matrix, input, rows, panel, how, out, matrix.outputs);
    });
}

// The beginning of what a member will read of a matrix.
Ahead own_panels(const Member& member, const Matrix& matrix) {
    const int panels = matrix.outputs / PANEL;
    const uint8_t* begin = matrix.data + member.first_of(panels) * matrix.panel_bytes();
    return {begin, std::min(begin + MOST_AHEAD, matrix.data + panels * matrix.panel_bytes())};
}

// Let `work` make some rows of `from`, then prepare them as the matrix's input.
template <class Work>
void prepared(Member& member, const Matrix& matrix, Input& input, int rows, const float* from, int stride,
              Work&& work) {
    const int together = rows < MANY_ROWS ? 1 : ROWS_AN_ITEM;
    member.share((rows + together - 1) / together, [&](int item) {
        const int first = item * together, last = std::min(rows, first + together);
        for (int row = first; row < last; row++) work(row);
        input.prepare(matrix, use_tiles(matrix, rows), from, stride, first, last);
    }, own_panels(member, matrix));
}

template <class T>
void run_layers(Model& m, Member& member, const Run* runs, int n_runs, int rows, T* keys, T* values) {
    const int P = m.padded;
    const size_t layer_size = size_t(m.heads) * m.context * m.head_dim;
    std::vector<float> scratch;
    for (size_t l = 0; l < m.layers.size(); l++) {
        const Layer& layer = m.layers[l];
        const int qkv_width = layer.qkv.outputs, inner_width = layer.fc.outputs;
        LayerCache<T> cache{keys + l * layer_size, values + l * layer_size, m.layers.size() * layer_size, m.context,
                            m.head_dim};
        auto normed = [&](const Norm& norm) {
            return [&m, &norm, P](int row) {
                normalise(norm, &m.residual[size_t(row) * P], m.width, m.epsilon, &m.normed[size_t(row) * P]);
            };
        };
        auto nothing = [](int) {};
        prepared(member, layer.qkv, m.input, rows, m.normed.data(), P, normed(layer.norm1));
        product(member, layer.qkv, m.input, rows, STORE, m.qkv.data());
        member.share(n_runs * m.heads, [&](int item) {
            const Run& run = runs[item / m.heads];
            const int head = item % m.heads;
            const Rows its{&m.qkv[size_t(run.row) * qkv_width + head * m.head_dim], qkv_width, m.width,
                           &m.attended[size_t(run.row) * P + head * m.head_dim], P};
            attend_any(cache, run, head, its, scratch);
        }, own_panels(member, layer.proj));
        prepared(member, layer.proj, m.input, rows, m.attended.data(), P, nothing);
        product(member, layer.proj, m.input, rows, ADD, m.residual.data());
        prepared(member, layer.fc, m.input, rows, m.normed.data(), P, normed(layer.norm2));
        product(member, layer.fc, m.input, rows, GELU, m.inner.data());
        prepared(member, layer.out, m.inner_input, rows, m.inner.data(), inner_width, nothing);
        product(member, layer.out, m.inner_input, rows, ADD, m.residual.data());
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
    std::vector<const Run*> run_of(rows);
    for (int i = 0; i < n_runs; i++)
        for (int row = 0; row < run[i].count; row++) run_of[run[i].row + row] = run + i;
    m.phases.begin(int(m.layers.size()) * PHASES_A_LAYER + 2, threads);
#pragma omp parallel num_threads(threads)
    {
        Tiles tiles(rows);
        Member member(m.phases, omp_get_thread_num());
        member.share(rows, [&](int row) {
            float* x = &m.residual[size_t(row) * P];
            unpack_row(m.tokens, token_ids[row], x);
            const float* position = m.positions + size_t(run_of[row]->position + row - run_of[row]->row) * P;
            for (int d = 0; d < P; d++) x[d] += position[d];
        });
        if (m.bf16_cache)
            run_layers(m, member, run, n_runs, rows, (uint16_t*)keys, (uint16_t*)values);
        else
            run_layers(m, member, run, n_runs, rows, (float*)keys, (float*)values);
        member.share(n_wanted, [&](int i) {
            normalise(m.norm, &m.residual[size_t(wanted[i]) * P], m.width, m.epsilon, hidden + size_t(i) * m.width);
        });
    }
}

// The head: `hidden` (rows, width) to `logits` (rows, padded vocabulary).
void resonance_logits(void* model, const float* hidden, int rows, float* logits, int threads) {
    Model& m = *(Model*)model;
    const int P = m.padded;
    if (m.normed.size() < size_t(rows) * P) m.normed.assign(size_t(rows) * P, 0);
    m.input.reserve(rows, P);
    m.phases.begin(2, threads);
#pragma omp parallel num_threads(threads)
    {
        Tiles tiles(rows);
        Member member(m.phases, omp_get_thread_num());
        prepared(member, m.head, m.input, rows, m.normed.data(), P, [&](int row) {
            memcpy(&m.normed[size_t(row) * P], hidden + size_t(row) * m.width, m.width * sizeof(float));
        });
        product(member, m.head, m.input, rows, STORE, logits, PANELS_AN_ITEM);
    }
}

// Read `nbytes`, a multiple of 64 for each thread, as the products do, and do nothing else; their sum, so that it is
// done. How fast memory can be read at all.
uint32_t resonance_read(const uint8_t* memory, int64_t nbytes, int threads) {
    const int64_t part = nbytes / threads / 512 * 512;
    uint32_t total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        const uint8_t* from = memory + omp_get_thread_num() * part;
        Words sums[8] = {};
        for (const uint8_t* end = from + part; from < end; from += 512)
            for (int v = 0; v < 8; v++) {
                prefetch(from + v * 64 + AHEAD);
                sums[v] += load<Words>(from + v * 64);
            }
        for (int v = 0; v < 8; v++)
            for (int i = 0; i < LANES; i++) total += sums[v][i];
    }
    return total;
}
}
