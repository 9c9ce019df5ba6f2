// The geometry of a deformable window, and images in the layout that the kernels read.
#pragma once
#include "rows.hpp"

namespace ISA {

// What the caller passes; the order is fixed by native.py.
struct Window {
  long n, c, h, w, out_c, kh, kw, out_h, out_w, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups, offset_groups;
  long step_n, step_c, step_pixel;  // of the input, in elements: planes or channels-last

  explicit Window(const int64_t* s)
      : n(s[0]), c(s[1]), h(s[2]), w(s[3]), out_c(s[4]), kh(s[5]), kw(s[6]), out_h(s[7]), out_w(s[8]), stride_h(s[9]), stride_w(s[10]),
        pad_h(s[11]), pad_w(s[12]), dil_h(s[13]), dil_w(s[14]), groups(s[15]), offset_groups(s[16]), step_n(s[17]), step_c(s[18]), step_pixel(s[19]) {}
  long taps() const { return kh * kw; }
  long pixels() const { return h * w; }
  long positions() const { return out_h * out_w; }
};

// Channels are cut into slices of at most `cap`, never across offset groups, and padded to whole vectors with zeros.
// A packed image is one block (pixels + 1 zero row) x width per slice.
template <class T> struct Slices {
  long per_group, padded_group, cap, per_offset_group, count, channels;

  Slices(const Window& s, long most_channels)
      : per_group(s.c / s.offset_groups), padded_group(round_up(per_group, Simd<T>::N)), cap(least(padded_group, most_channels)),
        per_offset_group(ceil_div(padded_group, cap)), count(per_offset_group * s.offset_groups), channels(padded_group * s.offset_groups) {}
  long group(long slice) const { return slice / per_offset_group; }
  long start(long slice) const { return group(slice) * per_group + slice % per_offset_group * cap; }         // first channel
  long padded(long slice) const { return group(slice) * padded_group + slice % per_offset_group * cap; }     // the same among padded ones
  long width(long slice) const { return least(cap, padded_group - slice % per_offset_group * cap); }         // padded channels
  long used(long slice) const { return least(cap, per_group - slice % per_offset_group * cap); }             // channels
  long place(long channel) const { return channel / per_group * padded_group + channel % per_group; }        // padded number of a channel
};

// Pixels [from, to) of one slice of one image into their block.
template <class T> inline void pack(const Window& s, const Slices<T>& slices, const T* x, long image, long slice, long from, long to, T* block) {
  const long width = slices.width(slice), used = slices.used(slice);
  const T* src = x + image * s.step_n + slices.start(slice) * s.step_c + from * s.step_pixel;
  if (s.step_pixel == 1) {
    transpose_into<T>(src, s.step_c, used, to - from, block + from * width, width, x + s.n * s.c * s.pixels());
  } else {
    for (long p = from; p < to; p++, src += s.step_pixel) {
      memcpy(block + p * width, src, used * sizeof(T));
      for (long c = used; c < width; c++) block[p * width + c] = 0;
    }
  }
  if (to == s.pixels()) memset(block + to * width, 0, width * sizeof(T));
}

// Asks the memory for what comes soon, numbers [from, until) of several planes, to be read or to be written: a tile meets short
// pieces of many planes, which no processor foresees.
template <bool WRITE, class T> inline void ask_for(const T* plane, long planes, long plane_step, long from, long until) {
  for (long i = 0; i < planes; i++, plane += plane_step)
    for (long p = from; p < until; p += 64 / (long)sizeof(T)) __builtin_prefetch(plane + p, WRITE);
}

// The same for offsets and modulation at output positions [from, until) of some offset groups, counted through the batch.
template <class T> inline void ask_for_points(const Window& s, const T* offset, const T* mask, long group, long groups, long from, long until) {
  const long plane = group * s.taps(), planes = groups * s.taps();
  ask_for<false>(offset + 2 * plane * s.positions(), 2 * planes, s.positions(), from, until);
  if (mask) ask_for<false>(mask + plane * s.positions(), planes, s.positions(), from, until);
}

// The undeformed position of tap (0, 0) for output positions [from, from + count).
template <class T> struct Origins {
  T *y, *x;
  Origins(Arena& arena, long count) : y(arena.take<T>(round_up(count, Simd<T>::N))), x(arena.take<T>(round_up(count, Simd<T>::N))) {}
  void set(const Window& s, long from, long count) {
    long row = from / s.out_w, col = from % s.out_w;
    for (long p = 0; p < count; p++) {
      y[p] = T(row * s.stride_h - s.pad_h);
      x[p] = T(col * s.stride_w - s.pad_w);
      if (++col == s.out_w) col = 0, row++;
    }
    for (long p = count; p < round_up(count, Simd<T>::N); p++) y[p] = x[p] = 0;
  }
};

// Plans points [at, at + count) of `plan`: one tap of one offset group at output positions [from, from + count).
template <class T, bool EDGE>
inline void plan_tap(Plan<T>& plan, long at, const Window& s, const Origins<T>& origins, const T* offset, const T* mask, long image, long group,
                     long tap, long from, long count) {
  typedef Simd<T> S;
  const long plane = (image * s.offset_groups + group) * s.taps() + tap;
  const T* dy = offset + 2 * plane * s.positions() + from;
  const T* dx = dy + s.positions();
  const T* m = mask ? mask + plane * s.positions() + from : nullptr;
  const T tap_y = T(tap / s.kw * s.dil_h), tap_x = T(tap % s.kw * s.dil_w);
  const Frame<T> frame = Frame<T>::image(s.h, s.w);
  for (long p = 0; p < count; p += S::N) {
    const long left = count - p;
    auto y = S::load(origins.y + p) + tap_y + S::load_some(dy + p, left, T(-1e9));
    auto x = S::load(origins.x + p) + tap_x + S::load_some(dx + p, left, T(-1e9));
    plan_points<T, EDGE>(plan, at + p, y, x, m ? S::load_some(m + p, left, T(0)) : S::splat(1), frame);
  }
}

// Slopes of points [at, at + count) into the planes of one tap, `down` for y, `down + plane_step` for x, and `modulation`.
template <class T>
inline void store_slopes(const Plan<T>& plan, long at, const T* dots, long count, T* down, long plane_step, T* modulation) {
  typedef Simd<T> S;
  for (long p = 0; p < count; p += S::N) {
    Slopes<T> g = reduce<T>(plan, at + p, dots + p * 4 * S::N);
    S::store_some(down + p, g.y, count - p);
    S::store_some(down + plane_step + p, g.x, count - p);
    if (modulation) S::store_some(modulation + p, g.modulation, count - p);
  }
}

}  // namespace ISA
