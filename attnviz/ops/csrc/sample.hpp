// Grouped deformable sampling without weights: the sum over taps of modulated samples, each offset group on its own.
#pragma once
#include <omp.h>

#include "image.hpp"
#include "shares.hpp"

namespace ISA {

// One thread's scratch: a tile's plan for all taps, its rows, and its products.
template <class T> struct SampleTile {
  Plan<T> plan;
  Origins<T> origins;
  T *rows, *dots;
  SampleTile(Arena& arena, long tile, long taps, long cap, bool backward)
      : plan(arena, taps * round_up(tile, Simd<T>::N)), origins(arena, tile), rows(arena.take<T>(round_up(tile, Simd<T>::N) * cap)),
        dots(arena.take<T>(backward ? round_up(tile, Simd<T>::N) * 4 * Simd<T>::N : 0)) {}
};

// Tensors: input, offset, mask or null, output.
template <class T> int64_t sample_forward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  const Window s(shape);
  const Slices<T> sl(s, 1 << 30);
  const long P = s.positions(), block = (s.pixels() + 1) * sl.padded_group, tile = 64, tiles = ceil_div(P, tile), units = s.n * s.offset_groups;
  const long chunk = 256, chunks = ceil_div(s.pixels(), chunk);
  Arena arena(scratch);
  T* images = arena.take<T>(units * block);
  Shares packing(arena, threads), tiling(arena, threads);
  Arena one(nullptr);
  SampleTile<T>(one, tile, s.taps(), sl.padded_group, false);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const T *x = (const T*)tensors[0], *offset = (const T*)tensors[1], *mask = (const T*)tensors[2];
  T* out = (T*)tensors[3];
  packing.start(0, units * chunks);
  tiling.start(0, units * tiles);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const long me = omp_get_thread_num();
    packing.run(0, me, [&](long i) {
      const long from = i % chunks * chunk, unit = i / chunks;
      pack<T>(s, sl, x, unit / s.offset_groups, unit % s.offset_groups, from, least(s.pixels(), from + chunk), images + unit * block);
    });
    Arena mine(own + me * one.used);
    SampleTile<T> t(mine, tile, s.taps(), sl.padded_group, false);
#pragma omp barrier
    tiling.run(0, me, [&](long i) {
      const long from = i % tiles * tile, unit = i / tiles, image = unit / s.offset_groups, g = unit % s.offset_groups;
      const long count = least(tile, P - from);
      T* planes = out + (image * s.c + sl.start(g)) * P;
      t.origins.set(s, from, count);
      for (long tap = 0; tap < s.taps(); tap++) plan_tap<T, false>(t.plan, tap * tile, s, t.origins, offset, mask, image, g, tap, from, count);
      if (i + 1 < units * tiles) ask_for_points(s, offset, mask, (i + 1) / tiles, 1, (i + 1) % tiles * tile, least(P, (i + 1) % tiles * tile + tile));
      ask_for<true>(planes, sl.per_group, P, from, from + count);
      const Rows<const T, false> rows{images + unit * block, sl.padded_group, 0, nullptr};
      gather<T, false>(t.plan, 0, count, 1, s.taps(), tile, rows, sl.padded_group, t.rows, sl.padded_group);
      transpose_exact<T>(t.rows, sl.padded_group, count, sl.per_group, planes + from, P, t.rows + count * sl.padded_group);
    });
  }
  return 0;
}

// Tensors: output's gradient, input, offset, mask or null; gradients of input, offset, mask or null.
template <class T> int64_t sample_backward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  const Window s(shape);
  const Slices<T> sl(s, 1 << 30);
  const long P = s.positions(), width = sl.padded_group, block = (s.pixels() + 1) * width, tile = 64;
  Arena arena(scratch);
  Arena one(nullptr);
  SampleTile<T>(one, tile, s.taps(), width, true);
  one.take<T>(2 * block);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const T *out_grad = (const T*)tensors[0], *x = (const T*)tensors[1], *offset = (const T*)tensors[2], *mask = (const T*)tensors[3];
  T *x_grad = (T*)tensors[4], *offset_grad = (T*)tensors[5], *mask_grad = (T*)tensors[6];
  const T* out_end = out_grad + s.n * s.c * P;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Arena mine(own + omp_get_thread_num() * one.used);
    SampleTile<T> t(mine, tile, s.taps(), width, true);
    T* rows = mine.take<T>(2 * block);
    T* rows_grad = rows + block;
#pragma omp for schedule(dynamic)
    for (long unit = 0; unit < s.n * s.offset_groups; unit++) {
      const long image = unit / s.offset_groups, g = unit % s.offset_groups, channel = image * s.c + sl.start(g);
      pack<T>(s, sl, x, image, g, 0, s.pixels(), rows);
      memset(rows_grad, 0, block * sizeof(T));
      for (long from = 0; from < P; from += tile) {
        const long count = least(tile, P - from);
        t.origins.set(s, from, count);
        transpose_into<T>(out_grad + channel * P + from, P, sl.per_group, count, t.rows, width, out_end);
        for (long tap = 0; tap < s.taps(); tap++) {
          const long plane = unit * s.taps() + tap;
          plan_tap<T, true>(t.plan, 0, s, t.origins, offset, mask, image, g, tap, from, count);
          scatter<T, false, false>(t.plan, 0, count, t.rows, width, Rows<const T, false>{rows, width, 0, nullptr}, Rows<T, false>{rows_grad, width, 0, nullptr}, width,
                                   t.dots, nullptr, 0);
          store_slopes<T>(t.plan, 0, t.dots, count, offset_grad + 2 * plane * P + from, P, mask_grad ? mask_grad + plane * P + from : nullptr);
        }
      }
      transpose_exact<T>(rows_grad, width, s.pixels(), sl.per_group, x_grad + channel * s.pixels(), s.pixels(), rows_grad + block);
    }
  }
  return 0;
}

}  // namespace ISA
