// Multi-scale deformable attention: each query and head reads a few points of every level and mixes them.
#pragma once
#include <omp.h>

#include "rows.hpp"

namespace ISA {

// Sizes: batch, value rows of all levels, heads, channels per head, queries, levels, points per level, then (height, width, first row) of each level.
template <class T> struct Attention {
  typedef typename Lane<T>::Int I;
  static constexpr long QUERIES = 16;  // planned together
  long n, rows, heads, depth, queries, levels, points, taps, width, block;
  const int64_t* level;
  bool packed;  // each head's rows are copied next to each other, unless few of them are read

  explicit Attention(const int64_t* s) : n(s[0]), rows(s[1]), heads(s[2]), depth(s[3]), queries(s[4]), levels(s[5]), points(s[6]), level(s + 7) {
    taps = levels * points;
    width = round_up(depth, Simd<T>::N);
    block = (rows + 1) * width;
    packed = depth % Simd<T>::N != 0 || queries * taps > rows;
  }
};

// One thread's scratch: the coordinates of a block of queries in separate arrays, the size of each point's level, its plan.
template <class T> struct AttentionTile {
  typedef Simd<T> S;
  typedef typename Lane<T>::Int I;
  static constexpr long QUERIES = Attention<T>::QUERIES;
  const Attention<T>& s;
  long size;
  Plan<T> plan;
  T *x, *y, *m, *height, *width, *out, *dots;
  I *height_int, *width_int, *start;

  AttentionTile(Arena& arena, const Attention<T>& a, bool backward)
      : s(a), size(round_up(QUERIES * a.taps, S::N)), plan(arena, size), x(arena.take<T>(size)), y(arena.take<T>(size)), m(arena.take<T>(size)),
        height(arena.take<T>(size)), width(arena.take<T>(size)), out(arena.take<T>(a.width)), dots(arena.take<T>(backward ? size * 4 * S::N : 0)),
        height_int(arena.take<I>(size)), width_int(arena.take<I>(size)), start(arena.take<I>(size)) {}

  void begin() {
    for (long i = 0; i < size; i++) {
      const int64_t* l = s.level + i % s.taps / s.points * 3;
      height[i] = T(height_int[i] = I(l[0]));
      width[i] = T(width_int[i] = I(l[1]));
      start[i] = I(l[2]);
      x[i] = y[i] = m[i] = 0;
    }
  }

  // Locations are in [0, 1] across a level, x first: pixel = location * size - 1/2.
  template <bool EDGE> void set(const T* location, const T* weight, long image, long head, long query, long count) {
    for (long q = 0; q < count; q++) {
      const long at = ((image * s.queries + query + q) * s.heads + head) * s.taps;
      split_pairs<T>(location + 2 * at, s.taps, x + q * s.taps, y + q * s.taps);
      memcpy(m + q * s.taps, weight + at, s.taps * sizeof(T));
    }
    for (long i = 0; i < count * s.taps; i += S::N) {
      const Frame<T> frame{S::load(height + i), S::load(width + i), S::load(height_int + i), S::load(width_int + i), S::load(start + i), S::splat_int(I(s.rows))};
      plan_points<T, EDGE>(plan, i, S::load(y + i) * frame.height - T(0.5), S::load(x + i) * frame.width - T(0.5), S::load(m + i), frame);
    }
  }
};

// Rows [from, to) of one head into its block, with the zero row behind the last; and back.
template <class T> inline void pack_head(const Attention<T>& s, const T* value, long unit, long from, long to, T* block) {
  const long step = s.heads * s.depth;
  const T* src = value + unit / s.heads * s.rows * step + unit % s.heads * s.depth;
  for (long r = from; r < to; r++) {
    memcpy(block + r * s.width, src + r * step, s.depth * sizeof(T));
    for (long c = s.depth; c < s.width; c++) block[r * s.width + c] = 0;
  }
  if (to == s.rows) memset(block + to * s.width, 0, s.width * sizeof(T));
}
template <class T> inline void unpack_head(const Attention<T>& s, const T* block, long unit, T* value) {
  const long step = s.heads * s.depth;
  T* to = value + unit / s.heads * s.rows * step + unit % s.heads * s.depth;
  for (long r = 0; r < s.rows; r++) memcpy(to + r * step, block + r * s.width, s.depth * sizeof(T));
}

// One block of queries of one head; `block` is the head's packed rows, or null where it is read in place.
template <class T>
inline void attend(AttentionTile<T>& t, const T* value, const T* location, const T* weight, const T* block, const T* zeros, long unit, long query, T* out) {
  const Attention<T>& s = t.s;
  const long step = s.heads * s.depth, image = unit / s.heads, head = unit % s.heads, count = least(s.QUERIES, s.queries - query);
  const Rows<const T, false> rows{block, s.width, 0, nullptr};
  t.template set<false>(location, weight, image, head, query, count);
  T* to = out + (image * s.queries + query) * step + head * s.depth;
  if (!block) {
    const Rows<const T, true> in_place{value + image * s.rows * step + head * s.depth, step, s.rows, zeros};
    gather<T, true>(t.plan, 0, count, s.taps, s.taps, 1, in_place, s.width, to, step);
  } else if (s.width == s.depth) {
    gather<T, false>(t.plan, 0, count, s.taps, s.taps, 1, rows, s.width, to, step);
  } else {
    for (long q = 0; q < count; q++) {
      gather<T, false>(t.plan, q * s.taps, 1, s.taps, s.taps, 1, rows, s.width, t.out, 0);
      memcpy(to + q * step, t.out, s.depth * sizeof(T));
    }
  }
}

// Tensors: value, locations, weights, output. With enough heads each thread packs the one that it works on, which then is in
// its cache; with few, all threads pack all heads first and share the queries.
template <class T> int64_t attention_forward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  const Attention<T> s(shape);
  const long units = s.n * s.heads;
  const bool own_heads = s.packed && (units % threads == 0 || units >= 4 * threads);
  Arena arena(scratch);
  T* zeros = arena.take<T>(s.width);
  T* blocks = arena.take<T>(s.packed ? (own_heads ? threads : units) * s.block : 0);
  Arena one(nullptr);
  AttentionTile<T>(one, s, false);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const T *value = (const T*)tensors[0], *location = (const T*)tensors[1], *weight = (const T*)tensors[2];
  T* out = (T*)tensors[3];
  const long chunk = 1024, chunks = ceil_div(s.rows, chunk), tiles = ceil_div(s.queries, s.QUERIES);
  memset(zeros, 0, s.width * sizeof(T));
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Arena mine(own + omp_get_thread_num() * one.used);
    AttentionTile<T> t(mine, s, false);
    t.begin();
    if (own_heads) {
      T* block = blocks + omp_get_thread_num() * s.block;
#pragma omp for schedule(dynamic)
      for (long unit = 0; unit < units; unit++) {
        pack_head<T>(s, value, unit, 0, s.rows, block);
        for (long query = 0; query < s.queries; query += s.QUERIES) attend<T>(t, value, location, weight, block, zeros, unit, query, out);
      }
    } else {
      if (s.packed) {
#pragma omp for schedule(dynamic)
        for (long i = 0; i < units * chunks; i++) {
          const long from = i % chunks * chunk;
          pack_head<T>(s, value, i / chunks, from, least(s.rows, from + chunk), blocks + i / chunks * s.block);
        }
      }
#pragma omp for schedule(dynamic, 4)
      for (long i = 0; i < units * tiles; i++)
        attend<T>(t, value, location, weight, s.packed ? blocks + i / tiles * s.block : nullptr, zeros, i / tiles, i % tiles * s.QUERIES, out);
    }
  }
  return 0;
}

// Slopes in pixels to gradients of locations and weights.
template <class T>
inline void store_attention_slopes(const AttentionTile<T>& t, long image, long head, long query, long count, T* location_grad, T* weight_grad) {
  typedef Simd<T> S;
  const Attention<T>& s = t.s;
  for (long i = 0; i < count * s.taps; i += S::N) {
    const Slopes<T> g = reduce<T>(t.plan, i, t.dots + i * 4 * S::N);
    S::store(t.x + i, g.x * S::load(t.width + i));
    S::store(t.y + i, g.y * S::load(t.height + i));
    S::store(t.m + i, g.modulation);
  }
  for (long q = 0; q < count; q++) {
    const long at = ((image * s.queries + query + q) * s.heads + head) * s.taps;
    for (long j = 0; j < s.taps; j++) {
      location_grad[2 * (at + j)] = t.x[q * s.taps + j];
      location_grad[2 * (at + j) + 1] = t.y[q * s.taps + j];
      weight_grad[at + j] = t.m[q * s.taps + j];
    }
  }
}

// Tensors: output's gradient, value, locations, weights; gradients of value, locations, weights.
template <class T> int64_t attention_backward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  const Attention<T> s(shape);
  const long units = s.n * s.heads, step = s.heads * s.depth;
  Arena arena(scratch);
  Arena one(nullptr);
  AttentionTile<T>(one, s, true);
  one.take<T>(s.packed ? 2 * s.block : 2 * s.width);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const T *out_grad = (const T*)tensors[0], *value = (const T*)tensors[1], *location = (const T*)tensors[2], *weight = (const T*)tensors[3];
  T *value_grad = (T*)tensors[4], *location_grad = (T*)tensors[5], *weight_grad = (T*)tensors[6];
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Arena mine(own + omp_get_thread_num() * one.used);
    AttentionTile<T> t(mine, s, true);
    T* rows = mine.take<T>(s.packed ? 2 * s.block : 2 * s.width);
    T* rows_grad = rows + (s.packed ? s.block : s.width);
    if (!s.packed) {
      memset(rows, 0, 2 * s.width * sizeof(T));
#pragma omp for schedule(static)
      for (long row = 0; row < s.n * s.rows; row++) memset(value_grad + row * step, 0, step * sizeof(T));
    }
    t.begin();
#pragma omp for schedule(dynamic)
    for (long unit = 0; unit < units; unit++) {
      const long image = unit / s.heads, head = unit % s.heads, column = head * s.depth;
      if (s.packed) {
        pack_head<T>(s, value, unit, 0, s.rows, rows);
        memset(rows_grad, 0, s.block * sizeof(T));
      }
      for (long query = 0; query < s.queries; query += s.QUERIES) {
        const long count = least(s.QUERIES, s.queries - query);
        t.template set<true>(location, weight, image, head, query, count);
        for (long q = 0; q < count; q++) {
          const T* g = out_grad + (image * s.queries + query + q) * step + column;
          T* dots = t.dots + q * s.taps * 4 * Simd<T>::N;
          if (!s.packed) {
            const long at = image * s.rows * step + column;
            scatter<T, true, false>(t.plan, q * s.taps, s.taps, g, 0, Rows<const T, true>{value + at, step, s.rows, rows}, Rows<T, true>{value_grad + at, step, s.rows, rows_grad},
                                    s.width, dots, nullptr, 0);
            continue;
          }
          if (s.width != s.depth) {
            for (long c = 0; c < s.width; c++) t.out[c] = c < s.depth ? g[c] : T(0);
            g = t.out;
          }
          scatter<T, false, false>(t.plan, q * s.taps, s.taps, g, 0, Rows<const T, false>{rows, s.width, 0, nullptr}, Rows<T, false>{rows_grad, s.width, 0, nullptr}, s.width,
                                   dots, nullptr, 0);
        }
        store_attention_slopes<T>(t, image, head, query, count, location_grad, weight_grad);
      }
      if (s.packed) unpack_head<T>(s, rows_grad, unit, value_grad);
    }
  }
  return 0;
}

}  // namespace ISA
