// The kernels of one instruction set, as a table. Include it last in a kernels_<isa>.cpp file.
#pragma once
#include "attention.hpp"
#include "conv_backward.hpp"
#include "sample.hpp"
#include "softmax.hpp"
#include "table.hpp"

#define ATTNVIZ_TABLE(T, SOFTMAX)                                                                                  \
  { ISA::conv_forward<T>, ISA::conv_backward<T>, ISA::sample_forward<T>, ISA::sample_backward<T>, ISA::attention_forward<T>, ISA::attention_backward<T>, SOFTMAX }
#define ATTNVIZ_TABLES {ATTNVIZ_TABLE(float, ISA::softmax_forward), ATTNVIZ_TABLE(double, nullptr)}
