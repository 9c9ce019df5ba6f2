// The kernels of one instruction set, as a table. Include it last in a kernels_<isa>.cpp file.
#pragma once
#include "attention.hpp"
#include "conv_backward.hpp"
#include "sample.hpp"
#include "table.hpp"

#define ATTNVIZ_TABLE(T)                                                                                          \
  { ISA::conv_forward<T>, ISA::conv_backward<T>, ISA::sample_forward<T>, ISA::sample_backward<T>, ISA::attention_forward<T>, ISA::attention_backward<T> }
