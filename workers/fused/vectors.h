// Vectors of floats in the width of the processor, and what the compilers call differently.
//
// A sum is always taken over 16 lanes, in one order, whatever the width of a register: with one
// rounding for each operation (no contraction, an explicit fma) the bits of a result are the same
// on every processor and from every compiler.

#pragma once

#include <stdint.h>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LANES 8
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
#include <arm_neon.h>
#define LANES 4
#else
#error "a processor with fused multiply-add (AVX2, AVX-512 or NEON) is wanted"
#endif

#define INLINE static inline __attribute__((always_inline))

static constexpr long PANEL = 16, QUAD = 4;

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint64_t wide __attribute__((vector_size(4 * LANES)));  // half as many lanes
typedef float quad __attribute__((vector_size(4 * QUAD)));

// These may alias other types and lie at any address that suits a float.
typedef float loose_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float loose_quad __attribute__((vector_size(4 * QUAD), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const loose_vec *)from; }
INLINE void store(float *to, vec value) { *(loose_vec *)to = value; }
INLINE quad load_quad(const float *from) { return *(const loose_quad *)from; }
INLINE void store_quad(float *to, quad value) { *(loose_quad *)to = value; }
INLINE vec all(float value) { return value - (vec){}; }
INLINE ivec bits(vec value) { return (ivec)value; }
INLINE vec magnitude(vec value) { return (vec)(bits(value) & 0x7fffffffu); }
INLINE vec with_sign(vec value, vec sign) {
  return (vec)(bits(value) | (bits(sign) & 0x80000000u));
}

// a b + c with one rounding.
INLINE vec fma(vec a, vec b, vec c) {
#if LANES == 16
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif LANES == 8
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
}
INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

INLINE vec square_root(vec value) {
#if LANES == 16
  return (vec)_mm512_sqrt_ps((__m512)value);
#elif LANES == 8
  return (vec)_mm256_sqrt_ps((__m256)value);
#else
  return (vec)vsqrtq_f32((float32x4_t)value);
#endif
}

// The float nearest to each integer, which has a sign.
INLINE vec to_float(ivec value) {
  typedef int32_t signed_vec __attribute__((vector_size(4 * LANES)));
  return __builtin_convertvector((signed_vec)value, vec);
}

// The 64-bit product of the lower halves of each lane.
INLINE wide product_of_lower(wide a, wide b) {
#if LANES == 16
  return (wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif LANES == 8
  return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (wide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#endif
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t iquad __attribute__((vector_size(4 * QUAD)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (iquad){__VA_ARGS__})
#endif

// Rows become columns, in a square of 4 by 4.
INLINE void transpose(quad square[QUAD]) {
  quad low01 = SHUFFLE(square[0], square[1], 0, 4, 1, 5);
  quad high01 = SHUFFLE(square[0], square[1], 2, 6, 3, 7);
  quad low23 = SHUFFLE(square[2], square[3], 0, 4, 1, 5);
  quad high23 = SHUFFLE(square[2], square[3], 2, 6, 3, 7);
  square[0] = SHUFFLE(low01, low23, 0, 1, 4, 5);
  square[1] = SHUFFLE(low01, low23, 2, 3, 6, 7);
  square[2] = SHUFFLE(high01, high23, 0, 1, 4, 5);
  square[3] = SHUFFLE(high01, high23, 2, 3, 6, 7);
}
