// Standard normals of chains: the same bits as workers/philox.py, which says what they are.

#include <string.h>

#include "vectors.h"

static constexpr long TILE = 128, PAIRS = TILE / 2, BLOCKS = TILE / 4;  // of one tile
static constexpr long SIDE_BY_SIDE = 4;  // vectors of blocks: no product waits for another
static constexpr int ROUNDS = 10;

// What all numbers of a call share; workers/fused/noise.py has the same structure.
struct Noise {
  uint32_t key[2], step, stream;
  int64_t chains, elements;
};

INLINE wide all_wide(uint64_t value) { return value + (wide){}; }

// Ten rounds of Philox 4x32 on the lower words of a, b, c and d. Upper words are waste, which
// products and the last shift throw away. Leaves w0 2^32 + w1 in a, and w2 2^32 + w3 in c.
INLINE void encrypt(const Noise &noise, wide *a, wide *b, wide *c, wide *d) {
  const wide m0 = all_wide(0xD2511F53), m1 = all_wide(0xCD9E8D57);
  uint32_t k0 = noise.key[0], k1 = noise.key[1];
  for (int round = 1; round <= ROUNDS; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85)
    for (int i = 0; i < SIDE_BY_SIDE; i++) {
      wide p = product_of_lower(a[i], m0), q = product_of_lower(c[i], m1);
      wide left = b[i] ^ all_wide(k0), right = d[i] ^ all_wide(k1);
      if (round < ROUNDS) {
        a[i] = q >> 32 ^ left, b[i] = q;
        c[i] = p >> 32 ^ right, d[i] = p;
      } else {
        a[i] = q ^ left << 32, c[i] = p ^ right << 32;
      }
    }
}

// Σ c[k] x^k by Horner's rule, with a rounding after each operation.
template <int TERMS> INLINE vec series(vec x, const float (&c)[TERMS]) {
  vec total = x * c[TERMS - 1];
  for (int k = TERMS - 2; k > 0; k--) total = (total + c[k]) * x;
  return total + c[0];
}

// √(-2 ln u): u = 2^e m with m in [√½, √2), and ln m is twice an inverse hyperbolic tangent.
INLINE vec radius(vec u) {
  static const float ATANH[] = {-4.0f, -1.33333337f, -0.800000012f, -0.571428597f, -0.444444448f};
  ivec exponent = (bits(u) - 0x3f3504f3u) & 0xff800000u;
  vec mantissa = (vec)(bits(u) - exponent);
  vec ratio = (mantissa - 1.0f) / (mantissa + 1.0f);
  vec two_log = series(ratio * ratio, ATANH) * ratio;
  return square_root(to_float(exponent) * -1.65259166e-07f + two_log);
}

// A fraction in (0, 1] from 31 bits.
INLINE vec unit(ivec fraction) { return (to_float(fraction) + 0.5f) * 0x1p-31f; }

// sin(π u / 2) of an angle u, without its sign.
INLINE vec sine(vec u) {
  static const float SINE[] = {1.57079637f,     -0.645964086f,   0.0796926245f, -0.00468175393f,
                              0.000160441181f, -3.59884325e-06f, 5.69217278e-08f};
  return series(u * u, SINE) * u;
}

// The two normals of each pair of words.
INLINE void box_muller(ivec first, ivec second, float *sines, float *cosines) {
  const uint32_t fraction = 0x7fffffff, sign = 0x80000000;
  vec length = radius(unit(first & fraction));
  vec angle = unit(second & fraction), complement = unit((second & fraction) ^ fraction);
  store(sines, (vec)(bits(sine(angle) * length) ^ (first & sign)));
  store(cosines, (vec)(bits(sine(complement) * length) ^ (second & sign)));
}

static void fill_tile(const Noise &noise, uint32_t chain, uint64_t tile, float *normals) {
  constexpr long HALF = LANES / 2;  // blocks in a vector
  for (long block = 0; block < BLOCKS; block += SIDE_BY_SIDE * HALF) {
    wide a[SIDE_BY_SIDE], b[SIDE_BY_SIDE], c[SIDE_BY_SIDE], d[SIDE_BY_SIDE];
    for (long i = 0; i < SIDE_BY_SIDE; i++) {
      for (long lane = 0; lane < HALF; lane++) a[i][lane] = tile * BLOCKS + block + i * HALF + lane;
      b[i] = all_wide(noise.step), c[i] = all_wide(chain), d[i] = all_wide(noise.stream);
    }
    encrypt(noise, a, b, c, d);
    for (long i = 0; i < SIDE_BY_SIDE; i++) {
      float *sines = normals + 2 * (block + i * HALF);
      box_muller((ivec)a[i], (ivec)c[i], sines, sines + PAIRS);
    }
  }
}

// Normals (chain, element), in tiles of 128, the last of which may be cut short.
extern "C" void philox_normals(const Noise *noise, const int64_t *chains, float *normals) {
  for (int64_t i = 0; i < noise->chains; i++)
    for (int64_t start = 0; start < noise->elements; start += TILE) {
      float *to = normals + i * noise->elements + start;
      if (noise->elements - start >= TILE) {
        fill_tile(*noise, (uint32_t)chains[i], start / TILE, to);
      } else {
        float last[TILE];
        fill_tile(*noise, (uint32_t)chains[i], start / TILE, last);
        memcpy(to, last, (noise->elements - start) * sizeof(float));
      }
    }
}
