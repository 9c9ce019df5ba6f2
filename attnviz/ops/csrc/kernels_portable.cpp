// What every processor of the architecture has: SSE2 on x86-64, NEON on 64-bit ARM.
#define ISA attnviz_portable
#define VECTOR_BYTES 16
#define MICRO_ROWS 6
#include "kernels.hpp"

const attnviz::Table attnviz::portable_kernels = {ATTNVIZ_TABLES};
