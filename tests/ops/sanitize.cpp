// Every kernel on random shapes and wild numbers, each tensor and the scratch in its own exact allocation, so that the
// address sanitizer sees one element too many. Built by sanitize.sh for several vector lengths.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels.hpp"

namespace {

std::mt19937 draw(0);
long between(long low, long high) { return std::uniform_int_distribution<long>(low, high)(draw); }

template <class T> struct Tensors {
  std::vector<void*> all;
  ~Tensors() {
    for (void* p : all) free(p);
  }
  T* add(long n, double spread, bool wild = false) {
    T* p = (T*)malloc(n * sizeof(T));
    std::normal_distribution<double> normal(0, spread);
    const double odd[] = {NAN, INFINITY, -INFINITY, 1e30, -1e30, -1, 0, 1e9};
    for (long i = 0; i < n; i++) p[i] = T(wild && between(0, 9) == 0 ? odd[between(0, 7)] : normal(draw));
    all.push_back(p);
    return p;
  }
  T* none() {
    all.push_back(nullptr);
    return nullptr;
  }
};

template <class T> void run(attnviz::Kernel kernel, const std::vector<int64_t>& shape, Tensors<T>& t) {
  for (long threads : {1L, 3L}) {
    const int64_t bytes = kernel(shape.data(), threads, t.all.data(), nullptr);
    char* scratch = nullptr;
    if (bytes < 0 || posix_memalign((void**)&scratch, 64, bytes ? bytes : 64)) abort();
    memset(scratch, 0xff, bytes);  // NaN wherever something is read before it was written
    if (kernel(shape.data(), threads, t.all.data(), scratch)) abort();
    free(scratch);
  }
}

template <class T> void windows() {
  const long groups = between(1, 3), og = between(1, 3), c = groups * og * between(1, 13), out = groups * between(1, 19);
  const long n = between(1, 3), kh = between(1, 4), kw = between(1, 5), h = between(1, 9), w = between(1, 9);
  const long oh = between(1, 9), ow = between(1, 9), taps = kh * kw, last = between(0, 1);
  const std::vector<int64_t> shape = {n, c, h, w, out, kh, kw, oh, ow, between(1, 2), between(1, 2), between(0, 2), between(0, 2), between(1, 2), between(1, 2), groups, og,
                                      c * h * w, last ? 1 : h * w, last ? c : 1};
  const bool masked = between(0, 1);
  auto inputs = [&](Tensors<T>& t) {
    t.add(n * c * h * w, 1, true);
    t.add(n * og * 2 * taps * oh * ow, 2, true);
    masked ? t.add(n * og * taps * oh * ow, 1) : t.none();
  };
  auto grads = [&](Tensors<T>& t) {
    t.add(n * c * h * w, 0);
    t.add(n * og * 2 * taps * oh * ow, 0);
    masked ? t.add(n * og * taps * oh * ow, 0) : t.none();
  };
  {
    Tensors<T> t;
    inputs(t);
    t.add(out * c / groups * taps, 1);
    between(0, 1) ? t.add(out, 1) : t.none();
    t.add(n * out * oh * ow, 0);
    run<T>(ISA::conv_forward<T>, shape, t);
  }
  {
    Tensors<T> t;
    t.add(n * out * oh * ow, 1);
    inputs(t);
    t.add(out * c / groups * taps, 1);
    grads(t);
    t.add(out * c / groups * taps, 0);
    run<T>(ISA::conv_backward<T>, shape, t);
  }
  {
    Tensors<T> t;
    inputs(t);
    t.add(n * c * oh * ow, 0);
    run<T>(ISA::sample_forward<T>, shape, t);
  }
  Tensors<T> t;
  t.add(n * c * oh * ow, 1);
  inputs(t);
  grads(t);
  run<T>(ISA::sample_backward<T>, shape, t);
}

template <class T> void attention() {
  const long n = between(1, 2), heads = between(1, 3), depth = between(0, 1) ? 16 : between(1, 21), queries = between(1, 40), levels = between(1, 3), points = between(1, 4);
  std::vector<int64_t> shape = {n, 0, heads, depth, queries, levels, points};
  long rows = 0;
  for (long l = 0; l < levels; l++) {
    const long h = between(1, 7), w = between(1, 7);
    shape.insert(shape.end(), {h, w, rows});
    rows += h * w;
  }
  shape[1] = rows;
  const long samples = n * queries * heads * levels * points;
  auto inputs = [&](Tensors<T>& t) {
    t.add(n * rows * heads * depth, 1, true);
    t.add(samples * 2, 1, true);
    t.add(samples, 1);
  };
  {
    Tensors<T> t;
    inputs(t);
    t.add(n * queries * heads * depth, 0);
    run<T>(ISA::attention_forward<T>, shape, t);
  }
  Tensors<T> t;
  t.add(n * queries * heads * depth, 1);
  inputs(t);
  t.add(n * rows * heads * depth, 0);
  t.add(samples * 2, 0);
  t.add(samples, 0);
  run<T>(ISA::attention_backward<T>, shape, t);
}

// Queries, keys and values with heads behind positions, as models have them; what is added to the scores in each of its shapes.
void softmax() {
  const long n = between(1, 3), heads = between(1, 4), queries = between(1, 40), keys = between(1, 40), depth = between(1, 21), width = between(0, 1) ? 16 : between(1, 21);
  const long kind = between(0, 3);
  const double scale = 0.5;
  std::vector<int64_t> shape = {n, heads, queries, keys, depth, width};
  for (long rows : {queries, keys}) shape.insert(shape.end(), {rows * heads * depth, depth, heads * depth});
  shape.insert(shape.end(), {keys * heads * width, width, heads * width});
  const std::vector<std::vector<int64_t>> steps = {{0, 0, 0, 0}, {0, 0, keys, 1}, {keys, 0, 0, 1}, {queries, 0, 1, 0}};
  shape.insert(shape.end(), steps[kind].begin(), steps[kind].end());
  const bool turned = between(0, 1);  // the output's heads behind its positions, or before
  shape.insert(shape.end(), {heads * queries * width, turned ? width : queries * width, turned ? heads * width : width});
  shape.push_back(0);
  memcpy(&shape.back(), &scale, sizeof scale);
  Tensors<float> t;
  t.add(n * queries * heads * depth, 1, true);
  t.add(n * keys * heads * depth, 1, true);
  t.add(n * keys * heads * width, 1, true);
  if (kind) t.add(kind == 1 ? queries * keys : kind == 2 ? n * keys : n * queries, 1, true);
  else t.none();
  t.add(n * heads * queries * keys, 0);
  t.add(n * queries * heads * width, 0);
  run<float>(ISA::softmax_forward, shape, t);
}

}  // namespace

int main() {
  for (int i = 0; i < 40; i++) {
    windows<float>();
    windows<double>();
    attention<float>();
    attention<double>();
    softmax();
  }
  printf("%d-byte vectors: clean\n", VECTOR_BYTES);
}
