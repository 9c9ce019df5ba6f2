// Attention by softmax that also gives its map: scores, softmax and the weighted sum of values while a few rows are in the cache.
#pragma once
#include <omp.h>

#include "gemm.hpp"
#include "shares.hpp"

namespace ISA {

// e^x for x <= 0: 2^n e^r with |r| <= ln(2) / 2, and the first terms of e^r, whose rest is below a rounding of float. NaN stays NaN.
INLINE typename Simd<float>::V exponential(typename Simd<float>::V x) {
  typedef Simd<float> S;
  typedef typename S::V V;
  typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
  const V shift = S::splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which is left in the lowest bits
  const V shifted = x * 1.44269504f + shift, n = shifted - shift;
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  V sum = r * (1.0f / 5040) + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const V power = (V)(((Bits)shifted << 23) + 0x3f800000u);
  return x < -87.0f ? V{} : sum * power;
}

// Sizes: batch, heads, queries, keys, channels of queries and keys, channels of values; steps of image, head and row for queries, keys and
// values; steps of image, head, query and key for what is added to the scores; of image, head and row for the output; the bits of the
// scale, a double.
struct Softmax {
  typedef Simd<float> S;
  long n, heads, queries, keys, depth, width, query_step[3], key_step[3], value_step[3], bias_step[4], out_step[3];
  float scale;
  long keys_padded, width_padded, row, chunks, chunk;

  Softmax(const int64_t* s, long threads) : n(s[0]), heads(s[1]), queries(s[2]), keys(s[3]), depth(s[4]), width(s[5]) {
    for (int i = 0; i < 3; i++) query_step[i] = s[6 + i], key_step[i] = s[9 + i], value_step[i] = s[12 + i];
    for (int i = 0; i < 4; i++) bias_step[i] = s[15 + i];
    for (int i = 0; i < 3; i++) out_step[i] = s[19 + i];
    double wide;
    memcpy(&wide, s + 22, sizeof wide);
    scale = float(wide);
    keys_padded = round_up(keys, S::N);
    width_padded = round_up(width, S::N);
    row = keys_padded + S::N;  // the extra vector keeps rows out of each other's cache sets
    chunks = 1;  // of a head's queries: the keys are turned for each anew
    while (n * heads * chunks % threads && n * heads * chunks < 4 * threads && chunks < queries) chunks++;
    chunk = ceil_div(queries, chunks);
  }
  bool turns_values() const { return width_padded != width; }
};

// One thread's scratch: keys with channels first, values padded to whole vectors, some rows of the map, some rows of the output.
struct SoftmaxTile {
  float *keys, *values, *rows, *out;
  SoftmaxTile(Arena& arena, const Softmax& s)
      : keys(arena.take<float>(s.depth * s.keys_padded)), values(arena.take<float>(s.turns_values() ? s.keys * s.width_padded : 0)),
        rows(arena.take<float>(MICRO_ROWS * s.row)), out(arena.take<float>(s.turns_values() ? MICRO_ROWS * s.width_padded : 0)) {}
};

// Up to N rows of scores, padded, to weights that sum to 1, there and in the map; to zeros for a query that sees no key.
inline void weigh(const Softmax& s, long count, float* scores, const float* bias, float* map) {
  typedef Simd<float> S;
  typedef typename S::V V;
  const long N = S::N;
  const V none = S::splat(-__builtin_inff());
  V most[S::N] = {}, sums[S::N] = {};
  for (long r = 0; r < count; r++) {
    float* row = scores + r * s.row;
    const float* added = bias ? bias + r * s.bias_step[2] : nullptr;
    most[r] = none;
    for (long k = 0; k < s.keys_padded; k += N) {
      V score = S::load(row + k) * s.scale;
      if (added) score += s.bias_step[3] ? S::load_some(added + k, s.keys - k, 0.0f) : S::splat(*added);
      if (s.keys - k < N) score = among<float>(s.keys - k) ? score : none;
      S::store(row + k, score);
      most[r] = Most<float>::of(score, most[r]);
    }
  }
  V tops = most_lanes<float>(most);
  tops = tops == none ? V{} : tops;  // none seen, or none a number: what is NaN stays so
  for (long r = 0; r < count; r++) {
    float* row = scores + r * s.row;
    for (long k = 0; k < s.keys_padded; k += N) {
      const V weight = exponential(S::load(row + k) - tops[r]);
      S::store(row + k, weight);
      sums[r] += weight;
    }
  }
  V shares = sum_lanes<float>(sums);
  shares = shares == 0 ? V{} : 1 / shares;
  for (long r = 0; r < count; r++) {
    float* row = scores + r * s.row;
    for (long k = 0; k < s.keys_padded; k += N) {
      const V weight = S::load(row + k) * shares[r];
      S::store(row + k, weight);
      S::store_some(map + r * s.keys + k, weight, s.keys - k);
    }
  }
}

// Tensors: queries, keys, values, what is added to the scores or null; the map (batch, heads, queries, keys) and the output. float alone: nobody captures maps in double.
inline int64_t softmax_forward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  typedef Simd<float> S;
  const Softmax s(shape, threads);
  Arena arena(scratch);
  Shares sharing(arena, threads);
  Arena one(nullptr);
  SoftmaxTile(one, s);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const float *query = (const float*)tensors[0], *key = (const float*)tensors[1], *value = (const float*)tensors[2], *bias = (const float*)tensors[3];
  float *map = (float*)tensors[4], *out = (float*)tensors[5];
  sharing.start(0, s.n * s.heads * s.chunks);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const long me = omp_get_thread_num();
    Arena mine(own + me * one.used);
    SoftmaxTile t(mine, s);
    sharing.run(0, me, [&](long i) {
      const long from = i % s.chunks * s.chunk, until = least(s.queries, from + s.chunk), head = i / s.chunks % s.heads, image = i / s.chunks / s.heads;
      const float* keys = key + image * s.key_step[0] + head * s.key_step[1];
      const float* values = value + image * s.value_step[0] + head * s.value_step[1];
      long value_row = s.value_step[2];
      transpose_into<float>(keys, s.key_step[2], s.keys, s.depth, t.keys, s.keys_padded, keys + (s.keys - 1) * s.key_step[2] + s.depth);
      if (s.turns_values()) {
        for (long k = 0; k < s.keys; k++) {
          memcpy(t.values + k * s.width_padded, values + k * value_row, s.width * sizeof(float));
          memset(t.values + k * s.width_padded + s.width, 0, (s.width_padded - s.width) * sizeof(float));
        }
        values = t.values;
        value_row = s.width_padded;
      }
      for (long q = from; q < until; q += MICRO_ROWS) {
        const long count = least(MICRO_ROWS, until - q);
        const float* rows = query + image * s.query_step[0] + head * s.query_step[1] + q * s.query_step[2];
        multiply<float, false>(count, s.keys_padded, s.depth, rows, s.query_step[2], 1, t.keys, s.keys_padded, t.rows, s.row, false);
        const float* added = bias ? bias + image * s.bias_step[0] + head * s.bias_step[1] + q * s.bias_step[2] : nullptr;
        float* weights = map + ((image * s.heads + head) * s.queries + q) * s.keys;
        for (long r = 0; r < count; r += S::N)
          weigh(s, least(S::N, count - r), t.rows + r * s.row, added ? added + r * s.bias_step[2] : nullptr, weights + r * s.keys);
        float* to = out + image * s.out_step[0] + head * s.out_step[1] + q * s.out_step[2];
        if (!s.turns_values()) {
          multiply<float, false>(count, s.width, s.keys, t.rows, s.row, 1, values, value_row, to, s.out_step[2], false);
          continue;
        }
        multiply<float, false>(count, s.width_padded, s.keys, t.rows, s.row, 1, values, value_row, t.out, s.width_padded, false);
        for (long r = 0; r < count; r++) memcpy(to + r * s.out_step[2], t.out + r * s.width_padded, s.width * sizeof(float));
      }
    });
  }
  return 0;
}

}  // namespace ISA
