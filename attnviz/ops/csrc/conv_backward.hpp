// Deformable convolution, backward: every slice of channels is one thread's own, so that nothing is shared and sums have a fixed order.
#pragma once
#include "conv.hpp"

namespace ISA {

// One thread's scratch: a tile's output gradient (channel rows), one tap's columns, and plans.
template <class T> struct BackwardTile {
  Plan<T> plan;
  Origins<T> origins;
  T *out_grad, *column_grad, *column, *dots, *turned;
  BackwardTile(Arena& arena, const Window& s, long tile, long row, long cap)
      : plan(arena, tile), origins(arena, tile), out_grad(arena.take<T>(s.out_c * row)), column_grad(arena.take<T>(tile * cap)),
        column(arena.take<T>(tile * cap)), dots(arena.take<T>(round_up(tile, Simd<T>::N) * 4 * Simd<T>::N)), turned(arena.take<T>(cap * s.taps() + Simd<T>::N)) {}
};

template <class T> struct Backward {
  const Window s;
  const Slices<T> slices;
  long tile, tiles, row, parts, in_c, out_c;

  explicit Backward(const int64_t* shape) : s(shape), slices(s, 32) {
    tile = most(Simd<T>::N, least(224, 60000 / most(1, s.out_c)));
    tiles = most(1, ceil_div(s.positions(), tile));
    tile = ceil_div(s.positions(), tiles);
    row = round_up(tile, Simd<T>::N) + Simd<T>::N;
    parts = most(1, least(s.n, ceil_div(16, slices.count)));  // of the batch; never from the number of threads
    in_c = s.c / s.groups;
    out_c = s.out_c / s.groups;
  }
  long first_group(long slice) const { return slices.start(slice) / in_c; }
  long last_group(long slice) const { return (slices.start(slice) + slices.used(slice) - 1) / in_c; }
  // Output channels that a slice's channels touch: all of its groups.
  long first_out(long slice) const { return first_group(slice) * out_c; }
  long outs(long slice) const { return (last_group(slice) + 1) * out_c - first_out(slice); }
  long most_outs() const {
    long n = 0;
    for (long i = 0; i < slices.count; i++) n = most(n, outs(i));
    return n;
  }
  long matrix() const { return s.taps() * most_outs() * slices.cap; }  // one slice's weights: tap, output channel, channel

  // [channel][tap] to [tap][channel] for each output channel; zero where the output channel is of another group.
  void pack_weight(const T* weight, long slice, T* to) const {
    const long width = slices.width(slice), start = slices.start(slice), taps = s.taps();
    for (long o = 0; o < outs(slice); o++) {
      const long out = first_out(slice) + o, group = out / out_c;
      const long from = most(start, group * in_c), until = least(start + slices.used(slice), (group + 1) * in_c);
      if (until - from != width)
        for (long tap = 0; tap < taps; tap++) memset(to + (tap * outs(slice) + o) * width, 0, width * sizeof(T));
      const T* src = weight + (out * in_c + from - group * in_c) * taps;
      const T* end = weight + s.out_c * in_c * taps;
      T* place = to + o * width + from - start;
      if ((until - from) % Simd<T>::N == 0) transpose_into<T>(src, taps, until - from, taps, place, outs(slice) * width, end);
      else transpose_exact<T>(src, taps, until - from, taps, place, outs(slice) * width, end);
    }
  }

  // The other way round for the finished gradient; `turned` holds one output channel's numbers.
  void unpack_weight(const T* from, long slice, T* turned, T* weight_grad) const {
    const long width = slices.width(slice), start = slices.start(slice), taps = s.taps();
    for (long o = 0; o < outs(slice); o++) {
      const long out = first_out(slice) + o, group = out / out_c;
      const long first = most(start, group * in_c), until = least(start + slices.used(slice), (group + 1) * in_c);
      const T* src = from + o * width + first - start;
      const T* end = from + taps * outs(slice) * width;
      if (taps <= Simd<T>::N) transpose_into<T>(src, outs(slice) * width, taps, until - first, turned, taps, end);
      else transpose_exact<T>(src, outs(slice) * width, taps, until - first, turned, taps, end);
      memcpy(weight_grad + (out * in_c + first - group * in_c) * taps, turned, (until - first) * taps * sizeof(T));
    }
  }

  // column_grad[position][channel] = sum over output channels of out_grad * weight, group by group.
  void column_gradient(BackwardTile<T>& t, const T* weights, long slice, long tap, long count) const {
    const long width = slices.width(slice), start = slices.start(slice), first = first_group(slice), last = last_group(slice);
    const T* b = weights + tap * outs(slice) * width;
    if (first == last) return multiply<T, true>(count, width, out_c, t.out_grad, 1, row, b, width, t.column_grad, width, false);
    for (long g = first; g <= last; g++) {
      multiply<T, true>(count, width, out_c, t.out_grad + (g - first) * out_c * row, 1, row, b + (g - first) * out_c * width, width, t.column, width, false);
      const long from = most(start, g * in_c) - start, until = g == last ? width : (g + 1) * in_c - start;
      for (long p = 0; p < count; p++)
        for (long c = from; c < until; c++) t.column_grad[p * width + c] = t.column[p * width + c];
    }
  }

  // One image of one slice. `slope` and `slope_mask` are this slice's planes of partial sums.
  void image(BackwardTile<T>& t, long slice, long n, const T* out_grad, const T* offset, const T* mask, const T* weights, const T* rows, T* rows_grad,
             T* slope, T* slope_mask, T* weights_grad) const {
    const long width = slices.width(slice), P = s.positions(), touched = outs(slice);
    const Rows<const T, false> from_rows{rows, width, 0, nullptr};
    const Rows<T, false> into{rows_grad, width, 0, nullptr};
    for (long from = 0; from < P; from += tile) {
      const long count = least(tile, P - from);
      t.origins.set(s, from, count);
      for (long o = 0; o < touched; o++) memcpy(t.out_grad + o * row, out_grad + (n * s.out_c + first_out(slice) + o) * P + from, count * sizeof(T));
      for (long tap = 0; tap < s.taps(); tap++) {
        plan_tap<T, true>(t.plan, 0, s, t.origins, offset, mask, n, slices.group(slice), tap, from, count);
        column_gradient(t, weights, slice, tap, count);
        scatter<T, false, true>(t.plan, 0, count, t.column_grad, width, from_rows, into, width, t.dots, t.column, width);
        store_slopes<T>(t.plan, 0, t.dots, count, slope + 2 * tap * P + from, P, slope_mask ? slope_mask + tap * P + from : nullptr);
        multiply<T, false>(touched, width, count, t.out_grad, row, 1, t.column, width, weights_grad + tap * touched * width, width, true);
      }
    }
  }
};

// Adds the planes of a group's slices in their order; slice 0's are in `total` already.
template <class T> inline void add_partials(T* total, const T* partial, long partial_step, long partials, long count) {
  for (long i = 0; i < partials; i++)
    for (long p = 0; p < count; p++) total[p] += partial[i * partial_step + p];
}

// Tensors: output's gradient, input, offset, mask or null, weight; gradients of input, offset, mask or null, weight.
template <class T> int64_t conv_backward(const int64_t* shape, long threads, void* const* tensors, char* scratch) {
  const Backward<T> job(shape);
  const Window& s = job.s;
  const Slices<T>& sl = job.slices;
  const long P = s.positions(), planes = s.taps() * P, block = (s.pixels() + 1) * sl.cap, matrix = job.matrix(), more = sl.per_offset_group - 1;
  Arena arena(scratch);
  T* weights = arena.take<T>(sl.count * matrix);
  T* weights_grad = arena.take<T>(job.parts * sl.count * matrix);
  T* partial = arena.take<T>(s.n * s.offset_groups * more * 3 * planes);
  Arena one(nullptr);
  BackwardTile<T>(one, s, job.tile, job.row, sl.cap);
  one.take<T>(2 * block);
  char* own = arena.take<char>(threads * one.used);
  if (!scratch) return arena.used;
  const T *out_grad = (const T*)tensors[0], *x = (const T*)tensors[1], *offset = (const T*)tensors[2], *mask = (const T*)tensors[3];
  const T* weight = (const T*)tensors[4];
  T *x_grad = (T*)tensors[5], *offset_grad = (T*)tensors[6], *mask_grad = (T*)tensors[7], *weight_grad = (T*)tensors[8];
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Arena mine(own + omp_get_thread_num() * one.used);
    BackwardTile<T> t(mine, s, job.tile, job.row, sl.cap);
    T* rows = mine.take<T>(2 * block);
    T* rows_grad = rows + block;
#pragma omp for schedule(dynamic)
    for (long i = 0; i < sl.count; i++) job.pack_weight(weight, i, weights + i * matrix);
#pragma omp for schedule(dynamic)
    for (long i = 0; i < sl.count * job.parts; i++) {
      const long slice = i % sl.count, part = i / sl.count, g = sl.group(slice), place = slice % sl.per_offset_group - 1;
      T* sums = weights_grad + i * matrix;
      memset(sums, 0, matrix * sizeof(T));
      for (long n = s.n * part / job.parts; n < s.n * (part + 1) / job.parts; n++) {
        pack<T>(s, sl, x, n, slice, 0, s.pixels(), rows);
        memset(rows_grad, 0, block * sizeof(T));
        const long group = n * s.offset_groups + g;
        T* slope = place < 0 ? offset_grad + group * 2 * planes : partial + (group * more + place) * 3 * planes;
        T* slope_mask = !mask_grad ? nullptr : place < 0 ? mask_grad + group * planes : slope + 2 * planes;
        job.image(t, slice, n, out_grad, offset, mask, weights + slice * matrix, rows, rows_grad, slope, slope_mask, sums);
        transpose_exact<T>(rows_grad, sl.width(slice), s.pixels(), sl.used(slice), x_grad + (n * s.c + sl.start(slice)) * s.pixels(), s.pixels(), rows_grad + block);
      }
    }
    if (more) {
#pragma omp for schedule(static) nowait
      for (long i = 0; i < s.n * s.offset_groups; i++) {
        add_partials<T>(offset_grad + i * 2 * planes, partial + i * more * 3 * planes, 3 * planes, more, 2 * planes);
        if (mask_grad) add_partials<T>(mask_grad + i * planes, partial + i * more * 3 * planes + 2 * planes, 3 * planes, more, planes);
      }
    }
#pragma omp for schedule(dynamic)
    for (long i = 0; i < sl.count; i++) {
      for (long part = 1; part < job.parts; part++)
        add_partials<T>(weights_grad + i * matrix, weights_grad + (part * sl.count + i) * matrix, 0, 1, s.taps() * job.outs(i) * sl.width(i));
      job.unpack_weight(weights_grad + i * matrix, i, t.turned, weight_grad);
    }
  }
  return 0;
}

}  // namespace ISA
