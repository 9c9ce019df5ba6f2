// SIMD values by the compiler's vector extensions: one source for every instruction set.
//
// A kernels_<isa>.cpp file defines ISA (its namespace), VECTOR_BYTES and MICRO_ROWS before it includes
// anything from here, so that every function below exists once per instruction set, under its own name.
// Nothing here may call inline functions or templates of the standard library: the linker would keep one copy of
// those for the whole library, perhaps the AVX-512 one.
#pragma once
#include <stdint.h>
#include <string.h>

#if !defined(ISA) || !defined(VECTOR_BYTES) || !defined(MICRO_ROWS)
#error "define ISA, VECTOR_BYTES and MICRO_ROWS first"
#endif
#define INLINE inline __attribute__((always_inline))

namespace ISA {

template <class T> struct Lane;
template <> struct Lane<float> { typedef int32_t Int; };
template <> struct Lane<double> { typedef int64_t Int; };

template <class T> struct Simd {
  typedef typename Lane<T>::Int I;
  static constexpr int N = VECTOR_BYTES / sizeof(T);
  typedef T V __attribute__((vector_size(VECTOR_BYTES)));
  typedef I VI __attribute__((vector_size(VECTOR_BYTES)));
  typedef T LooseV __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  typedef I LooseVI __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

  static INLINE V load(const T* p) { return *(const LooseV*)p; }
  static INLINE VI load(const I* p) { return *(const LooseVI*)p; }
  static INLINE void store(T* p, V v) { *(LooseV*)p = v; }
  static INLINE void store(I* p, VI v) { *(LooseVI*)p = v; }
  static INLINE V splat(T s) { return s - V{}; }
  static INLINE VI splat_int(I s) { return s - VI{}; }
  static INLINE V load_some(const T* p, long n, T rest) {
    if (n >= N) return load(p);
    V v = splat(rest);
    for (long i = 0; i < n; i++) v[i] = p[i];
    return v;
  }
  static INLINE void store_some(T* p, V v, long n) {
    if (n >= N) store(p, v);
    else
      for (long i = 0; i < n; i++) p[i] = v[i];
  }
};

inline long round_up(long n, long to) { return (n + to - 1) / to * to; }
inline long ceil_div(long n, long by) { return (n + by - 1) / by; }
inline long least(long a, long b) { return a < b ? a : b; }
inline long most(long a, long b) { return a > b ? a : b; }

// Compile-time lists of lane numbers, for shuffles.
template <int... L> struct Lanes {};
template <int N, int... L> struct Count : Count<N - 1, N - 1, L...> {};
template <int... L> struct Count<0, L...> { typedef Lanes<L...> Type; };

// Lanes with bit `S` clear come from `a`, the others from `b` moved up by S (low) or left in place (high).
template <class T, int S, int... L> INLINE typename Simd<T>::V low(typename Simd<T>::V a, typename Simd<T>::V b, Lanes<L...>) {
  return __builtin_shufflevector(a, b, ((L & S) ? int(sizeof...(L)) + L - S : L)...);
}
template <class T, int S, int... L> INLINE typename Simd<T>::V high(typename Simd<T>::V a, typename Simd<T>::V b, Lanes<L...>) {
  return __builtin_shufflevector(a, b, ((L & S) ? int(sizeof...(L)) + L : L + S)...);
}

// Eklundh's transposition of an N x N block: exchange blocks of N/2, N/4, ..., 1.
template <class T, int S> INLINE void transpose_stage(typename Simd<T>::V* r) {
  typedef typename Count<Simd<T>::N>::Type All;
  for (int i = 0; i < Simd<T>::N; i++)
    if (!(i & S)) {
      auto a = r[i], b = r[i + S];
      r[i] = low<T, S>(a, b, All());
      r[i + S] = high<T, S>(a, b, All());
    }
  if constexpr (S > 1) transpose_stage<T, S / 2>(r);
}
template <class T> INLINE void transpose(typename Simd<T>::V* r) { transpose_stage<T, Simd<T>::N / 2>(r); }

// x and y of N pairs that lie one after the other; and pairs again.
template <class T, int... L> INLINE void split_pairs(const T* p, T* x, T* y, Lanes<L...>) {
  auto a = Simd<T>::load(p), b = Simd<T>::load(p + Simd<T>::N);
  Simd<T>::store(x, __builtin_shufflevector(a, b, (2 * L)...));
  Simd<T>::store(y, __builtin_shufflevector(a, b, (2 * L + 1)...));
}
template <class T> inline void split_pairs(const T* p, long n, T* x, T* y) {
  long i = 0;
  for (; i + Simd<T>::N <= n; i += Simd<T>::N) split_pairs<T>(p + 2 * i, x + i, y + i, typename Count<Simd<T>::N>::Type());
  for (; i < n; i++) x[i] = p[2 * i], y[i] = p[2 * i + 1];
}

// N vectors to one: lane i is what vector i's lanes come to, their sum or the largest.
template <class T> struct Plus { static INLINE typename Simd<T>::V of(typename Simd<T>::V a, typename Simd<T>::V b) { return a + b; } };
template <class T> struct Most { static INLINE typename Simd<T>::V of(typename Simd<T>::V a, typename Simd<T>::V b) { return a > b ? a : b; } };
template <class T, class F, int S> INLINE typename Simd<T>::V fold_stage(typename Simd<T>::V* r) {
  typedef typename Count<Simd<T>::N>::Type All;
  for (int i = 0; i < S; i++) r[i] = F::of(low<T, S>(r[i], r[i + S], All()), high<T, S>(r[i], r[i + S], All()));
  if constexpr (S > 1) return fold_stage<T, F, S / 2>(r);
  return r[0];
}
template <class T> INLINE typename Simd<T>::V sum_lanes(typename Simd<T>::V* r) { return fold_stage<T, Plus<T>, Simd<T>::N / 2>(r); }
template <class T> INLINE typename Simd<T>::V most_lanes(typename Simd<T>::V* r) { return fold_stage<T, Most<T>, Simd<T>::N / 2>(r); }

// Whether each lane is among the first `n`.
template <class T, int... L> INLINE typename Simd<T>::VI among(long n, Lanes<L...>) { return typename Simd<T>::VI{L...} < typename Lane<T>::Int(n); }
template <class T> INLINE typename Simd<T>::VI among(long n) { return among<T>(n, typename Count<Simd<T>::N>::Type()); }

// A vector of which `n` lanes matter; the others are whatever follows, or 0 where that would be past `end`.
template <class T> INLINE typename Simd<T>::V load_inside(const T* p, long n, const T* end) {
  return Simd<T>::load_some(p, end - p >= Simd<T>::N ? (long)Simd<T>::N : n, T(0));
}

// dst[c][r] = src[r][c] for `rows` x `cols`; rows missing to a multiple of N are written as zeros. Memory may be read up to `end`.
template <class T> inline void transpose_into(const T* src, long src_row, long rows, long cols, T* dst, long dst_row, const T* end) {
  typedef Simd<T> S;
  constexpr long N = S::N;
  for (long r = 0; r < rows; r += N)
    for (long c = 0; c < cols; c += N) {
      typename S::V block[N];
      for (long i = 0; i < N; i++)
        block[i] = r + i < rows ? load_inside<T>(src + (r + i) * src_row + c, cols - c, end) : typename S::V{};
      transpose<T>(block);
      for (long i = 0; i < least(N, cols - c); i++) S::store(dst + (c + i) * dst_row + r, block[i]);
    }
}

// The same, but only `rows` numbers are written to each row of dst.
template <class T> inline void transpose_exact(const T* src, long src_row, long rows, long cols, T* dst, long dst_row, const T* end) {
  typedef Simd<T> S;
  constexpr long N = S::N;
  for (long c = 0; c < cols; c += N)
    for (long r = 0; r < rows; r += N) {
      typename S::V block[N];
      for (long i = 0; i < N; i++)
        block[i] = r + i < rows ? load_inside<T>(src + (r + i) * src_row + c, cols - c, end) : typename S::V{};
      transpose<T>(block);
      for (long i = 0; i < least(N, cols - c); i++) S::store_some(dst + (c + i) * dst_row + r, block[i], rows - r);
    }
}

// Hands out parts of one buffer, aligned to cache lines; with a null buffer it only counts.
struct Arena {
  char* base;
  long used;
  explicit Arena(char* b) : base(b), used(0) {}
  template <class T> T* take(long n) {
    T* p = base ? (T*)(base + used) : nullptr;
    used += round_up(n * (long)sizeof(T), 64);
    return p;
  }
};

}  // namespace ISA
