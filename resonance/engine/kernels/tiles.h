// Products for many rows on AMX, the matrix unit of newer Xeons: bfloat16 tiles of 16 x 32.
//
// A panel of packed bf16 weights is what the unit reads as its second operand. int8 and int4 panels are turned into
// one first, which costs little beside the rows that share it; int8's values and their products' scales stay exact.

#pragma once

#include "linear.h"

#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define RESONANCE_TILES 1
#endif

namespace resonance {

constexpr int TILE_ROWS = 32;  // rows computed at once: two tiles of sixteen

#if RESONANCE_TILES

// Whether the operating system lets this process use the tiles; asked once.
inline bool tiles_allowed() {
    static const bool allowed = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
    return allowed;
}

// From how many rows on the unit is faster: turning a panel into bf16 must pay.
inline bool use_tiles(const Matrix& m, int rows) {
    return m.kind != FP32 && rows >= (m.kind == BF16 ? 8 : 32) && tiles_allowed();
}

// One thread's tiles, configured while it exists, on machines that have them.
struct Tiles {
    Tiles() {
        if (!tiles_allowed()) return;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
        _tile_loadconfig(&config);
    }
    ~Tiles() {
        if (tiles_allowed()) _tile_release();
    }
};

// Two vectors of floats that are bfloat16 already, interleaved as pairs.
inline Words pairs(Floats even, Floats odd) { return (bits(even) >> 16) | (bits(odd) & 0xffff0000u); }

inline Floats rounded(Floats x) {
    Words b = bits(x);
    return (Floats)(b + 0x7fff + ((b >> 16) & 1));
}

// A panel as bf16, (inputs / 2, 64, 2).
inline void to_bf16_panel(const Matrix& m, const uint8_t* panel, uint16_t* to) {
    if (m.kind == INT8) {
        for (int i = 0; i < m.inputs / 4; i++)
            for (int v = 0; v < VECTORS; v++, panel += 64) {
                Words w = load<Words>(panel);
                Floats x[4];
                for (int j = 0; j < 4; j++) x[j] = to_floats((Ints)((w >> (8 * j)) & 0xff) - 128);
                store(to + ((2 * i) * VECTORS + v) * 32, pairs(x[0], x[1]));
                store(to + ((2 * i + 1) * VECTORS + v) * 32, pairs(x[2], x[3]));
            }
        return;
    }
    for (int g = 0; g < m.inputs / INT4_GROUP; g++) {
        Floats scale[VECTORS];
        for (int v = 0; v < VECTORS; v++) scale[v] = widen((const uint16_t*)panel + v * LANES);
        panel += PANEL * 2;
        for (int i = g * INT4_GROUP / 8; i < (g + 1) * INT4_GROUP / 8; i++)
            for (int v = 0; v < VECTORS; v++, panel += 64) {
                Words w = load<Words>(panel);
                for (int j = 0; j < 4; j++) {  // inputs 2j and 2j + 1 of these eight
                    int shift = j < 2 ? 16 * j : 16 * (j - 2) + 4;
                    Floats even = to_floats((Ints)((w >> shift) & 15) - 8) * scale[v];
                    Floats odd = to_floats((Ints)((w >> (shift + 8)) & 15) - 8) * scale[v];
                    store(to + ((4 * i + j) * VECTORS + v) * 32, pairs(rounded(even), rounded(odd)));
                }
            }
    }
}

// `multiply` for inputs prepared as bf16, whose rows are padded to a multiple of TILE_ROWS. A thread that calls it
// has a `Tiles`.
inline void multiply_tiles(const Matrix& m, const Input& in, int rows, int panel, Finish how, float* out,
                           int out_stride) {
    static thread_local std::vector<uint16_t> converted;
    alignas(64) float block[TILE_ROWS][32];
    const int stride = m.inputs * 2;
    const uint8_t* weights = m.data + panel * m.panel_bytes();
    if (m.kind != BF16) {
        converted.resize(size_t(m.inputs) * PANEL);
        to_bf16_panel(m, weights, converted.data());
        weights = (const uint8_t*)converted.data();
    }
    for (int row = 0; row < rows; row += TILE_ROWS)
        for (int half = 0; half < 2; half++) {  // 32 of the panel's outputs
            const uint8_t* w = weights + half * 128;
            const uint16_t* x = &in.halves[size_t(row) * m.inputs];
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
            for (int r = 0; r < TILE_ROWS && row + r < rows; r++)
                for (int v = 0; v < 2; v++) {
                    int output = panel * PANEL + half * 32 + v * LANES;
                    finish(m, how, output, load<Floats>(&block[r][v * LANES]),
                           out + size_t(row + r) * out_stride + output);
                }
        }
}

#else

inline bool use_tiles(const Matrix&, int) { return false; }
inline void multiply_tiles(const Matrix&, const Input&, int, int, Finish, float*, int) {}
struct Tiles {
    ~Tiles() {}
};

#endif

}  // namespace resonance
