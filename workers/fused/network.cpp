// Energy and gradient of f(x) = Σ_i a_i φ(h_i), h = w φ(... φ(w x + b) ...) + b, chain after chain.
//
// Points come in tiles, small enough for φ and φ' of all neurons to stay in the cache. A tile is
// passed twice: forward, for f and so for the residual r = f - y, and then backward. With
// δ = ∂f/∂h, which is a φ' in the last layer and φ' (δ w) of the layer above in the others,
//
//     ∂L/∂a_i = Σ_μ r_μ φ_μi    and    ∂L/∂w_ik = Σ_μ δ_μi (r_μ s_μk),
//
// where s is what the layer is fed: x, or φ of the layer below.

#include <stdlib.h>

#include "activations.h"
#include "parameters.h"

// φ and φ' from h, which lies where φ will, and f += a φ in the last layer, for some panels.
template <class Activation, int PANELS, bool LAST>
static void activate(const Workspace &w, const Level &level, long panel, long points) {
  for (long v = 0; v < PANEL; v += LANES) {
    float *phi = level.phi + panel * w.step + v, *slope = level.slope + panel * w.step + v;
    vec readout[PANELS];
    for (int p = 0; p < PANELS; p++) readout[p] = load(level.factor + (panel + p) * PANEL + v);
    for (long place = 0; place < points * PANEL; place += PANEL) {
      float *output = w.output + place + v;
      vec sum = LAST && panel ? load(output) : vec{};
      for (int p = 0; p < PANELS; p++) {
        vec value, derivative;
        Activation::apply(load(phi + p * w.step + place), value, derivative);
        store(phi + p * w.step + place, value);
        store(slope + p * w.step + place, derivative);
        if (LAST) sum = fma(readout[p], value, sum);
      }
      if (LAST) store(output, sum);
    }
  }
}

// h of a layer, and all that follows from it but r. `x` are the inputs by columns.
template <class Activation>
static void forward(const Problem &problem, const Workspace &w, long l, const float *x,
                    long points) {
  const Level &level = w.levels[l];
  bool last = l + 1 == problem.depth;
  long size = level.rows * PANEL;
  over_panels(level.panels, [&](auto group, long panel) {
    constexpr int PANELS = group.count;
    const float *weight = level.weight + panel * size;
    float *h = level.phi + panel * w.step;
    if (l)
      product_in_blocks<PANELLED, PANELS>(points, level.rows, w.levels[l - 1].phi, w.step, weight,
                                          size, h, w.step, SET);
    else
      product_in_blocks<COLUMNS, PANELS>(points, level.rows, x, points, weight, size, h, w.step,
                                         SET);
    if (last)
      activate<Activation, PANELS, true>(w, level, panel, points);
    else
      activate<Activation, PANELS, false>(w, level, panel, points);
  });
  if (last || !problem.biased) return;
  float *one = level.phi + level.width / PANEL * w.step + level.width % PANEL;
  for (long p = 0; p < points; p++) one[p * PANEL] = 1;
}

// r = f - y; returns Σ r².
static double residual(const Workspace &w, const float *y, long points) {
  for (long p = 0; p < points; p += QUAD)
    store_quad(w.residual + p, sum_of_lanes(w.output + p * PANEL));
  for (long p = 0; p < points; p++) w.residual[p] -= y[p];
  return sum_of_squares(w.residual, points);
}

// r times what the first layer is fed: the inputs, and a one for the bias.
static void feed_inputs(const Problem &problem, const Workspace &w, const float *x, long points) {
  const Level &level = w.levels[0];
  for (long p = 0; p < points; p++) {
    float r = w.residual[p];
    const float *__restrict from = x + p * level.inputs;
    float *__restrict to = w.fed + p * level.rows;
    for (long k = 0; k < level.inputs; k++) to[k] = r * from[k];
    if (problem.biased) to[level.inputs] = r;
  }
}

// The same for a layer that is fed φ. What the last panel writes too much, the next point
// overwrites.
static void feed_phi(const Workspace &w, long l, long points) {
  const Level &level = w.levels[l];
  for (long p = 0; p < points; p++) {
    const float *from = w.levels[l - 1].phi + p * PANEL;
    float *to = w.fed + p * level.rows;
    for (long k = 0; k < level.rows; k += PANEL, from += w.step)
      for (long v = 0; v < PANEL; v += LANES) store(to + k + v, load(from + v) * w.residual[p]);
  }
}

// The sums of a layer's gradient over a tile of points, from δ and what was fed.
static void add_up(const Workspace &w, const Level &level, long points, Result result) {
  long size = level.rows * PANEL;
  over_panels(level.panels, [&](auto group, long panel) {
    product_in_blocks<COLUMNS, group.count>(level.rows, points, w.fed, level.rows,
                                            level.slope + panel * w.step, w.step,
                                            level.weight_sum + panel * size, size, result);
  });
}

// δ of the layer below, where its φ' is.
static void descend(const Workspace &w, const Level &level, const Level &below, long points) {
  long size = level.width * PANEL;
  over_panels(below.panels, [&](auto group, long panel) {
    product_in_blocks<PANELLED, group.count>(points, level.width, level.slope, w.step,
                                             level.back + panel * size, size,
                                             below.slope + panel * w.step, w.step, TIMES);
  });
}

// One tile of points: puts its part into the sums, and returns Σ r².
template <class Activation>
static double pass(const Problem &problem, const Workspace &w, const float *x, const float *y,
                   Span span) {
  long points = span.count, top = problem.depth - 1;
  Result result = span.start ? ADD : SET;
  const Level &first = w.levels[0], &last = w.levels[top];
  for (long l = 0; l <= top; l++)
    forward<Activation>(problem, w, l, w.x + span.start * first.rows, points);
  double squares = residual(w, y + span.start, points);
  for (long p = 0; p < last.panels; p++)
    product_of_row(points, w.residual, last.phi + p * w.step, w.readout_sum + p * PANEL, result);
  for (long l = top; l > 0; l--) {
    feed_phi(w, l, points);
    add_up(w, w.levels[l], points, result);
    descend(w, w.levels[l], w.levels[l - 1], points);
  }
  feed_inputs(problem, w, x + span.start * first.inputs, points);
  add_up(w, first, points, result);
  return squares;
}

template <class Activation>
static void run(const Problem &problem, const Workspace &w, long chains, const float *x,
                const float *y, const float *position, float *energy, float *gradient) {
  for (long chain = 0; chain < chains; chain++) {
    const float *z = position + chain * w.size;
    double norm = problem.prior ? sum_of_squares(z, w.size) : 0, squares = 0;
    set_parameters(problem, w, Activation::unit, z);
    for (long tile = 0; tile < w.tiles; tile++)
      squares += pass<Activation>(problem, w, x, y, points_of(problem, w, tile));
    get_gradient(problem, w, Activation::unit, z, gradient + chain * w.size);
    energy[chain] = (float)((problem.prior * norm + problem.rate * squares) / 2);
  }
}

// In the order of KERNELS in workers/fused/network.py.
typedef void Run(const Problem &, const Workspace &, long, const float *, const float *,
                 const float *, float *, float *);
static Run *const RUNS[] = {run<Erf>, run<Gelu>, run<Linear>, run<Quadratic>, run<Relu>, run<Tanh>};

// Energy (chain) and gradient (chain, parameter) at z (chain, parameter), for x (point, input)
// and y (point). Returns 1 where memory is lacking, otherwise 0.
extern "C" int network(const Problem *problem, int64_t chains, const float *x, const float *y,
                       const float *position, float *energy, float *gradient) {
  Workspace w;
  void *memory;
  w.levels = (Level *)malloc(problem->depth * sizeof(Level));
  if (!w.levels) return 1;
  measure(*problem, w);
  int lacking =
      posix_memalign(&memory, PANEL * sizeof(float), lay_out(*problem, nullptr, w) * sizeof(float));
  if (!lacking) {
    lay_out(*problem, (float *)memory, w);
    set_inputs(*problem, w, x);
    RUNS[problem->activation](*problem, w, chains, x, y, position, energy, gradient);
    free(memory);
  }
  free(w.levels);
  return lacking != 0;
}
