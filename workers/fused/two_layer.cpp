// Energy and gradient of two-layer networks f(x) = Σ_i a_i φ(w_i·x + b_i), chain after chain.
//
// Points come in tiles, small enough for φ and φ' of all neurons to stay in the cache. A tile is
// passed twice: forward, for f and so for the residual r = f - y, and then backward, for
//
//     ∂L/∂a_i = Σ_μ r_μ φ_μi    and    ∂L/∂w_ik = a_i Σ_μ φ'_μi (r_μ x_μk).
//
// Neurons lie in panels of 16 lanes; zeros fill the last one up.

#include <stdlib.h>
#include <string.h>

#include "activations.h"
#include "products.h"

// What the caller gives; workers/fused/two_layer.py has the same structure.
struct Problem {
  int64_t activation, points, inputs, width, biased;
  float weight_scale, bias_scale, readout_scale;  // of the parameters, before they are used
  float prior, rate;  // the energy is prior |z|²/2 + rate L, with L of the scaled parameters
};

// Where everything lies that one chain needs.
struct Workspace {
  long rows;    // of the first layer's input: the inputs, and a one for the bias
  long panels;  // of 16 neurons
  long tile;    // most points of a tile
  long tiles;
  float *x;   // (tile, row, point)
  float *rx;  // (point, row): r x
  float *weight, *weight_sum;    // (panel, row, lane): w, and Σ φ' r x
  float *readout, *readout_sum;  // (panel, lane): a, and Σ r φ
  float *phi, *slope;            // (panel, point, lane)
  float *output;                 // (point, lane): f in parts
  float *residual;               // (point)
  float *edge;                   // (2, lane, input): the last panel, if it is not full
};

struct Span {
  long start, count;
};

static constexpr long TILE_ELEMENTS = 1 << 16, LEAST_POINTS = 24, MOST_POINTS = 192;

// Points per tile. It depends on the width only: sums over points are taken tile by tile.
INLINE long tile_of(long panels) {
  long points = TILE_ELEMENTS / (panels * PANEL);
  return points < LEAST_POINTS ? LEAST_POINTS : points > MOST_POINTS ? MOST_POINTS : points;
}

// The points of a tile; tiles are nearly equal.
INLINE Span points_of(const Problem &problem, const Workspace &w, long tile) {
  long start = tile * problem.points / w.tiles, stop = (tile + 1) * problem.points / w.tiles;
  return {start, stop - start};
}

// The next `size` floats of the memory, in whole cache lines; nothing while they are counted.
INLINE float *take(float *memory, long &taken, long size) {
  float *part = memory ? memory + taken : nullptr;
  taken += (size + PANEL - 1) / PANEL * PANEL;
  return part;
}

// Lays the arrays out from `memory` on, and returns how many floats they take.
static long lay_out(const Problem &problem, float *memory, Workspace &w) {
  long taken = 0;
  w.rows = problem.inputs + problem.biased;
  w.panels = (problem.width + PANEL - 1) / PANEL;
  w.tile = tile_of(w.panels);
  w.tiles = problem.points > w.tile ? (problem.points + w.tile - 1) / w.tile : 1;
  w.x = take(memory, taken, problem.points * w.rows);
  w.rx = take(memory, taken, w.tile * w.rows);
  w.weight = take(memory, taken, w.panels * w.rows * PANEL);
  w.weight_sum = take(memory, taken, w.panels * w.rows * PANEL);
  w.readout = take(memory, taken, w.panels * PANEL);
  w.readout_sum = take(memory, taken, w.panels * PANEL);
  w.phi = take(memory, taken, w.panels * w.tile * PANEL);
  w.slope = take(memory, taken, w.panels * w.tile * PANEL);
  w.output = take(memory, taken, (w.tile + QUAD) * PANEL);  // summed four points at a time
  w.residual = take(memory, taken, w.tile + QUAD);
  w.edge = take(memory, taken, 2 * PANEL * problem.inputs);
  return taken;
}

// The inputs by tiles, the last row ones if there are biases.
static void set_inputs(const Problem &problem, const Workspace &w, const float *x) {
  float *to = w.x;
  for (long tile = 0; tile < w.tiles; tile++) {
    Span points = points_of(problem, w, tile);
    for (long k = 0; k < w.rows; k++)
      for (long p = points.start; p < points.start + points.count; p++)
        *to++ = k < problem.inputs ? x[p * problem.inputs + k] : 1.0f;
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

// h = w x, and all that follows from it but r.
template <class Activation, int PANELS>
INLINE void forward(const Workspace &w, const float *x, long panel, long points) {
  product_in_blocks<PANELS>(points, w.rows, x, points, w.weight + panel * w.rows * PANEL,
                            w.rows * PANEL, w.phi + panel * w.tile * PANEL, w.tile * PANEL, false);
  activate<Activation, PANELS>(w, panel, points);
}

// r = f - y and r x of a tile of points; returns Σ r².
static double residual(const Problem &problem, const Workspace &w, const float *x, const float *y,
                       long points) {
  for (long p = 0; p < points; p += QUAD)
    store_quad(w.residual + p, sum_of_lanes(w.output + p * PANEL));
  for (long p = 0; p < points; p++) {
    float r = w.residual[p] -= y[p];
    const float *__restrict from = x + p * problem.inputs;
    float *__restrict to = w.rx + p * w.rows;
    for (long k = 0; k < problem.inputs; k++) to[k] = r * from[k];
    if (problem.biased) to[problem.inputs] = r;
  }
  return sum_of_squares(w.residual, points);
}

// The sums of the gradient, over a tile of points.
template <int PANELS> INLINE void backward(const Workspace &w, long panel, long points, bool add) {
  long step = w.tile * PANEL, size = w.rows * PANEL;
  product_in_blocks<PANELS>(w.rows, points, w.rx, w.rows, w.slope + panel * step, step,
                            w.weight_sum + panel * size, size, add);
  for (long p = panel; p < panel + PANELS; p++)
    product_of_row(points, w.residual, w.phi + p * step, w.readout_sum + p * PANEL, add);
}

// One tile of points: puts its part into the sums, and returns Σ r².
template <class Activation>
static double pass(const Problem &problem, const Workspace &w, const float *x, const float *y,
                   Span points) {
  long panel = 0, paired = w.panels / GROUP * GROUP;
  const float *columns = w.x + points.start * w.rows;
  for (; panel < paired; panel += GROUP)
    forward<Activation, GROUP>(w, columns, panel, points.count);
  for (; panel < w.panels; panel++) forward<Activation, 1>(w, columns, panel, points.count);
  double squares =
      residual(problem, w, x + points.start * problem.inputs, y + points.start, points.count);
  bool add = points.start > 0;
  for (panel = 0; panel < paired; panel += GROUP) backward<GROUP>(w, panel, points.count, add);
  for (; panel < w.panels; panel++) backward<1>(w, panel, points.count, add);
  return squares;
}

// (lane, input) of the parameters to (input, lane) of a panel, times a scale.
static void pack(const float *from, long inputs, float scale, float *to) {
  long whole = inputs / QUAD * QUAD;
  for (long lane = 0; lane < PANEL; lane += QUAD) {
    for (long k = 0; k < whole; k += QUAD) {
      quad square[QUAD];
      for (long i = 0; i < QUAD; i++) square[i] = load_quad(from + (lane + i) * inputs + k);
      transpose(square);
      for (long i = 0; i < QUAD; i++) store_quad(to + (k + i) * PANEL + lane, square[i] * scale);
    }
    for (long k = whole; k < inputs; k++)
      for (long i = lane; i < lane + QUAD; i++) to[k * PANEL + i] = from[i * inputs + k] * scale;
  }
}

// prior z + factor sum, from (input, lane) of a panel of sums to (lane, input).
static void unpack(const float *sum, const float *factor, float prior, const float *z, long inputs,
                   float *to) {
  long whole = inputs / QUAD * QUAD;
  for (long lane = 0; lane < PANEL; lane += QUAD) {
    quad scale = load_quad(factor + lane);
    for (long k = 0; k < whole; k += QUAD) {
      quad square[QUAD];
      for (long i = 0; i < QUAD; i++) square[i] = load_quad(sum + (k + i) * PANEL + lane) * scale;
      transpose(square);
      for (long i = 0; i < QUAD; i++) {
        long place = (lane + i) * inputs + k;
        store_quad(to + place, load_quad(z + place) * prior + square[i]);
      }
    }
    for (long k = whole; k < inputs; k++)
      for (long i = lane; i < lane + QUAD; i++)
        to[i * inputs + k] = z[i * inputs + k] * prior + sum[k * PANEL + i] * factor[i];
  }
}

// How many neurons a panel has.
INLINE long count_of(const Problem &problem, long panel) {
  long left = problem.width - panel * PANEL;
  return left < PANEL ? left : (long)PANEL;
}

// The neurons of a panel, (lane, input). If they do not fill it they are copied to the edge, where
// there are zeros below them.
INLINE const float *filled(const Problem &problem, const Workspace &w, const float *z, long panel) {
  const float *from = z + panel * PANEL * problem.inputs;
  long count = count_of(problem, panel);
  if (count == PANEL) return from;
  memcpy(w.edge, from, count * problem.inputs * sizeof(float));
  return w.edge;
}

// The parameters of a chain to panels.
static void set_parameters(const Problem &problem, const Workspace &w, const float *z) {
  const float *biases = z + problem.width * problem.inputs;
  const float *readout = biases + problem.biased * problem.width;
  for (long panel = 0; panel < w.panels; panel++) {
    float *to = w.weight + panel * w.rows * PANEL, *bias = to + problem.inputs * PANEL;
    pack(filled(problem, w, z, panel), problem.inputs, problem.weight_scale, to);
    for (long lane = 0, i = panel * PANEL; lane < PANEL; lane++, i++) {
      bool neuron = i < problem.width;
      if (problem.biased) bias[lane] = neuron ? biases[i] * problem.bias_scale : 0;
      w.readout[i] = neuron ? readout[i] * problem.readout_scale : 0;
    }
  }
}

// The gradient of a chain from the sums.
static void get_gradient(const Problem &problem, const Workspace &w, float unit, const float *z,
                         float *gradient) {
  long inputs = problem.inputs, biases = problem.width * inputs;
  long readout = biases + problem.biased * problem.width;
  float weight_rate = problem.rate * problem.weight_scale * unit;
  float bias_rate = problem.rate * problem.bias_scale * unit;
  float readout_rate = problem.rate * problem.readout_scale;
  for (long panel = 0; panel < w.panels; panel++) {
    long first = panel * PANEL, count = count_of(problem, panel);
    const float *sum = w.weight_sum + panel * w.rows * PANEL;
    float factor[PANEL], *to = gradient + first * inputs;
    for (long lane = 0; lane < PANEL; lane++) factor[lane] = weight_rate * w.readout[first + lane];
    float *result = count == PANEL ? to : w.edge + PANEL * inputs;
    unpack(sum, factor, problem.prior, filled(problem, w, z, panel), inputs, result);
    if (result != to) memcpy(to, result, count * inputs * sizeof(float));
    for (long lane = 0, i = first; lane < count; lane++, i++) {
      if (problem.biased)
        gradient[biases + i] = z[biases + i] * problem.prior +
                               sum[inputs * PANEL + lane] * (bias_rate * w.readout[i]);
      gradient[readout + i] = z[readout + i] * problem.prior + w.readout_sum[i] * readout_rate;
    }
  }
}

template <class Activation>
static void run(const Problem &problem, const Workspace &w, long chains, const float *x,
                const float *y, const float *position, float *energy, float *gradient) {
  long size = problem.width * (problem.inputs + problem.biased + 1);
  for (long chain = 0; chain < chains; chain++) {
    const float *z = position + chain * size;
    double norm = problem.prior ? sum_of_squares(z, size) : 0, squares = 0;
    set_parameters(problem, w, z);
    for (long tile = 0; tile < w.tiles; tile++)
      squares += pass<Activation>(problem, w, x, y, points_of(problem, w, tile));
    get_gradient(problem, w, Activation::unit, z, gradient + chain * size);
    energy[chain] = (float)((problem.prior * norm + problem.rate * squares) / 2);
  }
}

// In the order of ACTIVATIONS in workers/fused/two_layer.py.
typedef void Run(const Problem &, const Workspace &, long, const float *, const float *,
                 const float *, float *, float *);
static Run *const RUNS[] = {run<Erf>, run<Gelu>, run<Linear>, run<Quadratic>, run<Relu>, run<Tanh>};

// Energy (chain) and gradient (chain, parameter) at z (chain, parameter), for x (point, input)
// and y (point). Returns 1 where memory is lacking, otherwise 0.
extern "C" int two_layer(const Problem *problem, int64_t chains, const float *x, const float *y,
                         const float *position, float *energy, float *gradient) {
  Workspace w;
  void *memory;
  long size = lay_out(*problem, nullptr, w) * (long)sizeof(float);
  if (posix_memalign(&memory, PANEL * sizeof(float), size)) return 1;
  lay_out(*problem, (float *)memory, w);
  set_inputs(*problem, w, x);
  memset(w.edge, 0, PANEL * problem->inputs * sizeof(float));
  RUNS[problem->activation](*problem, w, chains, x, y, position, energy, gradient);
  free(memory);
  return 0;
}
