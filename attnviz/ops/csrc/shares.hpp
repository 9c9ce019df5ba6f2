// Work shared by threads so that each keeps to its own part of memory: contiguous parts, one for each thread, and who is done helps the others.
#pragma once
#include "vector.hpp"

namespace ISA {

// Several rounds of work; every cursor has a cache line of its own. Which thread does an item never changes its numbers.
struct Shares {
  static constexpr long LINE = 8;
  int64_t* cursors;
  int64_t* counts;
  long threads;
  Shares(Arena& arena, long n, long rounds = 1) : cursors(arena.take<int64_t>(rounds * n * LINE)), counts(arena.take<int64_t>(rounds)), threads(n) {}
  void start(long round, long count) {
    counts[round] = count;
    for (long owner = 0; owner < threads; owner++) cursors[(round * threads + owner) * LINE] = count * owner / threads;
  }
  template <class F> INLINE void run(long round, long me, F item) {
    for (long k = 0; k < threads; k++) {
      const long owner = (me + k) % threads, end = counts[round] * (owner + 1) / threads;
      for (long i; (i = __atomic_fetch_add(cursors + (round * threads + owner) * LINE, 1, __ATOMIC_RELAXED)) < end;) item(i);
    }
  }
};

}  // namespace ISA
