// Deformable convolution, forward: gather a tile of columns, multiply it while it is in the cache, turn it to planes.
#pragma once
#include <omp.h>

#include "gemm.hpp"
#include "image.hpp"
#include "shares.hpp"

namespace ISA {

// Weights in the order in which the inner product reads them: group, panel of 2 vectors of output channels, tap, padded input channel.
template <class T> struct Panels {
  static constexpr long WIDE = 2 * Simd<T>::N;
  const Window s;
  const Slices<T>& slices;
  long in_c, out_c, count, depth;

  Panels(const Window& window, const Slices<T>& sl) : s(window), slices(sl), in_c(s.c / s.groups), out_c(s.out_c / s.groups), count(ceil_div(out_c, WIDE)), depth(0) {
    for (long g = 0; g < s.groups; g++) depth = most(depth, last(g) - first(g));
  }
  long first(long g) const { return slices.place(g * in_c); }
  long last(long g) const { return slices.place(g * in_c + in_c - 1) + 1; }
  long total() const { return s.groups * count; }
  long size() const { return s.taps() * depth * WIDE; }  // of one

  void pack(const T* weight, long panel, T* to) const {
    typedef Simd<T> S;
    const long g = panel / count, taps = s.taps(), line = in_c * taps, from = panel % count * WIDE;
    if (depth != in_c) memset(to, 0, taps * depth * WIDE * sizeof(T));
    for (long half = 0; half < WIDE; half += S::N)
      for (long q = 0, tap = 0, channel = g * in_c; q < line; q += S::N) {
        typename S::V block[S::N];
        for (long i = 0; i < S::N; i++) {
          const long out = from + half + i;
          block[i] = out < out_c ? S::load_some(weight + (g * out_c + out) * line + q, line - q, T(0)) : typename S::V{};
        }
        transpose<T>(block);
        T* place = to + (slices.place(channel) - first(g)) * WIDE + half;
        for (long i = 0; i < least(S::N, line - q); i++) {
          S::store(place + tap * depth * WIDE, block[i]);
          if (++tap == taps) tap = 0, channel++, place = to + (slices.place(channel) - first(g)) * WIDE + half;
        }
      }
  }
};

// One thread's scratch for the forward pass.
template <class T> struct ForwardTile {
  Plan<T> plan;
  Origins<T> origins;
  T *column, *result;
  ForwardTile(Arena& arena, long tile, long column_row, long result_row)
      : plan(arena, tile), origins(arena, tile), column(arena.take<T>(tile * column_row)), result(arena.take<T>(round_up(tile, Simd<T>::N) * result_row)) {}
};

template <class T> struct Forward {
  const Window s;
  const Slices<T> slices;
  const Panels<T> panels;
  long at_once;  // panels that are packed together: heavy weights are multiplied in several passes, each gathers anew
  long tap_block, column_row, result_row, tile, tiles;

  Forward(const int64_t* shape, long threads) : s(shape), slices(s, 1 << 30), panels(s, slices) {
    const long line = Simd<T>::N, room = threads * 600000 / (long)sizeof(T);
    const long passes = ceil_div(panels.total(), most(1, least(panels.total(), room / most(1, panels.size()))));
    at_once = ceil_div(panels.total(), most(1, passes));
    tap_block = most(1, least(s.taps(), 640 / most(1, slices.channels)));
    column_row = tap_block * slices.channels + line;  // the extra line keeps rows out of each other's cache sets
    result_row = at_once * Panels<T>::WIDE + line;
    tile = most(14, least(112, 100000 / (column_row + result_row)));
    tiles = ceil_div(s.positions(), tile);
    if (s.n * tiles < 8 * threads) tiles = round_up(s.n * tiles, threads) / s.n;
    tile = ceil_div(s.positions(), most(tiles, 1));
    tiles = tile ? ceil_div(s.positions(), tile) : 0;
  }

  void ask_for_output(const T* out, long panel, long image, long from, long count) const {
    const long g = panel / panels.count, c = panel % panels.count * Panels<T>::WIDE, planes = least(panels.out_c - c, Panels<T>::WIDE);
    ask_for<true>(out + (image * s.out_c + g * panels.out_c + c) * s.positions(), planes, s.positions(), from, from + count);
  }

  void compute(ForwardTile<T>& t, const T* image_rows, const T* offset, const T* mask, const T* packed, long first, long last, long image, long from,
               long count, const T* out) const {
    t.origins.set(s, from, count);
    for (long tap0 = 0; tap0 < s.taps(); tap0 += tap_block) {
      const long taps = least(tap_block, s.taps() - tap0);
      for (long tap = tap0; tap < tap0 + taps; tap++)
        for (long g = 0; g < s.offset_groups; g++) {
          plan_tap<T, false>(t.plan, 0, s, t.origins, offset, mask, image, g, tap, from, count);
          const Rows<const T, false> rows{image_rows + slices.padded(g) * (s.pixels() + 1), slices.padded_group, 0, nullptr};
          gather<T, false>(t.plan, 0, count, 1, 1, 0, rows, slices.padded_group, t.column + (tap - tap0) * slices.channels + slices.padded(g), column_row);
        }
      if (tap0 == 0) ask_for_points(s, offset, mask, image * s.offset_groups, s.offset_groups, from + tile, least(s.positions(), from + 2 * tile));
      for (long panel = first; panel < last; panel++) {
        if (tap0 + taps == s.taps()) ask_for_output(out, panel, image, from, count);
        const long g = panel / panels.count;
        T* to = t.result + (panel - first) * Panels<T>::WIDE;
        const T* from_panel = packed + (panel - first) * panels.size() + tap0 * panels.depth * Panels<T>::WIDE;
        const T* a = t.column + panels.first(g);
        if (panels.depth == slices.channels)
          multiply<T, false>(count, Panels<T>::WIDE, taps * panels.depth, a, column_row, 1, from_panel, Panels<T>::WIDE, to, result_row, tap0 > 0);
        else
          for (long k = 0; k < taps; k++)
            multiply<T, false>(count, Panels<T>::WIDE, panels.last(g) - panels.first(g), a + k * slices.channels, column_row, 1,
                               from_panel + k * panels.depth * Panels<T>::WIDE, Panels<T>::WIDE, to, result_row, tap0 + k > 0);
      }
    }
  }

  // Result rows (positions) to planes (output channels), with the bias.
  void emit(const ForwardTile<T>& t, const T* bias, T* out, long first, long last, long image, long from, long count) const {
    typedef Simd<T> S;
    for (long panel = first; panel < last; panel++)
      for (long half = 0; half < Panels<T>::WIDE; half += S::N) {
        const long g = panel / panels.count, c = panel % panels.count * Panels<T>::WIDE + half;
        for (long p = 0; p < count; p += S::N) {
          typename S::V block[S::N];
          for (long i = 0; i < S::N; i++) block[i] = S::load(t.result + (p + i) * result_row + (panel - first) * Panels<T>::WIDE + half);
          transpose<T>(block);
          for (long i = 0; i < least(S::N, panels.out_c - c); i++) {
            const long channel = g * panels.out_c + c + i;
            S::store_some(out + (image * s.out_c + channel) * s.positions() + from + p, bias ? block[i] + bias[channel] : block[i], count - p);
          }
        }
      }
  }
};

// Tensors: input, offset, mask or null, weight, bias or null, output. Returns the scratch bytes that it needs.
template <class T> int64_t conv_forward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  const Forward<T> job(shape, threads);
  const Window& s = job.s;
  Arena arena(scratch);
  const long block = (s.pixels() + 1) * job.slices.channels, all = job.panels.total(), step = most(1, job.at_once);
  const long chunk = 256, chunks = ceil_div(s.pixels(), chunk);
  T* images = arena.take<T>(s.n * block);
  T* packed = arena.take<T>(job.at_once * job.panels.size());
  Shares packing(arena, threads), weighing(arena, threads, ceil_div(all, step)), tiling(arena, threads, ceil_div(all, step));
  Arena one(nullptr);
  ForwardTile<T>(one, job.tile, job.column_row, job.result_row);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const T *x = (const T*)tensors[0], *offset = (const T*)tensors[1], *mask = (const T*)tensors[2];
  const T *weight = (const T*)tensors[3], *bias = (const T*)tensors[4];
  T* out = (T*)tensors[5];
  packing.start(0, s.n * s.offset_groups * chunks);
  for (long first = 0; first < all; first += step) {
    weighing.start(first / step, least(step, all - first));
    tiling.start(first / step, s.n * job.tiles);
  }
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const long me = omp_get_thread_num();
    packing.run(0, me, [&](long i) {
      const long part = i % chunks * chunk, g = i / chunks % s.offset_groups, image = i / chunks / s.offset_groups;
      pack<T>(s, job.slices, x, image, g, part, least(s.pixels(), part + chunk), images + image * block + job.slices.padded(g) * (s.pixels() + 1));
    });
    Arena mine(own + me * one.used);
    ForwardTile<T> t(mine, job.tile, job.column_row, job.result_row);
    for (long first = 0; first < all; first += step) {
      const long last = least(all, first + step);
      weighing.run(first / step, me, [&](long i) { job.panels.pack(weight, first + i, packed + i * job.panels.size()); });
#pragma omp barrier
      tiling.run(first / step, me, [&](long i) {
        const long image = i / job.tiles, from = i % job.tiles * job.tile, count = least(job.tile, s.positions() - from);
        job.compute(t, images + image * block, offset, mask, packed, first, last, image, from, count, out);
        job.emit(t, bias, out, first, last, image, from, count);
      });
#pragma omp barrier
    }
  }
  return 0;
}

}  // namespace ISA
