// Reading and writing image rows (one pixel's channels) by a plan. Vectors run over channels.
#pragma once
#include "plan.hpp"

namespace ISA {

// Rows of an image: row r is at base + r * step. Where the image has no spare row of its own (FAR), row `count` is elsewhere.
template <class T, bool FAR> struct Rows {
  T* base;
  long step;
  long count;
  T* spare;
  INLINE T* at(long r) const {
    if constexpr (FAR) return r < count ? base + r * step : spare;
    return base + r * step;
  }
};

// out[p] = sum over `taps` t of the four weighted rows of point p * point_step + t * tap_step.
template <class T, int NV, bool FAR>
inline void gather_vectors(const Plan<T>& plan, long first, long points, long point_step, long taps, long tap_step, Rows<const T, FAR> rows,
                           T* out, long out_step) {
  typedef Simd<T> S;
  constexpr int CHAINS = NV == 1 ? 4 : NV == 2 ? 2 : 1;  // enough sums that none waits for the one before
  for (long p = 0; p < points; p++, out += out_step) {
    typename S::V sum[CHAINS * NV] = {};
    for (long t = 0; t < taps; t++) {
      const long i = first + p * point_step + t * tap_step;
#pragma GCC unroll 4
      for (int corner = 0; corner < 4; corner++) {
        const T* row = rows.at(plan.row[corner][i]);
        const T w = plan.weight[corner][i];
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) sum[corner % CHAINS * NV + v] += w * S::load(row + v * S::N);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) {
      auto total = sum[v];
#pragma GCC unroll 4
      for (int chain = 1; chain < CHAINS; chain++) total += sum[chain * NV + v];
      S::store(out + v * S::N, total);
    }
  }
}

// The same for any multiple of the vector length.
template <class T, bool FAR>
inline void gather(const Plan<T>& plan, long first, long points, long point_step, long taps, long tap_step, Rows<const T, FAR> rows,
                   long channels, T* out, long out_step) {
  constexpr long N = Simd<T>::N;
  while (channels > 0) {
    const long nv = least(channels / N, 4);
    if (nv == 4) gather_vectors<T, 4>(plan, first, points, point_step, taps, tap_step, rows, out, out_step);
    else if (nv == 3) gather_vectors<T, 3>(plan, first, points, point_step, taps, tap_step, rows, out, out_step);
    else if (nv == 2) gather_vectors<T, 2>(plan, first, points, point_step, taps, tap_step, rows, out, out_step);
    else gather_vectors<T, 1>(plan, first, points, point_step, taps, tap_step, rows, out, out_step);
    channels -= nv * N;
    rows.base += nv * N;
    if constexpr (FAR) rows.spare += nv * N;
    out += nv * N;
  }
}

// The adjoint. Point i's four rows of `into` grow by weight * grad; its products grad . row go to dots (one vector of
// partial sums per corner and point); COLUMN keeps the sample itself, as gather gives it.
template <class T, int NV, bool FAR, bool COLUMN>
inline void scatter_vectors(const Plan<T>& plan, long first, long points, const T* grad, long grad_step, Rows<const T, FAR> rows, Rows<T, FAR> into,
                            T* dots, bool more, T* column, long column_step) {
  typedef Simd<T> S;
  typedef typename S::V V;
  for (long p = 0; p < points; p++, grad += grad_step, dots += 4 * S::N, column += COLUMN ? column_step : 0) {
    const long i = first + p;
    V g[NV], sample[NV] = {};
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) g[v] = S::load(grad + v * S::N);
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; corner++) {
      const long r = plan.row[corner][i];
      const T w = plan.weight[corner][i];
      const T* row = rows.at(r);
      T* target = into.at(r);
      V dot = more ? S::load(dots + corner * S::N) : V{};
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) {
        V pixel = S::load(row + v * S::N);
        dot += g[v] * pixel;
        if constexpr (COLUMN) sample[v] += w * pixel;
        S::store(target + v * S::N, S::load(target + v * S::N) + w * g[v]);
      }
      S::store(dots + corner * S::N, dot);
    }
    if constexpr (COLUMN)
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) S::store(column + v * S::N, sample[v]);
  }
}

template <class T, bool FAR, bool COLUMN>
inline void scatter(const Plan<T>& plan, long first, long points, const T* grad, long grad_step, Rows<const T, FAR> rows, Rows<T, FAR> into,
                    long channels, T* dots, T* column, long column_step) {
  constexpr long N = Simd<T>::N;
  for (bool more = false; channels > 0; more = true) {
    const long nv = least(channels / N, 2);
    if (nv == 2) scatter_vectors<T, 2, FAR, COLUMN>(plan, first, points, grad, grad_step, rows, into, dots, more, column, column_step);
    else scatter_vectors<T, 1, FAR, COLUMN>(plan, first, points, grad, grad_step, rows, into, dots, more, column, column_step);
    channels -= nv * N;
    grad += nv * N;
    rows.base += nv * N;
    into.base += nv * N;
    if constexpr (FAR) rows.spare += nv * N, into.spare += nv * N;
    if constexpr (COLUMN) column += nv * N;
  }
}

// Adds up the partial sums of N points from `dots` and gives each point's slopes.
template <class T> INLINE Slopes<T> reduce(const Plan<T>& plan, long i, const T* dots) {
  typedef Simd<T> S;
  typename S::V dot[4];
  for (int corner = 0; corner < 4; corner++) {
    typename S::V part[S::N];
    for (int p = 0; p < S::N; p++) part[p] = S::load(dots + (p * 4 + corner) * S::N);
    dot[corner] = sum_lanes<T>(part);
  }
  return slopes<T>(plan, i, dot);
}

}  // namespace ISA
