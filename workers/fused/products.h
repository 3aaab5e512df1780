// Products of panels of 16 lanes with numbers that all lanes share, and sums in a fixed order.

#pragma once

#include "vectors.h"

#if LANES == 16
static constexpr int ROWS = 12, GROUP = 2;  // 24 of 32 registers hold sums of two panels
#else
static constexpr int ROWS = 6, GROUP = 1;  // 12 of 16, where a panel takes two registers
#endif

// C = A B, or C += A B, for R rows of A and some panels of B. A is (depth, row) with a stride,
// B is (panel, depth, lane), C is (panel, row, lane), with a step from panel to panel.
template <int PANELS, int R>
static void product(long depth, const float *a, long stride, const float *b, long b_step, float *c,
                    long c_step, bool add) {
  constexpr int PER_PANEL = PANEL / LANES, VECS = PANELS * PER_PANEL;
  vec sum[R][VECS] = {};
  for (long k = 0; k < depth; k++) {
    vec lanes[VECS];
    for (int v = 0; v < VECS; v++)
      lanes[v] = load(b + k * PANEL + v / PER_PANEL * b_step + v % PER_PANEL * LANES);
    for (int r = 0; r < R; r++) {
      vec shared = all(a[k * stride + r]);
      for (int v = 0; v < VECS; v++) sum[r][v] = fma(shared, lanes[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < VECS; v++) {
      float *to = c + r * PANEL + v / PER_PANEL * c_step + v % PER_PANEL * LANES;
      store(to, add ? load(to) + sum[r][v] : sum[r][v]);
    }
}

// The product for as many rows as there are, at most R.
template <int PANELS, int R, class... Rest> INLINE void product_of(int rows, Rest... rest) {
  if (rows == R)
    product<PANELS, R>(rest...);
  else if constexpr (R > 1)
    product_of<PANELS, R - 1>(rows, rest...);
}

// The product for any number of rows, in nearly equal blocks.
template <int PANELS>
INLINE void product_in_blocks(long rows, long depth, const float *a, long stride, const float *b,
                              long b_step, float *c, long c_step, bool add) {
  int left = (int)rows;
  for (int blocks = (left + ROWS - 1) / ROWS; blocks > 0; blocks--) {
    int count = (left + blocks - 1) / blocks;
    product_of<PANELS, ROWS>(count, depth, a, stride, b, b_step, c, c_step, add);
    a += count, c += count * PANEL, left -= count;
  }
}

// One row of the same: the sum of shared[k] times b (depth, lane) into one panel. It is taken in
// four parts, so that no addition waits for the one before.
INLINE void product_of_row(long depth, const float *shared, const float *b, float *c, bool add) {
  constexpr long PARTS = 4;
  for (long v = 0; v < PANEL; v += LANES) {
    vec sum[PARTS] = {};
    long k = 0;
    for (; k + PARTS <= depth; k += PARTS)
      for (long i = 0; i < PARTS; i++)
        sum[i] = fma(all(shared[k + i]), load(b + (k + i) * PANEL + v), sum[i]);
    for (; k < depth; k++) sum[0] = fma(all(shared[k]), load(b + k * PANEL + v), sum[0]);
    vec whole = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    store(c + v, add ? load(c + v) + whole : whole);
  }
}

// The sums over lanes of four rows (row, lane).
INLINE quad sum_of_lanes(const float *rows) {
  quad part[QUAD];
  for (int i = 0; i < QUAD; i++) {
    const float *lanes = rows + i * PANEL;
    part[i] = (load_quad(lanes) + load_quad(lanes + 8)) +
              (load_quad(lanes + 4) + load_quad(lanes + 12));
  }
  transpose(part);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// Σ v², in 16 parts.
INLINE double sum_of_squares(const float *values, long count) {
  double lanes[PANEL] = {}, sum = 0;
  long i = 0;
  for (; i + PANEL <= count; i += PANEL)
    for (int lane = 0; lane < PANEL; lane++)
      lanes[lane] += (double)values[i + lane] * values[i + lane];
  for (; i < count; i++) lanes[i % PANEL] += (double)values[i] * values[i];
  for (int lane = 0; lane < PANEL; lane++) sum += lanes[lane];
  return sum;
}
