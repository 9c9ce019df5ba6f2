// What every instruction set offers: one function per op, in float and double.
#pragma once
#include <stdint.h>

namespace attnviz {

// With a null scratch, a kernel only returns how many bytes it needs there.
typedef int64_t (*Kernel)(const int64_t* shape, long threads, void* const* tensors, char* scratch);
enum { OPS = 7 };
struct Table {
  Kernel kernels[2][OPS];  // float, double; null where there is none
};

extern const Table portable_kernels;
#if defined(__x86_64__)
extern const Table avx2_kernels, avx512_kernels;
#endif

}  // namespace attnviz
