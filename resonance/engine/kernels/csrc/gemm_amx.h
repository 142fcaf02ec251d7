// GEMM for many rows on AMX, the matrix unit of newer Xeons: tiles of 16 x 32 bfloat16 or 16 x 64 bytes.
//
// A panel of packed bf16 or int8 weights has the layout of AMX's second operand. An int4 panel is unpacked to bf16
// first, a cost that its many rows share.

#pragma once

#include <algorithm>

#include "gemm.h"

#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define RESONANCE_AMX 1
#endif

namespace resonance {

constexpr int AMX_ROW_BLOCK = 32;  // rows of a block: two tiles of sixteen

#if RESONANCE_AMX

// Whether the operating system permits this process to use AMX tiles.
inline bool amx_allowed() {
    static const bool allowed = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
    return allowed;
}

// Whether AMX is faster with bf16 for this many rows, the unpacking of int4 panels included.
inline bool use_amx_bf16(const Matrix& m, int rows) {
    return ((m.precision == BF16 && rows >= 2) || (m.precision == INT4 && rows >= 32)) && amx_allowed();
}

// Whether AMX is faster with int8 for this many rows.
inline bool use_amx_int8(const Matrix& m, int rows) { return m.precision == INT8 && rows >= 4 && amx_allowed(); }

// Configures a thread's tiles during its lifetime, on machines that have them.
struct AmxTiles {
    // Tiles with fewer rows than sixteen take less time.
    explicit AmxTiles(int rows) {
        if (!amx_allowed()) return;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = i < 5 && rows < 16 ? rows : 16;
        _tile_loadconfig(&config);
    }
    ~AmxTiles() {
        if (amx_allowed()) _tile_release();
    }
};

// Interleaves two vectors of floats, already rounded to bfloat16, in pairs.
inline U32x16 interleave(F32x16 even, F32x16 odd) { return (as_bits(even) >> 16) | (as_bits(odd) & 0xffff0000u); }

inline F32x16 round_to_bf16(F32x16 x) {
    U32x16 b = as_bits(x);
    return (F32x16)(b + 0x7fff + ((b >> 16) & 1));
}

// Unpacks an int4 panel to bf16, (inputs / 2, 64, 2).
inline void unpack_int4_panel(const Matrix& m, const uint8_t* panel, uint16_t* to) {
    for (int g = 0; g < m.inputs / INT4_GROUP; g++) {
        F32x16 scale[VECTORS];
        for (int v = 0; v < VECTORS; v++) scale[v] = widen((const uint16_t*)panel + v * LANES);
        panel += PANEL * 2;
        for (int i = g * INT4_GROUP / 8; i < (g + 1) * INT4_GROUP / 8; i++)
            for (int v = 0; v < VECTORS; v++, panel += 64) {
                U32x16 w = load<U32x16>(panel);
                for (int j = 0; j < 4; j++) {  // inputs 2j and 2j + 1 of these eight
                    int shift = j < 2 ? 16 * j : 16 * (j - 2) + 4;
                    F32x16 even = to_floats((I32x16)((w >> shift) & 15) - 8) * scale[v];
                    F32x16 odd = to_floats((I32x16)((w >> (shift + 8)) & 15) - 8) * scale[v];
                    store(to + ((4 * i + j) * VECTORS + v) * 32, interleave(round_to_bf16(even), round_to_bf16(odd)));
                }
            }
    }
}

// Prefetches a quarter of the 4 KB that follow `w` at a distance of PREFETCH_BYTES, between tile operations.
inline void prefetch_quarter(const uint8_t* w, int quarter) {
    for (int i = 0; i < 16; i++) prefetch(w + (quarter * 16 + i) * 64 + PREFETCH_BYTES);
}

// `gemm_panel_amx` for at most sixteen rows, bound by memory: reads the weights once and sequentially.
inline void gemm_panel_amx_16_rows(const Matrix& m, const Activations& in, int rows, int panel, const uint8_t* w,
                                   Epilogue epilogue, float* out, int out_stride) {
    alignas(64) float block[VECTORS][16][LANES];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int i = 0; i < m.inputs; i += 32, w += 32 * PANEL * 2) {
        _tile_loadd(4, &in.bf16[i], m.inputs * 2);
        prefetch_quarter(w, 0);
        _tile_loadd(5, w, PANEL * 4);
        _tile_dpbf16ps(0, 4, 5);
        prefetch_quarter(w, 1);
        _tile_loadd(6, w + 64, PANEL * 4);
        _tile_dpbf16ps(1, 4, 6);
        prefetch_quarter(w, 2);
        _tile_loadd(7, w + 128, PANEL * 4);
        _tile_dpbf16ps(2, 4, 7);
        prefetch_quarter(w, 3);
        _tile_loadd(5, w + 192, PANEL * 4);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, block[0], 64);
    _tile_stored(1, block[1], 64);
    _tile_stored(2, block[2], 64);
    _tile_stored(3, block[3], 64);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) {
            int output = panel * PANEL + v * LANES;
            apply_epilogue(m, epilogue, output, load<F32x16>(block[v][r]), out + size_t(r) * out_stride + output);
        }
}

// `gemm_panel` for bf16 inputs, whose rows are padded to a multiple of AMX_ROW_BLOCK. The calling thread has an
// `AmxTiles`.
inline void gemm_panel_amx(const Matrix& m, const Activations& in, int rows, int panel, Epilogue epilogue, float* out,
                           int out_stride) {
    static thread_local std::vector<uint16_t> converted;
    alignas(64) float block[AMX_ROW_BLOCK][32];
    const int stride = m.inputs * 2;
    const uint8_t* weights = m.data + panel * m.panel_bytes();
    if (m.precision != BF16) {
        converted.resize(size_t(m.inputs) * PANEL);
        unpack_int4_panel(m, weights, converted.data());
        weights = (const uint8_t*)converted.data();
    }
    if (rows <= 16) return gemm_panel_amx_16_rows(m, in, rows, panel, weights, epilogue, out, out_stride);
    for (int row = 0; row < rows; row += AMX_ROW_BLOCK)
        for (int half = 0; half < 2; half++) {  // 32 of the panel's outputs
            const uint8_t* w = weights + half * 128;
            const uint16_t* x = &in.bf16[size_t(row) * m.inputs];
            const bool two = rows - row > 16;
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int i = 0; i < m.inputs / 32; i++, x += 32, w += 16 * PANEL * 4) {
                _tile_loadd(6, w, PANEL * 4);
                _tile_loadd(7, w + 64, PANEL * 4);
                _tile_loadd(4, x, stride);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                if (two) {
                    _tile_loadd(5, x + size_t(16) * m.inputs, stride);
                    _tile_dpbf16ps(2, 5, 6);
                    _tile_dpbf16ps(3, 5, 7);
                }
            }
            _tile_stored(0, &block[0][0], 128);
            _tile_stored(1, &block[0][16], 128);
            _tile_stored(2, &block[16][0], 128);
            _tile_stored(3, &block[16][16], 128);
            for (int r = 0; r < AMX_ROW_BLOCK && row + r < rows; r++)
                for (int v = 0; v < 2; v++) {
                    int output = panel * PANEL + half * 32 + v * LANES;
                    apply_epilogue(m, epilogue, output, load<F32x16>(&block[r][v * LANES]),
                           out + size_t(row + r) * out_stride + output);
                }
        }
}

// `gemm_panel` for int8 weights and activations: a tile holds one group of inputs, whose products are exact and then
// scaled by the row's group.
inline void gemm_panel_amx_int8(const Matrix& m, const Activations& in, int rows, int panel, Epilogue epilogue,
                                float* out, int out_stride) {
    alignas(64) int32_t products[2][VECTORS][16][LANES];  // of a group and of the previous one
    for (int row = 0; row < rows; row += 16) {
        const int count = std::min(rows - row, 16);
        const uint8_t* w = m.data + panel * m.panel_bytes();
        const float* scales = &in.scales[size_t(row) * in.groups];
        F32x16 acc[16][VECTORS];
        for (int r = 0; r < count; r++) {
            float offset = 0;  // weights are stored with an offset of 128
            for (int g = 0; g < in.groups; g++)
                offset -= scales[r * in.groups + g] * float(128 * in.sums[size_t(row + r) * in.groups + g]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] = splat(offset);
        }
        auto add = [&](int g) {
            for (int r = 0; r < count; r++) {
                const F32x16 scale = splat(scales[r * in.groups + g]);
                for (int v = 0; v < VECTORS; v++) acc[r][v] += to_floats(load<I32x16>(products[g % 2][v][r])) * scale;
            }
        };
        for (int g = 0; g < in.groups; g++, w += INT8_GROUP * PANEL) {
            _tile_loadd(4, &in.bytes[size_t(row) * m.inputs + g * INT8_GROUP], m.inputs);
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            prefetch_quarter(w, 0);
            _tile_loadd(5, w, PANEL * 4);
            _tile_dpbsud(0, 4, 5);
            prefetch_quarter(w, 1);
            _tile_loadd(6, w + 64, PANEL * 4);
            _tile_dpbsud(1, 4, 6);
            prefetch_quarter(w, 2);
            _tile_loadd(7, w + 128, PANEL * 4);
            _tile_dpbsud(2, 4, 7);
            prefetch_quarter(w, 3);
            _tile_loadd(5, w + 192, PANEL * 4);
            _tile_dpbsud(3, 4, 5);
            if (g > 0) add(g - 1);  // while AMX computes this group
            _tile_stored(0, products[g % 2][0], 64);
            _tile_stored(1, products[g % 2][1], 64);
            _tile_stored(2, products[g % 2][2], 64);
            _tile_stored(3, products[g % 2][3], 64);
        }
        add(in.groups - 1);
        for (int r = 0; r < count; r++)
            for (int v = 0; v < VECTORS; v++) {
                int output = panel * PANEL + v * LANES;
                apply_epilogue(m, epilogue, output, acc[r][v], out + size_t(row + r) * out_stride + output);
            }
    }
}

#else

inline bool amx_allowed() { return false; }
inline bool use_amx_bf16(const Matrix&, int) { return false; }
inline bool use_amx_int8(const Matrix&, int) { return false; }
inline void gemm_panel_amx_int8(const Matrix&, const Activations&, int, int, Epilogue, float*, int) {}
inline void gemm_panel_amx(const Matrix&, const Activations&, int, int, Epilogue, float*, int) {}
struct AmxTiles {
    explicit AmxTiles(int) {}
    ~AmxTiles() {}
};

#endif

}  // namespace resonance
