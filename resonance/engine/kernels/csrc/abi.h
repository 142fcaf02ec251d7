// The interface between Python and C++: bindings.py declares the same structs, and refuses a library whose version or
// struct sizes differ. The caller keeps all memory.

#pragma once

#include <cstdint>

namespace resonance {

constexpr int32_t ABI_VERSION = 1;

struct MatrixWeights {
    const uint8_t* data;  // packed as gemm.h describes
    const float* scale;   // int8: (outputs,), else null
    const float* bias;    // (outputs,) or null
};

struct LayerNormWeights {
    const float *weight, *bias;
};

struct LayerWeights {
    LayerNormWeights norm1, norm2;
    MatrixWeights qkv, attention_proj, fc, feed_forward_proj;
};

struct ModelWeights {
    MatrixWeights token_embedding, head;
    const float* position_embedding;  // (context_length, padded n_embd)
    LayerNormWeights norm;
    const LayerWeights* layers;
    int32_t n_layer, n_head, n_embd, context_length, padded_vocab_size;
    int32_t precision;   // gemm.h's enum Precision
    int32_t bf16_cache;  // 1: keys and values are bfloat16, 0: float
    float layer_norm_epsilon;
};

// Rows [row, row + count) of a step: consecutive tokens of one slot, the first at `position`.
struct ChunkRows {
    int32_t slot, position, row, count;
};

// A step: computes `rows` tokens of `chunks`, stores their keys and values in the cache, and writes the hidden states
// after the final LayerNorm of the rows in `hidden_rows` to `hidden` (n_hidden, n_embd).
struct HiddenCall {
    const ChunkRows* chunks;
    const int64_t* token_ids;
    void *keys, *values;
    const int32_t* hidden_rows;
    float* hidden;
    int32_t n_chunks, rows, n_hidden, threads;
};

// The head: hidden states (rows, n_embd) to logits (rows, padded_vocab_size).
struct LogitsCall {
    const float* hidden;
    float* logits;
    int32_t rows, threads;
};

}  // namespace resonance
