// From the parameters of a chain to panels of neurons, and from sums in panels to the gradient.

#pragma once

#include <string.h>

#include "workspace.h"

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
INLINE long count_of(const Level &level, long panel) {
  long left = level.width - panel * PANEL;
  return left < PANEL ? left : (long)PANEL;
}

// The neurons of a panel, (lane, input). If they do not fill it they are copied to the edge, and
// zeros set below them.
INLINE const float *filled(const Workspace &w, const Level &level, const float *z, long panel) {
  const float *from = z + level.weights + panel * PANEL * level.inputs;
  long count = count_of(level, panel) * level.inputs;
  if (count == PANEL * level.inputs) return from;
  memcpy(w.edge, from, count * sizeof(float));
  memset(w.edge + count, 0, (PANEL * level.inputs - count) * sizeof(float));
  return w.edge;
}

// The weights and biases of a layer to panels.
static void set_level(const Problem &problem, const Workspace &w, const Level &level,
                      const float *z) {
  for (long panel = 0; panel < level.panels; panel++) {
    float *to = level.weight + panel * level.rows * PANEL, *bias = to + level.inputs * PANEL;
    pack(filled(w, level, z, panel), level.inputs, level.weight_scale, to);
    if (!problem.biased) continue;
    for (long lane = 0, i = panel * PANEL; lane < PANEL; lane++, i++)
      bias[lane] = i < level.width ? z[level.biases + i] * level.bias_scale : 0;
  }
}

// What takes δ of a layer to the layer below: its weights, times what is left out of δ.
static void set_back(const Level &level, float unit, const float *z) {
  for (long panel = 0; panel < level.panels; panel++)
    for (long first = 0; first < level.inputs; first += PANEL) {
      long i = panel * PANEL, stop = i + count_of(level, panel), left = level.inputs - first;
      float *to = level.back + first * level.width + i * PANEL;
      for (; i < stop; i++, to += PANEL) {
        const float *from = z + level.weights + i * level.inputs + first;
        float scale = level.weight_scale * (unit * level.factor[i]);
        for (long lane = 0; lane < PANEL; lane++) to[lane] = lane < left ? from[lane] * scale : 0;
      }
    }
}

// All parameters of a chain to where they are used. The readout is a factor in δ of the last layer.
static void set_parameters(const Problem &problem, const Workspace &w, float unit, const float *z) {
  for (long l = 0; l < problem.depth; l++) {
    Level &level = w.levels[l];
    bool last = l + 1 == problem.depth;
    for (long i = 0; i < level.panels * PANEL; i++)
      level.factor[i] = !last ? 1 : i < level.width ? z[w.readouts + i] * w.readout_scale : 0;
    set_level(problem, w, level, z);
    if (l) set_back(level, unit, z);
  }
}

// The gradient of a layer from its sums, times what was left out of δ.
static void get_level(const Problem &problem, const Workspace &w, const Level &level, float unit,
                      const float *z, float *gradient) {
  float weight_rate = problem.rate * level.weight_scale * unit;
  float bias_rate = problem.rate * level.bias_scale * unit;
  for (long panel = 0; panel < level.panels; panel++) {
    long first = panel * PANEL, count = count_of(level, panel), inputs = level.inputs;
    const float *sum = level.weight_sum + panel * level.rows * PANEL;
    float factor[PANEL], *to = gradient + level.weights + first * inputs;
    for (long lane = 0; lane < PANEL; lane++)
      factor[lane] = weight_rate * level.factor[first + lane];
    float *result = count == PANEL ? to : w.edge + PANEL * inputs;
    unpack(sum, factor, problem.prior, filled(w, level, z, panel), inputs, result);
    if (result != to) memcpy(to, result, count * inputs * sizeof(float));
    if (!problem.biased) continue;
    for (long lane = 0, i = level.biases + first; lane < count; lane++, i++)
      gradient[i] = z[i] * problem.prior +
                    sum[inputs * PANEL + lane] * (bias_rate * level.factor[first + lane]);
  }
}

// The gradient of a chain from the sums.
static void get_gradient(const Problem &problem, const Workspace &w, float unit, const float *z,
                         float *gradient) {
  for (long l = 0; l < problem.depth; l++) get_level(problem, w, w.levels[l], unit, z, gradient);
  float rate = problem.rate * w.readout_scale;
  for (long i = w.readouts; i < w.size; i++)
    gradient[i] = z[i] * problem.prior + w.readout_sum[i - w.readouts] * rate;
}
