// A matrix product's inner tile: up to MICRO_ROWS rows by two vectors, kept in registers.
#pragma once
#include "vector.hpp"

namespace ISA {

// Doubles check gradients and need no speed: few variants of the tile keep the library small.
template <class T> constexpr int micro_rows() { return sizeof(T) == 4 ? MICRO_ROWS : 4; }

// c[r][:] (+)= sum over k of a[r * a_row + k * a_col] * b[k * b_row][:], NV vectors wide. UNIT: a_row is 1.
template <class T, int MR, int NV, bool UNIT>
inline void micro(long depth, const T* a, long a_row, long a_col, const T* b, long b_row, T* c, long c_row, bool add) {
  typedef Simd<T> S;
  typename S::V sum[MR][NV];
#pragma GCC unroll 16
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) sum[r][v] = add ? S::load(c + r * c_row + v * S::N) : typename S::V{};
  constexpr int BASES = UNIT ? 1 : (MR + 2) / 3;  // three rows share a base: [p], [p + row], [p + 2 row] are one operand each
  const T* base[BASES];
  for (int i = 0; i < BASES; i++) base[i] = a + 3 * i * a_row;
#pragma GCC unroll 2
  for (long k = 0; k < depth; k++) {
    typename S::V line[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) line[v] = S::load(b + v * S::N);
    b += b_row;
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++) {
      const T scale = UNIT ? base[0][r] : base[r / 3][(r % 3) * a_row];
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) sum[r][v] += scale * line[v];
    }
#pragma GCC unroll 16
    for (int i = 0; i < BASES; i++) base[i] += a_col;
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) S::store(c + r * c_row + v * S::N, sum[r][v]);
}

template <class T, int MR, int NV, bool UNIT>
inline void micro_of(long rows, long depth, const T* a, long a_row, long a_col, const T* b, long b_row, T* c, long c_row, bool add) {
  if (rows == MR) return micro<T, MR, NV, UNIT>(depth, a, a_row, a_col, b, b_row, c, c_row, add);
  if constexpr (MR > 1) micro_of<T, MR - 1, NV, UNIT>(rows, depth, a, a_row, a_col, b, b_row, c, c_row, add);
}

// C (rows x columns, a multiple of the vector length) (+)= A B. Rows are cut into near-equal blocks, so that no short one is left.
template <class T, bool UNIT>
inline void multiply(long rows, long columns, long depth, const T* a, long a_row, long a_col, const T* b, long b_row, T* c, long c_row, bool add) {
  constexpr long N = Simd<T>::N;
  const long blocks = ceil_div(rows, micro_rows<T>());
  for (long block = 0, r = 0; block < blocks; block++) {
    const long here = (rows - r) / (blocks - block);
    for (long v = 0; v < columns; v += 2 * N)
      if (columns - v >= 2 * N) micro_of<T, micro_rows<T>(), 2, UNIT>(here, depth, a + r * a_row, a_row, a_col, b + v, b_row, c + r * c_row + v, c_row, add);
      else micro_of<T, micro_rows<T>(), 1, UNIT>(here, depth, a + r * a_row, a_row, a_col, b + v, b_row, c + r * c_row + v, c_row, add);
    r += here;
  }
}

}  // namespace ISA
