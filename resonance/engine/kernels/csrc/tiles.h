// Products for many rows on AMX, the matrix unit of newer Xeons: tiles of 16 x 32 bfloat16 or 16 x 64 bytes.
//
// A panel of packed bf16 or int8 weights is what the unit reads as its second operand. An int4 panel is turned into
// bf16 first, which costs little beside the rows that share it.

#pragma once

#include <algorithm>

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

// From how many rows on the unit is faster with bf16: turning an int4 panel into it must pay.
inline bool use_tiles(const Matrix& m, int rows) {
    return ((m.kind == BF16 && rows >= 2) || (m.kind == INT4 && rows >= 32)) && tiles_allowed();
}

// From how many rows on it is faster with bytes.
inline bool use_byte_tiles(const Matrix& m, int rows) { return m.kind == INT8 && rows >= 4 && tiles_allowed(); }

// One thread's tiles, configured while it exists, on machines that have them.
struct Tiles {
    // `rows` of activations, if that is less than a tile holds: it then takes less time.
    explicit Tiles(int rows) {
        if (!tiles_allowed()) return;
        struct alignas(64) {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = i < 5 && rows < 16 ? rows : 16;
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

// An int4 panel as bf16, (inputs / 2, 64, 2).
inline void to_bf16_panel(const Matrix& m, const uint8_t* panel, uint16_t* to) {
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

// Ask for a quarter of what comes later than the 4 KB at `w`: little by little, between the unit's work.
inline void read_ahead(const uint8_t* w, int quarter) {
    for (int i = 0; i < 16; i++) prefetch(w + (quarter * 16 + i) * 64 + AHEAD);
}

// The same for at most sixteen rows, where reading the weights takes longest: front to back, and only once.
inline void multiply_one_tile(const Matrix& m, const Input& in, int rows, int panel, const uint8_t* w, Finish how,
                              float* out, int out_stride) {
    alignas(64) float block[VECTORS][16][LANES];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int i = 0; i < m.inputs; i += 32, w += 32 * PANEL * 2) {
        _tile_loadd(4, &in.halves[i], m.inputs * 2);
        read_ahead(w, 0);
        _tile_loadd(5, w, PANEL * 4);
        _tile_dpbf16ps(0, 4, 5);
        read_ahead(w, 1);
        _tile_loadd(6, w + 64, PANEL * 4);
        _tile_dpbf16ps(1, 4, 6);
        read_ahead(w, 2);
        _tile_loadd(7, w + 128, PANEL * 4);
        _tile_dpbf16ps(2, 4, 7);
        read_ahead(w, 3);
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
            finish(m, how, output, load<Floats>(block[v][r]), out + size_t(r) * out_stride + output);
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
    if (rows <= 16) return multiply_one_tile(m, in, rows, panel, weights, how, out, out_stride);
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

// `multiply` for int8 with rows of bytes: a tile holds one group of inputs, whose products are exact, and then take
// the scale of each row's group.
inline void multiply_byte_tiles(const Matrix& m, const Input& in, int rows, int panel, Finish how, float* out,
                                int out_stride) {
    alignas(64) int32_t products[2][VECTORS][16][LANES];  // of a group, and of the one before it
    for (int row = 0; row < rows; row += 16) {
        const int count = std::min(rows - row, 16);
        const uint8_t* w = m.data + panel * m.panel_bytes();
        const float* scales = &in.scales[size_t(row) * in.groups];
        Floats acc[16][VECTORS];
        for (int r = 0; r < count; r++) {
            float offset = 0;  // weights are stored as one more by 128
            for (int g = 0; g < in.groups; g++)
                offset -= scales[r * in.groups + g] * float(128 * in.sums[size_t(row + r) * in.groups + g]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] = splat(offset);
        }
        auto add = [&](int g) {
            for (int r = 0; r < count; r++) {
                const Floats scale = splat(scales[r * in.groups + g]);
                for (int v = 0; v < VECTORS; v++) acc[r][v] += to_floats(load<Ints>(products[g % 2][v][r])) * scale;
            }
        };
        for (int g = 0; g < in.groups; g++, w += INT8_GROUP * PANEL) {
            _tile_loadd(4, &in.bytes[size_t(row) * m.inputs + g * INT8_GROUP], m.inputs);
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            read_ahead(w, 0);
            _tile_loadd(5, w, PANEL * 4);
            _tile_dpbsud(0, 4, 5);
            read_ahead(w, 1);
            _tile_loadd(6, w + 64, PANEL * 4);
            _tile_dpbsud(1, 4, 6);
            read_ahead(w, 2);
            _tile_loadd(7, w + 128, PANEL * 4);
            _tile_dpbsud(2, 4, 7);
            read_ahead(w, 3);
            _tile_loadd(5, w + 192, PANEL * 4);
            _tile_dpbsud(3, 4, 5);
            if (g > 0) add(g - 1);  // while the unit works
            _tile_stored(0, products[g % 2][0], 64);
            _tile_stored(1, products[g % 2][1], 64);
            _tile_stored(2, products[g % 2][2], 64);
            _tile_stored(3, products[g % 2][3], 64);
        }
        add(in.groups - 1);
        for (int r = 0; r < count; r++)
            for (int v = 0; v < VECTORS; v++) {
                int output = panel * PANEL + v * LANES;
                finish(m, how, output, acc[r][v], out + size_t(row + r) * out_stride + output);
            }
    }
}

#else

inline bool tiles_allowed() { return false; }
inline bool use_tiles(const Matrix&, int) { return false; }
inline bool use_byte_tiles(const Matrix&, int) { return false; }
inline void multiply_byte_tiles(const Matrix&, const Input&, int, int, Finish, float*, int) {}
inline void multiply_tiles(const Matrix&, const Input&, int, int, Finish, float*, int) {}
struct Tiles {
    explicit Tiles(int) {}
    ~Tiles() {}
};

#endif

}  // namespace resonance
