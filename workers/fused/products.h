// Products of panels of 16 lanes with numbers that all lanes share, and sums in a fixed order.

#pragma once

#include "vectors.h"

#if LANES == 16
static constexpr int ROWS = 12, GROUP = 2;  // 24 of 32 registers hold sums of two panels
#else
static constexpr int ROWS = 6, GROUP = 1;  // 12 of 16, where a panel takes two registers
#endif

// What becomes of C.
enum Result { SET, ADD, TIMES };

// How the left factor A lies: by columns (depth, row), with a stride from depth to depth; or in
// panels of 16 depths (panel, row, lane), with a stride from panel to panel.
enum Order { COLUMNS, PANELLED };

// C = A B, C += A B or C *= A B, by elements, for R rows of A and some panels of B (panel, depth,
// lane); C is (panel, row, lane). From panel to panel are b_step and c_step.
template <Order ORDER, int PANELS, int R>
static void product(long depth, const float *a, long stride, const float *b, long b_step, float *c,
                    long c_step, Result result) {
  constexpr int PER_PANEL = PANEL / LANES, VECS = PANELS * PER_PANEL;
  constexpr long ROW = ORDER == COLUMNS ? 1 : PANEL;
  const long along = ORDER == COLUMNS ? stride : 1, span = ORDER == COLUMNS ? depth : PANEL;
  vec sum[R][VECS] = {};
  for (long left = depth; left > 0; left -= span, a += stride)
    for (long k = 0; k < span && k < left; k++, b += PANEL) {
      vec lanes[VECS];
      for (int v = 0; v < VECS; v++)
        lanes[v] = load(b + v / PER_PANEL * b_step + v % PER_PANEL * LANES);
      for (int r = 0; r < R; r++) {
        vec shared = all(a[k * along + r * ROW]);
        for (int v = 0; v < VECS; v++) sum[r][v] = fma(shared, lanes[v], sum[r][v]);
      }
    }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < VECS; v++) {
      float *to = c + r * PANEL + v / PER_PANEL * c_step + v % PER_PANEL * LANES;
      vec value = sum[r][v];
      store(to, result == SET ? value : result == ADD ? load(to) + value : load(to) * value);
    }
}

// The product for as many rows as there are, at most R.
template <Order ORDER, int PANELS, int R, class... Rest>
INLINE void product_of(int rows, Rest... rest) {
  if (rows == R)
    product<ORDER, PANELS, R>(rest...);
  else if constexpr (R > 1)
    product_of<ORDER, PANELS, R - 1>(rows, rest...);
}

// The product for any number of rows, in nearly equal blocks.
template <Order ORDER, int PANELS>
INLINE void product_in_blocks(long rows, long depth, const float *a, long stride, const float *b,
                              long b_step, float *c, long c_step, Result result) {
  int left = (int)rows;
  for (int blocks = (left + ROWS - 1) / ROWS; blocks > 0; blocks--) {
    int count = (left + blocks - 1) / blocks;
    product_of<ORDER, PANELS, ROWS>(count, depth, a, stride, b, b_step, c, c_step, result);
    a += count * (ORDER == COLUMNS ? 1 : PANEL), c += count * PANEL, left -= count;
  }
}

// One row of the same, without C *= A B: the sum of shared[k] times b (depth, lane) into one panel.
// It is taken in four parts, so that no addition waits for the one before.
INLINE void product_of_row(long depth, const float *shared, const float *b, float *c,
                           Result result) {
  constexpr long PARTS = 4;
  for (long v = 0; v < PANEL; v += LANES) {
    vec sum[PARTS] = {};
    long k = 0;
    for (; k + PARTS <= depth; k += PARTS)
      for (long i = 0; i < PARTS; i++)
        sum[i] = fma(all(shared[k + i]), load(b + (k + i) * PANEL + v), sum[i]);
    for (; k < depth; k++) sum[0] = fma(all(shared[k]), load(b + k * PANEL + v), sum[0]);
    vec whole = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    store(c + v, result == ADD ? load(c + v) + whole : whole);
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
