// A network of hidden layers, and where everything lies that one chain needs.
//
// Neurons lie in panels of 16 lanes; zeros fill the last one up.

#pragma once

#include "panels.h"

// What the caller gives; workers/fused/network.py has the same structure.
struct Problem {
  int64_t activation, points, depth, biased;
  const int64_t *widths;  // the inputs, then the neurons of each hidden layer
  const float *scales;    // of the parameters before they are used: w_1, b_1, ..., the readout
  float prior, rate;      // the energy is prior |z|²/2 + rate L, with L of the scaled parameters
};

// A hidden layer.
struct Level {
  long inputs, rows;   // what it is fed, and the same with a one for the bias
  long width, panels;  // its neurons, and the panels that hold them
  long weights, biases;  // where they begin in z
  float weight_scale, bias_scale;
  float *weight, *weight_sum;  // (panel, row, lane): w, and Σ δ times r times what it is fed
  float *back;                 // (panel of inputs, neuron, lane): what takes δ to the layer below
  float *phi;                  // (panel, point, lane), with a one for the bias of the layer above
  float *slope;                // (panel, point, lane): φ', and then δ
  float *factor;               // (panel, lane): left out of δ, as `unit` is
};

struct Workspace {
  Level *levels;
  long readouts, size;  // where the readout begins in z, and where z ends
  long tile;            // most points of a tile
  long tiles;
  long step;  // from panel to panel of a tile
  float readout_scale;
  float *x;            // (tile, row, point)
  float *fed;          // (point, row): r times what a layer is fed
  float *readout_sum;  // (panel, lane): Σ r φ
  float *output;       // (point, lane): f in parts
  float *residual;     // (point)
  float *edge;         // (2, lane, input): the last panel, if it is not full
};

struct Span {
  long start, count;
};

static constexpr long TILE_ELEMENTS = 1 << 16, MOST_POINTS = 192;

// Points per tile, for so many panels of neurons in all layers. It depends on the widths only: sums
// over points are taken tile by tile. The weights between hidden layers may not fit the cache, and
// must be worth loading.
INLINE long tile_of(long depth, long panels) {
  long points = TILE_ELEMENTS / (panels * PANEL), least = depth == 1 ? 24 : 96;
  return points < least ? least : points > MOST_POINTS ? MOST_POINTS : points;
}

// The points of a tile; tiles are nearly equal.
INLINE Span points_of(const Problem &problem, const Workspace &w, long tile) {
  long start = tile * problem.points / w.tiles, stop = (tile + 1) * problem.points / w.tiles;
  return {start, stop - start};
}

// Shapes, places and scales of the layers, and the tiles.
static void measure(const Problem &problem, Workspace &w) {
  long place = 0, panels = 0;
  const float *scale = problem.scales;
  for (long l = 0; l < problem.depth; l++) {
    Level &level = w.levels[l];
    level.inputs = problem.widths[l], level.width = problem.widths[l + 1];
    level.rows = level.inputs + problem.biased, level.panels = panels_of(level.width);
    level.weights = place, level.biases = place + level.width * level.inputs;
    place = level.biases + problem.biased * level.width;
    level.weight_scale = *scale++, level.bias_scale = problem.biased ? *scale++ : 0;
    panels += level.panels;
  }
  w.readouts = place, w.size = place + problem.widths[problem.depth], w.readout_scale = *scale;
  w.tile = tile_of(problem.depth, panels);
  w.tiles = problem.points > w.tile ? (problem.points + w.tile - 1) / w.tile : 1;
  w.step = w.tile * PANEL;
}

// Lays the arrays out from `memory` on, and returns how many floats they take.
static long lay_out(const Problem &problem, float *memory, Workspace &w) {
  long taken = 0, widest = 0;
  for (long l = 0; l < problem.depth; l++) {
    Level &level = w.levels[l];
    level.weight = take(memory, taken, level.panels * level.rows * PANEL);
    level.weight_sum = take(memory, taken, level.panels * level.rows * PANEL);
    level.back = take(memory, taken, l ? w.levels[l - 1].panels * level.width * PANEL : 0);
    level.phi = take(memory, taken, panels_of(level.width + problem.biased) * w.step);
    level.slope = take(memory, taken, level.panels * w.step);
    level.factor = take(memory, taken, level.panels * PANEL);
    if (level.rows > widest) widest = level.rows;
  }
  long panels = w.levels[problem.depth - 1].panels;
  w.x = take(memory, taken, problem.points * w.levels[0].rows);
  w.fed = take(memory, taken, w.tile * widest + PANEL);
  w.readout_sum = take(memory, taken, panels * PANEL);
  w.output = take(memory, taken, (w.tile + QUAD) * PANEL);  // summed four points at a time
  w.residual = take(memory, taken, w.tile + QUAD);
  w.edge = take(memory, taken, 2 * PANEL * widest);
  return taken;
}

// The inputs by tiles, the last row ones if there are biases.
static void set_inputs(const Problem &problem, const Workspace &w, const float *x) {
  const Level &first = w.levels[0];
  float *to = w.x;
  for (long tile = 0; tile < w.tiles; tile++) {
    Span points = points_of(problem, w, tile);
    for (long k = 0; k < first.rows; k++)
      for (long p = points.start; p < points.start + points.count; p++)
        *to++ = k < first.inputs ? x[p * first.inputs + k] : 1.0f;
  }
}
