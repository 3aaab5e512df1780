// Loss and gradient of two-layer networks f(x) = Σ_i a_i φ(w_i·x + b_i), one chain after another.
//
// Points come in tiles, small enough for φ and φ' of all neurons to stay in the cache. A tile is
// passed twice: forward, for f and so for the residual r = f - y, and then backward, for
//
//     ∂L/∂a_i = Σ_μ r_μ φ_μi    and    ∂L/∂w_ik = a_i Σ_μ φ'_μi (r_μ x_μk).
//
// Neurons lie in panels of 16 lanes. Both passes are products of a panel with numbers that all
// lanes share (x, then r x); their sums run in one order, whatever the width of a register.

#include <stdlib.h>
#include <string.h>

#include "activations.h"

#if LANES == 16
enum { ROWS = 12, GROUP = 2 };  // 24 of 32 registers hold sums; a group of panels shares a load
#else
enum { ROWS = 6, GROUP = 1 };  // 12 of 16
#endif

// What the caller gives; workers/fused/two_layer.py has the same structure.
struct Problem {
  int64_t activation, chains, points, inputs, width, biased;
  float weight_scale, bias_scale, readout_scale;  // of the parameters, before they are used
  float prior, rate;  // energy = prior |z|²/2 + rate L, with L of the scaled parameters
};

// Where everything lies that is needed for one chain.
struct Workspace {
  long rows;    // of the first layer's input: the inputs, and a one for the bias
  long panels;  // of 16 neurons
  long tile;    // most points of a tile
  float *x;     // (tile, row, point)
  float *rx;    // (point, row): r x
  float *weight, *weight_sum;    // (panel, row, lane): w, and Σ φ' r x
  float *readout, *readout_sum;  // (panel, lane): a, and Σ r φ
  float *phi, *slope;            // (panel, point, lane)
  float *output;                 // (point, lane): f in parts
  float *residual;               // (point)
  float *edge;                   // (2, lane, input): the last panel, if it is not full
};

static constexpr long TILE_ELEMENTS = 1 << 16, LEAST_POINTS = 24, MOST_POINTS = 192;

// Points per tile. It depends on the width only: sums over points are taken tile by tile.
INLINE long tile_of(long panels) {
  long points = TILE_ELEMENTS / (panels * PANEL);
  return points < LEAST_POINTS ? LEAST_POINTS : points > MOST_POINTS ? MOST_POINTS : points;
}

// Takes `size` floats off the front of the memory, in whole cache lines.
INLINE float *take(float *&memory, long size) {
  float *part = memory;
  memory += (size + PANEL - 1) / PANEL * PANEL;
  return part;
}

// Lays the arrays out from `memory` on, and returns how many floats they take.
static long lay_out(const Problem &problem, float *memory, Workspace &w) {
  float *start = memory;
  w.rows = problem.inputs + problem.biased;
  w.panels = (problem.width + PANEL - 1) / PANEL;
  w.tile = tile_of(w.panels);
  w.x = take(memory, problem.points * w.rows);
  w.rx = take(memory, w.tile * w.rows);
  w.weight = take(memory, w.panels * w.rows * PANEL);
  w.weight_sum = take(memory, w.panels * w.rows * PANEL);
  w.readout = take(memory, w.panels * PANEL);
  w.readout_sum = take(memory, w.panels * PANEL);
  w.phi = take(memory, w.panels * w.tile * PANEL);
  w.slope = take(memory, w.panels * w.tile * PANEL);
  w.output = take(memory, (w.tile + QUAD) * PANEL);
  w.residual = take(memory, w.tile + QUAD);
  w.edge = take(memory, 2 * PANEL * problem.inputs);
  return memory - start;
}

// C = A B, or C += A B, for R rows of A and some panels of B. A is (depth, row) with a stride,
// B is (panel, depth, lane), C is (panel, row, lane), with a step from panel to panel.
template <int PANELS, int R>
static void product(long depth, const float *a, long stride, const float *b, long b_step, float *c,
                    long c_step, bool add) {
  enum { PER_PANEL = PANEL / LANES, VECS = PANELS * PER_PANEL };
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

// The product for as many rows as there are, at most ROWS.
template <int PANELS, int R = ROWS, class... Rest> INLINE void product_of(long rows, Rest... rest) {
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
    product_of<PANELS>(count, depth, a, stride, b, b_step, c, c_step, add);
    a += count, c += count * PANEL, left -= count;
  }
}

// φ and φ' from h, which lies where φ will, and f += a φ, for some panels.
template <class Activation, int PANELS>
static void activate(const Workspace &w, long panel, long points) {
  long step = w.tile * PANEL;
  for (long v = 0; v < PANEL; v += LANES) {
    float *phi = w.phi + panel * step + v, *slope = w.slope + panel * step + v;
    vec readout[PANELS];
    for (int p = 0; p < PANELS; p++) readout[p] = load(w.readout + (panel + p) * PANEL + v);
    for (long place = 0; place < points * PANEL; place += PANEL) {
      float *output = w.output + place + v;
      vec sum = panel ? load(output) : vec{};
      for (int p = 0; p < PANELS; p++) {
        vec value, derivative;
        Activation::apply(load(phi + p * step + place), value, derivative);
        store(phi + p * step + place, value);
        store(slope + p * step + place, derivative);
        sum = fma(readout[p], value, sum);
      }
      store(output, sum);
    }
  }
}

template <class Activation, int PANELS>
INLINE void forward(const Workspace &w, const float *x, long panel, long points) {
  product_in_blocks<PANELS>(points, w.rows, x, points, w.weight + panel * w.rows * PANEL,
                            w.rows * PANEL, w.phi + panel * w.tile * PANEL, w.tile * PANEL, false);
  activate<Activation, PANELS>(w, panel, points);
}

// Σ r φ of one panel, in four parts, so that no addition waits for the one before.
INLINE void sum_readout(const Workspace &w, long panel, long points, bool add) {
  constexpr long PARTS = 4;
  for (long v = 0; v < PANEL; v += LANES) {
    const float *phi = w.phi + panel * w.tile * PANEL + v;
    float *total = w.readout_sum + panel * PANEL + v;
    vec sum[PARTS] = {};
    long point = 0;
    for (; point + PARTS <= points; point += PARTS)
      for (int i = 0; i < PARTS; i++)
        sum[i] = fma(all(w.residual[point + i]), load(phi + (point + i) * PANEL), sum[i]);
    for (; point < points; point++)
      sum[0] = fma(all(w.residual[point]), load(phi + point * PANEL), sum[0]);
    vec whole = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    store(total, add ? load(total) + whole : whole);
  }
}

template <int PANELS> INLINE void backward(const Workspace &w, long panel, long points, bool add) {
  product_in_blocks<PANELS>(w.rows, points, w.rx, w.rows, w.slope + panel * w.tile * PANEL,
                            w.tile * PANEL, w.weight_sum + panel * w.rows * PANEL, w.rows * PANEL,
                            add);
  for (int p = 0; p < PANELS; p++) sum_readout(w, panel + p, points, add);
}

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

// f of four points, from its 16 parts each.
INLINE quad sum_of_lanes(const float *output) {
  quad part[QUAD];
  for (int i = 0; i < QUAD; i++) {
    const float *lanes = output + i * PANEL;
    part[i] = (load_quad(lanes) + load_quad(lanes + 8)) +
              (load_quad(lanes + 4) + load_quad(lanes + 12));
  }
  transpose(part);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// r = f - y and r x of a tile of points; returns Σ r².
static double residual(const Problem &problem, const Workspace &w, const float *x, const float *y,
                       long points) {
  for (long point = 0; point < points; point += QUAD)
    store_quad(w.residual + point, sum_of_lanes(w.output + point * PANEL));
  for (long point = 0; point < points; point++) {
    float r = w.residual[point] -= y[point];
    const float *__restrict from = x + point * problem.inputs;
    float *__restrict to = w.rx + point * w.rows;
    for (long k = 0; k < problem.inputs; k++) to[k] = r * from[k];
    if (problem.biased) to[problem.inputs] = r;
  }
  return sum_of_squares(w.residual, points);
}

// One tile of points: puts its part into the sums, and returns Σ r².
template <class Activation>
static double pass(const Problem &problem, const Workspace &w, const float *x, const float *y,
                   long start, long points) {
  const float *columns = w.x + start * w.rows;
  long panel = 0;
  for (; panel + GROUP <= w.panels; panel += GROUP)
    forward<Activation, GROUP>(w, columns, panel, points);
  for (; panel < w.panels; panel++) forward<Activation, 1>(w, columns, panel, points);
  double squares = residual(problem, w, x + start * problem.inputs, y + start, points);
  for (panel = 0; panel + GROUP <= w.panels; panel += GROUP) backward<GROUP>(w, panel, points, start > 0);
  for (; panel < w.panels; panel++) backward<1>(w, panel, points, start > 0);
  return squares;
}

// (lane, input) of the parameters to (input, lane) of a panel, times a scale.
static void pack(const float *from, long inputs, float scale, float *to) {
  long whole = inputs / QUAD * QUAD;
  for (int lane = 0; lane < PANEL; lane += QUAD) {
    for (long k = 0; k < whole; k += QUAD) {
      quad square[QUAD];
      for (int i = 0; i < QUAD; i++) square[i] = load_quad(from + (lane + i) * inputs + k);
      transpose(square);
      for (int i = 0; i < QUAD; i++) store_quad(to + (k + i) * PANEL + lane, square[i] * scale);
    }
    for (long k = whole; k < inputs; k++)
      for (int i = lane; i < lane + QUAD; i++) to[k * PANEL + i] = from[i * inputs + k] * scale;
  }
}

// (input, lane) of a panel of sums to (lane, input): prior z + factor sum.
static void unpack(const float *sum, const float *factor, float prior, const float *z, long inputs,
                   float *to) {
  long whole = inputs / QUAD * QUAD;
  for (int lane = 0; lane < PANEL; lane += QUAD) {
    quad scale = load_quad(factor + lane);
    for (long k = 0; k < whole; k += QUAD) {
      quad square[QUAD];
      for (int i = 0; i < QUAD; i++) square[i] = load_quad(sum + (k + i) * PANEL + lane) * scale;
      transpose(square);
      for (int i = 0; i < QUAD; i++) {
        long place = (lane + i) * inputs + k;
        store_quad(to + place, load_quad(z + place) * prior + square[i]);
      }
    }
    for (long k = whole; k < inputs; k++)
      for (int i = lane; i < lane + QUAD; i++)
        to[i * inputs + k] = z[i * inputs + k] * prior + sum[k * PANEL + i] * factor[i];
  }
}

// The parameters of a chain to panels, with zeros for the neurons that fill the last one up.
static void set_parameters(const Problem &problem, const Workspace &w, const float *z) {
  long inputs = problem.inputs, width = problem.width, cut = width % PANEL;
  const float *biases = z + width * inputs, *readout = biases + problem.biased * width;
  memset(w.readout, 0, w.panels * PANEL * sizeof(float));
  for (long i = 0; i < width; i++) w.readout[i] = readout[i] * problem.readout_scale;
  for (long panel = 0; panel < w.panels; panel++) {
    const float *from = z + panel * PANEL * inputs;
    float *to = w.weight + panel * w.rows * PANEL;
    if (cut && panel == w.panels - 1) {
      memset(w.edge, 0, PANEL * inputs * sizeof(float));
      memcpy(w.edge, from, cut * inputs * sizeof(float));
      from = w.edge;
    }
    pack(from, inputs, problem.weight_scale, to);
    if (problem.biased)
      for (long lane = 0, i = panel * PANEL; lane < PANEL; lane++, i++)
        to[inputs * PANEL + lane] = i < width ? biases[i] * problem.bias_scale : 0;
  }
}

// The gradient of a chain from the sums.
template <class Activation>
static void get_gradient(const Problem &problem, const Workspace &w, const float *z,
                         float *gradient) {
  long inputs = problem.inputs, width = problem.width, cut = width % PANEL;
  long biases = width * inputs, readout = biases + problem.biased * width;
  float weight_rate = problem.rate * problem.weight_scale * Activation::unit;
  float bias_rate = problem.rate * problem.bias_scale * Activation::unit;
  float readout_rate = problem.rate * problem.readout_scale;
  for (long panel = 0; panel < w.panels; panel++) {
    long first = panel * PANEL, count = cut && panel == w.panels - 1 ? cut : PANEL;
    const float *sum = w.weight_sum + panel * w.rows * PANEL;
    float factor[PANEL];
    for (int lane = 0; lane < PANEL; lane++) factor[lane] = weight_rate * w.readout[first + lane];
    if (count == PANEL) {
      unpack(sum, factor, problem.prior, z + first * inputs, inputs, gradient + first * inputs);
    } else {
      float *result = w.edge + PANEL * inputs;
      memcpy(w.edge, z + first * inputs, count * inputs * sizeof(float));
      unpack(sum, factor, problem.prior, w.edge, inputs, result);
      memcpy(gradient + first * inputs, result, count * inputs * sizeof(float));
    }
    for (long lane = 0, i = first; lane < count; lane++, i++) {
      if (problem.biased)
        gradient[biases + i] = z[biases + i] * problem.prior +
                               sum[inputs * PANEL + lane] * (bias_rate * w.readout[i]);
      gradient[readout + i] = z[readout + i] * problem.prior + w.readout_sum[i] * readout_rate;
    }
  }
}

template <class Activation>
static void run(const Problem &problem, const Workspace &w, const float *x, const float *y,
                const float *position, float *energy, float *gradient) {
  long size = problem.width * (problem.inputs + problem.biased + 1);
  long tiles = (problem.points + w.tile - 1) / w.tile;
  for (long chain = 0; chain < problem.chains; chain++) {
    const float *z = position + chain * size;
    double norm = problem.prior ? sum_of_squares(z, size) : 0, squares = 0;
    set_parameters(problem, w, z);
    for (long tile = 0; tile < tiles; tile++) {
      long start = tile * problem.points / tiles, stop = (tile + 1) * problem.points / tiles;
      squares += pass<Activation>(problem, w, x, y, start, stop - start);
    }
    get_gradient<Activation>(problem, w, z, gradient + chain * size);
    energy[chain] = (float)((problem.prior * norm + problem.rate * squares) / 2);
  }
}

// The inputs as (tile, row, point), the last row ones if there are biases.
static void set_inputs(const Problem &problem, const Workspace &w, const float *x) {
  long tiles = (problem.points + w.tile - 1) / w.tile;
  for (long tile = 0; tile < tiles; tile++) {
    long start = tile * problem.points / tiles, stop = (tile + 1) * problem.points / tiles;
    float *to = w.x + start * w.rows;
    for (long k = 0; k < w.rows; k++)
      for (long point = start; point < stop; point++)
        *to++ = k < problem.inputs ? x[point * problem.inputs + k] : 1.0f;
  }
}

typedef void Run(const Problem &, const Workspace &, const float *, const float *, const float *,
                 float *, float *);
static Run *const RUNS[] = {run<Erf>, run<Gelu>, run<Linear>, run<Quadratic>, run<Relu>, run<Tanh>};

// Energy (chain) and gradient (chain, parameter) at z (chain, parameter), for x (point, input)
// and y (point). Returns 1 where memory is lacking, otherwise 0.
extern "C" int two_layer(const Problem *problem, const float *x, const float *y,
                         const float *position, float *energy, float *gradient) {
  Workspace w;
  void *memory;
  long size = lay_out(*problem, nullptr, w) * (long)sizeof(float);
  if (posix_memalign(&memory, PANEL * sizeof(float), size)) return 1;
  lay_out(*problem, (float *)memory, w);
  set_inputs(*problem, w, x);
  RUNS[problem->activation](*problem, w, x, y, position, energy, gradient);
  free(memory);
  return 0;
}

template <class Activation> static void apply(const float *h, float *phi, float *slope) {
  for (int v = 0; v < PANEL; v += LANES) {
    vec value, derivative;
    Activation::apply(load(h + v), value, derivative);
    store(phi + v, value);
    store(slope + v, derivative * Activation::unit);
  }
}

typedef void Apply(const float *, float *, float *);
static Apply *const APPLIES[] = {apply<Erf>,       apply<Gelu>, apply<Linear>,
                                 apply<Quadratic>, apply<Relu>, apply<Tanh>};

// φ and φ' of h, for a whole number of panels.
extern "C" void activation(int64_t which, int64_t count, const float *h, float *phi, float *slope) {
  for (int64_t i = 0; i < count; i += PANEL) APPLIES[which](h + i, phi + i, slope + i);
}
