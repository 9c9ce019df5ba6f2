// AVX-512: 32 registers of 64 bytes; 14 x 2 sums, 2 lines and no more.
#if defined(__x86_64__)
#include <omp.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2")
#endif
#define ISA attnviz_avx512
#define VECTOR_BYTES 64
#define MICRO_ROWS 14
#include "kernels.hpp"

const attnviz::Table attnviz::avx512_kernels = {ATTNVIZ_TABLES};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
