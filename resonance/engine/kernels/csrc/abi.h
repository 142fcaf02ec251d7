// The interface between Python and C++, in C: gpt2.cpp includes it and build.py gives it to cffi, so that each side has
// the other's very declarations. The caller keeps all memory.
#pragma once
#include <stdint.h>

typedef struct {
    const uint8_t* data;  // packed as gemm.h describes
    const float* scale;   // int8: (outputs,), else null
    const float* bias;    // (outputs,) or null
} MatrixWeights;

typedef struct {
    const float* weight;
    const float* bias;
} LayerNormWeights;

typedef struct {
    LayerNormWeights norm1, norm2;
    MatrixWeights qkv, attention_proj, fc, feed_forward_proj;
} LayerWeights;

typedef struct {
    MatrixWeights token_embedding, head;
    const float* position_embedding;  // (context_length, padded n_embd)
    LayerNormWeights norm;
    const LayerWeights* layers;
    int32_t n_layer, n_head, n_embd, context_length, padded_vocab_size;
    int32_t precision;   // gemm.h's enum Precision
    int32_t bf16_cache;  // 1: keys and values are bfloat16, 0: float
    float layer_norm_epsilon;
} ModelWeights;

// Rows [row, row + count) of a step: consecutive tokens of one slot, the first at `position`.
typedef struct {
    int32_t slot, position, row, count;
} ChunkRows;

// A step: computes `rows` tokens of `chunks`, stores their keys and values in the cache, and writes the hidden states
// after the final LayerNorm of the rows in `hidden_rows` to `hidden` (n_hidden, n_embd).
typedef struct {
    const ChunkRows* chunks;
    const int64_t* token_ids;
    void* keys;
    void* values;
    const int32_t* hidden_rows;
    float* hidden;
    int32_t n_chunks, rows, n_hidden, threads;
} HiddenCall;

// The head: hidden states (rows, n_embd) to logits (rows, padded_vocab_size).
typedef struct {
    const float* hidden;
    float* logits;
    int32_t rows, threads;
} LogitsCall;

// The cross-entropy of each row of logits (rows, padded_vocab_size), a multiple of 16 wide, times the row's scale. With
// `gradient`, the gradient of the losses' sum replaces the logits, 0 in the padding.
typedef struct {
    void* logits;              // bfloat16 or float
    const int64_t* targets;    // (rows,)
    const float* log_weights;  // (padded_vocab_size,), added to the logits, or null
    const float* scales;       // (rows,) or null
    float* losses;             // (rows,)
    float smoothing;           // the share of the target's probability that is spread evenly over all tokens
    int32_t rows, vocab_size, padded_vocab_size, bf16, gradient, threads;
} CrossEntropyCall;

// GELU (tanh form) of `count` numbers, a multiple of 16; with `gradient`, that of the outputs, the inputs' gradient.
typedef struct {
    const void* inputs;    // bfloat16 or float, all of them
    const void* gradient;  // or null
    void* outputs;
    int64_t count;
    int32_t bf16, threads;
} GeluCall;

// Layer normalisation of rows of floats to bfloat16; with `gradient`, that of the outputs, the gradients of inputs, weight
// and bias from the means and scales that the call without it wrote. width is a multiple of 16.
typedef struct {
    const float* inputs;     // (rows, width)
    const float* weight;     // (width,)
    const float* bias;       // (width,)
    void* outputs;           // (rows, width) bfloat16
    float* means;            // (rows,)
    float* scales;           // (rows,): 1 / standard deviation
    const void* gradient;    // (rows, width) bfloat16, or null
    float* inputs_gradient;  // (rows, width)
    float* weight_gradient;  // (width,)
    float* bias_gradient;    // (width,)
    float epsilon;
    int32_t rows, width, threads;
} LayerNormCall;

// Causal attention inside each document of packed rows; with `gradient`, that of `out`, the gradient of `qkv` from what
// the call without it wrote. Numbers are bfloat16 or float; head_dim is a multiple of 16.
typedef struct {
    const void* qkv;        // (tokens, 3, heads, head_dim)
    void* out;              // (tokens, heads, head_dim)
    float* log_sums;        // (heads, tokens): log-sum-exp of each query's scores
    const void* gradient;   // (tokens, heads, head_dim) or null
    void* qkv_gradient;     // (tokens, 3, heads, head_dim) or null
    const int64_t* starts;  // (documents + 1,): first tokens, then the number of tokens
    int32_t documents, heads, head_dim, bf16, threads;
} DocumentAttentionCall;

// The gradient of a linear layer's weights, (n_outputs, n_inputs): outputs' gradient (rows, n_outputs)^T * inputs (rows,
// n_inputs), both bfloat16, and of its bias. n_outputs and n_inputs are multiples of 16.
typedef struct {
    const void* gradient;
    const void* inputs;
    float* weight_gradient;
    float* bias_gradient;  // (n_outputs,) or null
    void* scratch;         // (rows, rounded up to an even number, at most 1,024) * n_inputs * 2 bytes
    int32_t rows, n_outputs, n_inputs, add, threads;  // add: to what weight_gradient holds
} WeightGradientCall;

void* resonance_create_model(const ModelWeights* weights);
void resonance_free_model(void* model);
void resonance_hidden(void* model, const HiddenCall* call);
void resonance_logits(void* model, const LogitsCall* call);
void resonance_cross_entropy(const CrossEntropyCall* call);
void resonance_gelu(const GeluCall* call);
void resonance_layer_norm(const LayerNormCall* call);
void resonance_document_attention(const DocumentAttentionCall* call);
void resonance_weight_gradient(const WeightGradientCall* call);
int32_t resonance_weight_gradient_pays(void);  // 1 where it is faster than torch's product

// Reads `nbytes`, a multiple of 512 for each thread, as the products do, to measure the memory's bandwidth. Returns
// their sum, so that the compiler keeps the reads.
uint32_t resonance_read(const uint8_t* memory, int64_t nbytes, int32_t threads);
