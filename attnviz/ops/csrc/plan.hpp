// The sampling plan: where each point reads and how much, for a whole vector of points at once.
#pragma once
#include "vector.hpp"

namespace ISA {

// For point i: four rows of the image (top left, top right, bottom left, bottom right) and their weights. A corner
// outside the image is row `spare`, which holds zeros, with weight 0: no select is needed when pixels are inf or NaN.
template <class T> struct Plan {
  typedef typename Lane<T>::Int I;
  I* row[4];
  T* weight[4];  // bilinear kernel times modulation
  T *down, *right, *modulation;

  Plan(Arena& arena, long points) {
    long n = round_up(points, Simd<T>::N);
    for (int corner = 0; corner < 4; corner++) {
      row[corner] = arena.take<I>(n);
      weight[corner] = arena.take<T>(n);
    }
    down = arena.take<T>(n);
    right = arena.take<T>(n);
    modulation = arena.take<T>(n);
  }
};

// One image of `height` x `width` rows, the same for all lanes.
template <class T> struct Frame {
  typename Simd<T>::V height, width;
  typename Simd<T>::VI height_int, width_int, start, spare;
  static Frame image(long h, long w) {
    typedef Simd<T> S;
    return {S::splat(T(h)), S::splat(T(w)), S::splat_int(h), S::splat_int(w), typename S::VI{}, S::splat_int(h * w)};
  }
};

// Bilinear kernel G(q, p) = max(0, 1 - |q - p|) per axis, on the four pixels around (y, x). All range tests are made on
// the floating-point numbers, so that NaN and inf count as outside before any conversion to an integer. EDGE says
// whether y = -1 or x = -1 counts as inside: its value is 0 either way, but torchvision's slope there is not.
template <class T, bool EDGE>
INLINE void plan_points(Plan<T>& plan, long i, typename Simd<T>::V y, typename Simd<T>::V x, typename Simd<T>::V m, const Frame<T>& f) {
  typedef Simd<T> S;
  typedef typename S::V V;
  typedef typename S::VI VI;
  const V zero{};
  VI inside = (y < f.height) & (x < f.width);
  if constexpr (EDGE) inside &= (y >= T(-1)) & (x >= T(-1));
  else inside &= (y > T(-1)) & (x > T(-1));
  y = inside ? y : zero;
  x = inside ? x : zero;
  VI y0 = __builtin_convertvector(y, VI), x0 = __builtin_convertvector(x, VI);
  y0 += __builtin_convertvector(y0, V) > y;  // a true comparison is -1: truncation becomes floor
  x0 += __builtin_convertvector(x0, V) > x;
  V down = y - __builtin_convertvector(y0, V), right = x - __builtin_convertvector(x0, V);
  V up = 1 - down, left = 1 - right;
  VI tops = inside & (y0 >= 0), bottoms = inside & (y0 + 1 < f.height_int);
  VI lefts = x0 >= 0, rights = x0 + 1 < f.width_int;
  VI first = f.start + y0 * f.width_int + x0;
  V mu = m * up, md = m * down;
  S::store(plan.row[0] + i, tops & lefts ? first : f.spare);
  S::store(plan.row[1] + i, tops & rights ? first + 1 : f.spare);
  S::store(plan.row[2] + i, bottoms & lefts ? first + f.width_int : f.spare);
  S::store(plan.row[3] + i, bottoms & rights ? first + f.width_int + 1 : f.spare);
  S::store(plan.weight[0] + i, tops & lefts ? mu * left : zero);
  S::store(plan.weight[1] + i, tops & rights ? mu * right : zero);
  S::store(plan.weight[2] + i, bottoms & lefts ? md * left : zero);
  S::store(plan.weight[3] + i, bottoms & rights ? md * right : zero);
  if constexpr (EDGE) {
    S::store(plan.down + i, down);
    S::store(plan.right + i, right);
    S::store(plan.modulation + i, m);
  }
}

// From the products of the gradient with each corner's pixel, the slopes along y and x and that of the modulation.
template <class T> struct Slopes { typename Simd<T>::V y, x, modulation; };
template <class T> INLINE Slopes<T> slopes(const Plan<T>& plan, long i, const typename Simd<T>::V* dot) {
  typedef Simd<T> S;
  auto down = S::load(plan.down + i), right = S::load(plan.right + i), m = S::load(plan.modulation + i);
  auto up = 1 - down, left = 1 - right;
  return {m * (left * (dot[2] - dot[0]) + right * (dot[3] - dot[1])),
          m * (up * (dot[1] - dot[0]) + down * (dot[3] - dot[2])),
          up * (left * dot[0] + right * dot[1]) + down * (left * dot[2] + right * dot[3])};
}

}  // namespace ISA
