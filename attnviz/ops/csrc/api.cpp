// The C face of the library: what ctypes calls. No function here throws, allocates or keeps state.
#include "table.hpp"

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

const attnviz::Table* table(int isa) {
#if defined(__x86_64__)
  if (isa == 2) return &attnviz::avx512_kernels;
  if (isa == 1) return &attnviz::avx2_kernels;
#endif
  return isa == 0 ? &attnviz::portable_kernels : nullptr;
}

}  // namespace

// The version of this interface; native.py refuses another.
EXPORT int attnviz_version() { return 2; }

// 2: AVX-512, 1: AVX2, 0: portable; the best that this processor and its operating system can run.
EXPORT int attnviz_best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return 1;
#endif
  return 0;
}

EXPORT const char* attnviz_compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

// Runs one kernel; with a null scratch it returns the bytes needed there, and -1 for an op or an instruction set that it has not.
EXPORT int64_t attnviz_run(int isa, int op, int is_double, const int64_t* shape, int64_t threads, void* const* tensors, char* scratch) {
  const attnviz::Table* t = table(isa);
  if (!t || op < 0 || op >= attnviz::OPS) return -1;
  const attnviz::Kernel kernel = t->kernels[is_double ? 1 : 0][op];
  return kernel ? kernel(shape, threads, tensors, scratch) : -1;
}
