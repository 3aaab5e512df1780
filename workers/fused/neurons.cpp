// A sweep over the neurons of f(x) = Σ_i a_i φ(h_i), h = X v, each drawn anew given the others.
//
// workers/samplers/neurons.py says what is drawn, and workers/samplers/neuron_moves.py draws the
// same in torch. Pre-activations of weights and of directions come for some neurons at a time from
// one product; then a neuron moves among its own, and its points lie in panels of 16 lanes.

#include <stdlib.h>
#include <string.h>

#include "activations.h"
#include "panels.h"

// What the caller gives; workers/fused/neurons.py has the same structure.
struct Settings {
  int64_t activation, points, inputs, width, targets, biased, kicks;
  int64_t group, angles;  // neurons of which one takes a slice; angles that are tried there
  double temperature;
  float weight_scale, bias_scale, readout_scale;
  float end_cosine, end_sine, cosine, sine, push;  // turns before, after and between kicks; a kick
};

static constexpr long BLOCK = 24, OCT = 8;  // neurons at a time, and sums

// Arrays over points are panels, and of several targets one after another.
struct Space {
  long fed, panels, size;                   // weights of a neuron; of points, and their lanes
  long normals, choices, readouts;          // of a neuron, of a group; where readouts begin in z
  float *x;                                 // (panel, weight, lane): X
  float *packed;                            // (panel of weights, neuron, lane)
  float *fields, *kicks;                    // (panel, neuron, lane): h of v and of p
  float *others, *after;                    // (target, point): y - f, and the next as it grows
  float *field, *kick, *phi, *slope, *old;  // (point), of one neuron
  float *v, *p, *back;                      // (weight)
  float *sums, *old_sums;                   // |φ|², and φ·R of each target
};

static long lay_out(const Settings &s, float *memory, Space &w) {
  long taken = 0;
  w.fed = s.inputs + s.biased, w.panels = panels_of(s.points), w.size = w.panels * PANEL;
  w.readouts = s.width * w.fed;
  w.normals = w.fed + 2 + s.targets, w.choices = 1 + s.angles;
  w.x = take(memory, taken, w.size * w.fed + OCT * PANEL);
  w.packed = take(memory, taken, panels_of(w.fed) * BLOCK * PANEL);
  w.fields = take(memory, taken, w.size * BLOCK), w.kicks = take(memory, taken, w.size * BLOCK);
  w.others = take(memory, taken, w.size * s.targets);
  w.after = take(memory, taken, w.size * s.targets);
  w.field = take(memory, taken, w.size), w.kick = take(memory, taken, w.size);
  w.phi = take(memory, taken, w.size), w.slope = take(memory, taken, w.size);
  w.old = take(memory, taken, w.size);
  w.v = take(memory, taken, w.fed), w.p = take(memory, taken, w.fed);
  w.back = take(memory, taken, w.fed + OCT);
  w.sums = take(memory, taken, s.targets + QUAD);
  w.old_sums = take(memory, taken, s.targets + QUAD);
  return taken;
}

// X, the last weight the bias; lanes without a point are zero, and so is φ there.
static void set_inputs(const Settings &s, const Space &w, const float *x) {
  memset(w.x + w.size * w.fed, 0, OCT * PANEL * sizeof(float));
  float *to = w.x;
  for (long panel = 0; panel < w.panels; panel++)
    for (long k = 0; k < w.fed; k++)
      for (long lane = 0, p = panel * PANEL; lane < PANEL; lane++, p++, to++) {
        bool bias = k == s.inputs, none = p >= s.points;
        *to = none ? 0 : bias ? s.bias_scale : x[p * s.inputs + k] * s.weight_scale;
      }
}

// Rows (target, point) into panels and back.
static void fill(const Settings &s, const Space &w, const float *from, float *to) {
  for (long k = 0; k < s.targets; k++) {
    memcpy(to + k * w.size, from + k * s.points, s.points * sizeof(float));
    memset(to + k * w.size + s.points, 0, (w.size - s.points) * sizeof(float));
  }
}
static void empty(const Settings &s, const Space &w, const float *from, float *to) {
  for (long k = 0; k < s.targets; k++)
    memcpy(to + k * s.points, from + k * w.size, s.points * sizeof(float));
}

// The weights of a neuron, its bias the last one.
INLINE void get_weights(const Settings &s, const float *z, long i, float *to) {
  memcpy(to, z + i * s.inputs, s.inputs * sizeof(float));
  if (s.biased) to[s.inputs] = z[s.width * s.inputs + i];
}
INLINE void set_weights(const Settings &s, const float *from, long i, float *z) {
  memcpy(z + i * s.inputs, from, s.inputs * sizeof(float));
  if (s.biased) z[s.width * s.inputs + i] = from[s.inputs];
}

// A row of weights to where the product finds it.
INLINE void pack(const Space &w, const float *row, long count, long neuron) {
  for (long first = 0; first < w.fed; first += PANEL) {
    long left = w.fed - first;
    memcpy(w.packed + (first * count + neuron * PANEL), row + first,
           (left < PANEL ? left : (long)PANEL) * sizeof(float));
  }
}

// (panel, neuron, lane) of X times what is packed.
static void product_of_rows(const Space &w, long count, float *to) {
  long size = w.fed * PANEL, step = count * PANEL;
  over_panels(w.panels, [&](auto group, long panel) {
    product_in_blocks<PANELLED, group.count>(count, w.fed, w.packed, step, w.x + panel * size, size,
                                             to + panel * step, step, SET);
  });
}

// Logarithm of a number that is normal and positive, to 1e-10: ln m is 2 artanh((m - 1)/(m + 1)).
static double logarithm(double x) {
  uint64_t word;
  memcpy(&word, &x, sizeof word);
  int64_t exponent = (int64_t)(word - 0x3fe6a09e667f3bcd) >> 52;  // m lies in [√½, √2)
  word -= (uint64_t)exponent << 52;
  memcpy(&x, &word, sizeof x);
  double ratio = (x - 1) / (x + 1), square = ratio * ratio, fourth = square * square;
  double low = 2 + square * (2.0 / 3) + fourth * (2.0 / 5 + square * (2.0 / 7));
  double high = 2.0 / 9 + square * (2.0 / 11);
  return (double)exponent * 0.6931471805599453 + (low + fourth * fourth * high) * ratio;
}

// sin(π u/2) of 0 ≤ u ≤ 1, by its series.
static double sine_of(double u) {
  static const double SINE[] = {
      1.5707963267948966,      -0.6459640975062463,    0.07969262624616704,
      -0.004681754135318688,   0.00016044118478735982, -3.598843235212085e-06,
      5.692172921967926e-08,   -6.688035109811467e-10, 6.066935731106195e-12};
  double square = u * u, sum = 0;
  for (int k = 8; k >= 0; k--) sum = sum * square + SINE[k];
  return sum * u;
}

// Cosine and sine of an angle in quarters of a circle, between -4 and 4.
static void direction_of(double quarters, float &cosine, float &sine) {
  if (quarters < 0) quarters += 4;
  int whole = (int)quarters;
  double part = quarters - whole, a = sine_of(1 - part), b = sine_of(part);
  double cosines[] = {a, -b, -a, b}, sines[] = {b, a, -b, -a};
  cosine = (float)cosines[whole & 3], sine = (float)sines[whole & 3];
}

// Uniform numbers of at most 16 normals.
static void uniform(const float *normals, long count, float *to) {
  float lanes[PANEL] = {};
  memcpy(lanes, normals, count * sizeof(float));
  for (long v = 0; v < PANEL; v += LANES) {
    vec value, density;
    Erf::pair(load(lanes + v) * 0.707106781f, value, density);
    store(to + v, fma(value, all(0.5f), all(0.5f)));
  }
}

// to = a left + b right of two fields, where `step` leads from panel to panel.
INLINE void blend(const Space &w, const float *left, const float *right, long step, float a,
                  float b, float *to) {
  for (long panel = 0; panel < w.panels; panel++)
    for (long v = 0; v < PANEL; v += LANES)
      store(to + panel * PANEL + v,
            fma(all(a), load(left + panel * step + v), load(right + panel * step + v) * b));
}
// The same for both: left, right = a left + b right, a right - b left.
INLINE void turn(float *left, float *right, long count, float a, float b) {
  for (long i = 0; i < count; i++) {
    float before = left[i];
    left[i] = a * before + b * right[i], right[i] = a * right[i] - b * before;
  }
}

// φ, and φ' where it is wanted.
template <class Activation, bool SLOPED>
INLINE void activate(const Space &w, const float *field, long step, float *phi) {
  for (long panel = 0; panel < w.panels; panel++)
    for (long v = 0; v < PANEL; v += LANES) {
      vec value, derivative;
      Activation::apply(load(field + panel * step + v), value, derivative);
      store(phi + panel * PANEL + v, value);
      if (SLOPED) store(w.slope + panel * PANEL + v, derivative);
    }
}

// to += factor φ, of each target.
INLINE void add(const Space &w, const float *phi, float factor, float *to) {
  for (long i = 0; i < w.size; i += LANES)
    store(to + i, fma(all(factor), load(phi + i), load(to + i)));
}

// φ times up to four rows, to sums in four parts of a fixed order.
template <int ROWS>
INLINE void products_of(const Space &w, const float *phi, const float *const *rows, float *sums) {
  float lanes[QUAD * PANEL] = {};
  for (long v = 0; v < PANEL; v += LANES) {
    vec sum[ROWS] = {};
    for (long i = v; i < w.size; i += PANEL) {
      vec value = load(phi + i);
      for (int r = 0; r < ROWS; r++) sum[r] = fma(value, load(rows[r] + i), sum[r]);
    }
    for (int r = 0; r < ROWS; r++) store(lanes + r * PANEL + v, sum[r]);
  }
  store_quad(sums, sum_of_lanes(lanes));
}

// |φ|² and φ·R of each target.
INLINE void products(const Settings &s, const Space &w, const float *phi, float *sums) {
  const float *first[] = {phi, w.others};
  if (s.targets == 1) return products_of<2>(w, phi, first, sums);
  for (long row = 0; row <= s.targets; row += QUAD) {
    const float *rows[QUAD];
    for (long r = 0; r < QUAD; r++)  // those too many are thrown away
      rows[r] = row + r && row + r <= s.targets ? w.others + (row + r - 1) * w.size : phi;
    products_of<QUAD>(w, phi, rows, sums + row);
  }
}

// c, and Σ m² (1 + c).
struct Evidence {
  double stiffness, fit;
};
INLINE Evidence evidence(const Settings &s, const float *sums) {
  double rate = s.readout_scale / s.temperature, square = 0;
  double stiffness = sums[0] * (s.readout_scale * (double)s.readout_scale / s.temperature);
  for (long k = 1; k <= s.targets; k++) square += (sums[k] * rate) * (sums[k] * rate);
  return {stiffness, square / (1 + stiffness)};
}

// ln L there less ln L here.
INLINE double gain(const Settings &s, const Evidence &here, const Evidence &there) {
  double ratio = (1 + there.stiffness) / (1 + here.stiffness);
  if (!(ratio > 0) || !(ratio < 1e300)) return -__builtin_inf();  // of what is not a number: refuse
  return (there.fit - here.fit) / 2 - s.targets * logarithm(ratio) / 2;
}

// p and its pre-activations kicked by ∇ln L at the neuron's field; returns the change of |p|²/2.
template <class Activation> static double kick(const Settings &s, const Space &w) {
  activate<Activation, true>(w, w.field, PANEL, w.phi);
  products(s, w, w.phi, w.sums);
  Evidence here = evidence(s, w.sums);
  double rate = s.readout_scale / s.temperature, square = s.readout_scale * rate;
  double shrink = (here.fit + s.targets) / (1 + here.stiffness) * square;
  for (long i = 0; i < w.size; i += LANES) {
    vec pull = load(w.phi + i) * -(float)shrink;
    for (long k = 0; k < s.targets; k++) {
      float mean = (float)(w.sums[k + 1] * rate / (1 + here.stiffness) * rate);
      pull = fma(all(mean), load(w.others + k * w.size + i), pull);
    }
    store(w.slope + i, load(w.slope + i) * pull * Activation::unit);
  }
  for (long k = 0; k < w.fed; k += OCT) {
    float lanes[OCT * PANEL];
    for (long v = 0; v < PANEL; v += LANES) {
      vec sum[OCT] = {};
      const float *x = w.x + k * PANEL + v;
      for (long panel = 0; panel < w.panels; panel++, x += w.fed * PANEL) {
        vec slope = load(w.slope + panel * PANEL + v);
        for (long r = 0; r < OCT; r++) sum[r] = fma(slope, load(x + r * PANEL), sum[r]);
      }
      for (long r = 0; r < OCT; r++) store(lanes + r * PANEL + v, sum[r]);
    }
    for (long r = 0; r < OCT; r += QUAD)  // the weights too many are never read
      store_quad(w.back + k + r, sum_of_lanes(lanes + r * PANEL) * s.push);
  }
  double change = 0;
  for (long k = 0; k < w.fed; k++) {
    change += w.back[k] * (w.p[k] + w.back[k] / 2.0);
    w.p[k] += w.back[k];
  }
  for (long panel = 0; panel < w.panels; panel++)
    product_of_row(w.fed, w.back, w.x + panel * w.fed * PANEL, w.kick + panel * PANEL, ADD);
  return change;
}

// A turn of the neuron in w.v: its end lies in w.v, w.phi and w.sums if it is accepted.
template <class Activation>
static bool turned(const Settings &s, const Space &w, const float *field, const float *kicked,
                   long step, double height, const Evidence &here) {
  double lost = 0;
  blend(w, field, kicked, step, s.end_cosine, s.end_sine, w.field);
  if (s.kicks) blend(w, kicked, field, step, s.end_cosine, -s.end_sine, w.kick);
  turn(w.v, w.p, w.fed, s.end_cosine, s.end_sine);
  for (long k = 1; k <= s.kicks; k++) {
    lost += kick<Activation>(s, w);
    float cosine = k < s.kicks ? s.cosine : s.end_cosine, sine = k < s.kicks ? s.sine : s.end_sine;
    turn(w.v, w.p, w.fed, cosine, sine), turn(w.field, w.kick, w.size, cosine, sine);
  }
  activate<Activation, false>(w, w.field, PANEL, w.phi);
  products(s, w, w.phi, w.sums);
  return height < gain(s, here, evidence(s, w.sums)) - lost;
}

// A point of the slice, likewise; false where none is found. `fractions` are uniform numbers.
template <class Activation>
static bool on_slice(const Settings &s, const Space &w, const float *field, const float *kicked,
                     long step, const float *fractions, double height, const Evidence &here) {
  float cosine, sine;
  double angle = 4.0 * fractions[0], low = angle - 4, high = angle;
  for (long tried = 0; tried < s.angles; tried++) {
    if (tried) angle = low + (high - low) * fractions[tried];
    direction_of(angle, cosine, sine);
    blend(w, field, kicked, step, cosine, sine, w.field);
    activate<Activation, false>(w, w.field, PANEL, w.phi);
    products(s, w, w.phi, w.sums);
    if (height < gain(s, here, evidence(s, w.sums))) {
      turn(w.v, w.p, w.fed, cosine, sine);
      return true;
    }
    (angle < 0 ? low : high) = angle;
  }
  return false;
}

// One neuron: `field` and `kicked` are h of its weights and of its direction. It takes a slice
// where there are fractions. Returns whether a turn was accepted.
template <class Activation>
static bool visit(const Settings &s, const Space &w, long i, const float *field,
                  const float *kicked, long step, const float *normals, const float *fractions,
                  float *z) {
  const float *heights = normals + w.fed, *drawn = heights + 2;
  float *readout = z + w.readouts + i;
  activate<Activation, false>(w, field, step, w.old);
  for (long k = 0; k < s.targets; k++)
    add(w, w.old, s.readout_scale * readout[k * s.width], w.others + k * w.size);
  products(s, w, w.old, w.old_sums);
  Evidence here = evidence(s, w.old_sums);
  double height = -((double)heights[0] * heights[0] + (double)heights[1] * heights[1]) / 2;
  get_weights(s, z, i, w.v);
  memcpy(w.p, normals, w.fed * sizeof(float));
  bool moved;
  if (fractions)
    moved = on_slice<Activation>(s, w, field, kicked, step, fractions, height, here);
  else
    moved = turned<Activation>(s, w, field, kicked, step, height, here);
  const float *phi = moved ? w.phi : w.old, *sums = moved ? w.sums : w.old_sums;
  if (moved) set_weights(s, w.v, i, z);
  double spread = 1 + evidence(s, sums).stiffness, rate = s.readout_scale / s.temperature;
  for (long k = 0; k < s.targets; k++) {
    float value = (float)(sums[k + 1] * rate / spread + drawn[k] / __builtin_sqrt(spread));
    readout[k * s.width] = value;
    add(w, phi, -s.readout_scale * value, w.others + k * w.size);
    add(w, phi, -s.readout_scale * value, w.after + k * w.size);
  }
  return moved && !fractions;
}

// All neurons of a chain; returns how many turns were accepted.
template <class Activation>
static int64_t sweep(const Settings &s, const Space &w, const float *normals, float *z) {
  const float *choices = normals + s.width * w.normals;
  float chosen[PANEL];  // which neuron of a group takes a slice, and the fractions of its angle
  int64_t accepted = 0;
  long sliced = -1;
  for (long first = 0; first < s.width; first += BLOCK) {
    long count = s.width - first < BLOCK ? s.width - first : BLOCK, step = count * PANEL;
    for (long b = 0; b < count; b++) {
      get_weights(s, z, first + b, w.v);
      pack(w, w.v, count, b);
    }
    product_of_rows(w, count, w.fields);
    for (long b = 0; b < count; b++) pack(w, normals + (first + b) * w.normals, count, b);
    product_of_rows(w, count, w.kicks);
    for (long b = 0, i = first; b < count; b++, i++) {
      if (i % s.group == 0) {
        long left = s.width - i < s.group ? s.width - i : s.group;
        uniform(choices + i / s.group * w.choices, w.choices, chosen);
        sliced = i + (long)(chosen[0] * left);
        if (sliced >= i + left) sliced = i + left - 1;
      }
      accepted += visit<Activation>(s, w, i, w.fields + b * PANEL, w.kicks + b * PANEL, step,
                                    normals + i * w.normals, i == sliced ? chosen + 1 : nullptr, z);
    }
  }
  return accepted;
}

// In the order of KERNELS in workers/fused/network.py.
typedef int64_t Sweep(const Settings &, const Space &, const float *, float *);
static Sweep *const SWEEPS[] = {sweep<Erf>,       sweep<Gelu>, sweep<Linear>,
                                sweep<Quadratic>, sweep<Relu>, sweep<Tanh>};

// Sweeps z (chain, parameter) in its place, given its residual y - f (chain, target, point), and
// leaves the one after it. x is (point, input), y (target, point), normals are (chain, normal);
// accepted (chain) is counted on. Returns 1 where memory is lacking.
extern "C" int neurons(const Settings *s, int64_t chains, const float *x, const float *y,
                       const float *normals, float *z, float *residual, int64_t *accepted) {
  Space w;
  void *memory;
  if (posix_memalign(&memory, PANEL * sizeof(float), lay_out(*s, nullptr, w) * sizeof(float)))
    return 1;
  lay_out(*s, (float *)memory, w);
  set_inputs(*s, w, x);
  for (int64_t chain = 0; chain < chains; chain++) {
    fill(*s, w, residual, w.others), fill(*s, w, y, w.after);
    accepted[chain] += SWEEPS[s->activation](*s, w, normals, z);
    empty(*s, w, w.after, residual);
    z += w.readouts + s->targets * s->width, residual += s->targets * s->points;
    normals += s->width * w.normals + (s->width + s->group - 1) / s->group * w.choices;
  }
  free(memory);
  return 0;
}
