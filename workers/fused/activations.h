// Activations φ and their slopes φ', for a vector of pre-activations h.
//
// The polynomials are minimax: weighted least squares with the weights of Lawson's algorithm, the
// coefficients then rounded to float32 one after another, each time refitting those that are left.
// A slope is divided by the constant `unit` of its activation, which is put back where it costs
// nothing. A NaN goes through all of them.

#pragma once

#include "vectors.h"

// The sum of c[k] x^k.
template <int TERMS> INLINE vec horner(vec x, const float (&c)[TERMS]) {
  vec sum = all(c[TERMS - 1]);
  for (int k = TERMS - 2; k >= 0; k--) sum = fma(sum, x, all(c[k]));
  return sum;
}

// 2^x for -126 < x < 126, with x = u v given as a product. Relative error of the polynomial
// on [-1/2, 1/2]: 9.3e-8. The remainder f = u v - n is rounded once.
INLINE vec exp2_of_product(vec u, vec v) {
  static const float TAYLOR[] = {1.0f,           0.693147004f,  0.240222469f,
                                 0.0555071086f,  0.00967129413f, 0.0013269569f};
  const vec shift = all(12582912.0f);  // 1.5 2^23: adding it rounds to an integer
  vec shifted = fma(u, v, shift);
  vec fraction = fma(u, v, shift - shifted);
  return (vec)(bits(horner(fraction, TAYLOR)) + (bits(shifted) << 23));
}

// The lesser of the two, or NaN.
INLINE vec lesser(float bound, vec value) { return bound < value ? all(bound) : value; }

struct Erf {
  // erf(z), and exp(-z²), which it needs beyond |z| = 1:
  //   |z| < 1: z A(z²), relative error of A 5.4e-8;
  //   |z| > 1: 1 - exp(-z²) Q(|z|), with Q = erfcx on [1, 4], error 7.9e-8 of erf.
  // Beyond 8 both keep their values at 8, where exp(-z²) = 1.6e-28.
  INLINE void pair(vec z, vec &value, vec &density) {
    static const float A[] = {1.12837911f,    -0.376122475f,  0.112795763f,
                              -0.0266950801f, 0.00489963405f, -0.000556178973f};
    static const float Q[] = {0.975663722f, -0.999592781f,  0.697586179f,  -0.330545276f,
                              0.100853428f, -0.0177413765f, 0.00135950197f};
    vec size = lesser(8.0f, magnitude(z));
    vec square = size * size;
    density = exp2_of_product(square, all(-1.44269504f));
    vec small = z * horner(square, A);
    vec large = with_sign(fma(-density, horner(size, Q), all(1.0f)), z);
    value = size > 1.0f ? large : small;
  }
  static constexpr float unit = 1.12837917f;  // 2/√π
  INLINE void apply(vec h, vec &phi, vec &slope) { pair(h, phi, slope); }
};

struct Gelu {
  // z (1 + erf(z/√2)) / 2, and its slope (1 + erf(z/√2)) / 2 + z exp(-z²/2) / √(2π).
  static constexpr float unit = 1.0f;
  INLINE void apply(vec h, vec &phi, vec &slope) {
    vec erf, density;
    Erf::pair(h * 0.707106781f, erf, density);
    vec gate = fma(erf, all(0.5f), all(0.5f));
    phi = h * gate;
    slope = fma(h * 0.398942280f, density, gate);
  }
};

struct Tanh {
  // With e = exp(-2|z|) and u = 1/(1 + e): tanh is (1 - e) u, its slope 4 e u². Below 0.6 it is
  // z A(z²), with an error of 2.8e-9 of itself; beyond 32 it keeps its values at 32.
  static constexpr float unit = 4.0f;
  INLINE void apply(vec h, vec &phi, vec &slope) {
    static const float A[] = {1.0f,           -0.333332986f, 0.133319363f,
                              -0.0537847169f, 0.0207986254f, -0.00589796668f};
    vec size = lesser(32.0f, magnitude(h));
    vec decay = exp2_of_product(size, all(-2.88539008f));
    vec inverse = 1.0f / (1.0f + decay);
    vec small = h * horner(size * size, A);
    vec large = with_sign((1.0f - decay) * inverse, h);
    phi = size > 0.6f ? large : small;
    slope = decay * inverse * inverse;
  }
};

struct Relu {
  static constexpr float unit = 1.0f;
  INLINE void apply(vec h, vec &phi, vec &slope) {
    phi = h < 0.0f ? all(0.0f) : h;
    slope = h > 0.0f ? all(1.0f) : all(0.0f);
  }
};

struct Linear {
  static constexpr float unit = 1.0f;
  INLINE void apply(vec h, vec &phi, vec &slope) {
    phi = h;
    slope = all(1.0f);
  }
};

struct Quadratic {
  static constexpr float unit = 2.0f;
  INLINE void apply(vec h, vec &phi, vec &slope) {
    phi = h * h;
    slope = h;
  }
};
