// AVX2 with FMA: 16 registers of 32 bytes; 6 x 2 sums, 2 lines, 1 broadcast.
#if defined(__x86_64__)
#include <omp.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#define ISA attnviz_avx2
#define VECTOR_BYTES 32
#define MICRO_ROWS 6
#include "kernels.hpp"

const attnviz::Table attnviz::avx2_kernels = {ATTNVIZ_TABLES};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
