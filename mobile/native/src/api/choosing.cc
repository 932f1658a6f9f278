// Texts to vectors, coefficients and choices.
#include <algorithm>
#include <optional>

#include "api/boundary.h"
#include "api/engine.h"
#include "choice/catalogue.h"

using xpert::guarded;
using xpert::need;
using xpert::Turn;

extern "C" {

xpert_status xpert_encode(xpert_engine engine, const xpert_text *texts, size_t n, float *vectors) {
  return guarded([&] {
    const xpert::Texts all = xpert::views(texts, n, "texts");
    if (n) need(vectors, "vectors");
    Turn turn(engine);
    const std::vector<float> found = turn->chooser().encode(all, [&] { turn->pause(); });
    std::copy(found.begin(), found.end(), vectors);
  });
}

xpert_status xpert_coefficients(xpert_engine engine, const xpert_text *texts, size_t n, double *coefficients) {
  return guarded([&] {
    const xpert::Texts all = xpert::views(texts, n, "texts");
    if (n) need(coefficients, "coefficients");
    Turn turn(engine);
    const std::vector<double> found = turn->chooser().coefficients(all, [&] { turn->pause(); });
    std::copy(found.begin(), found.end(), coefficients);
  });
}

xpert_status xpert_select(xpert_engine engine, const char *catalogue, const xpert_text *texts, const xpert_text *base_answers, size_t n,
                          const char *options, char **selection) {
  return guarded([&] {
    need(catalogue, "catalogue");
    need(selection, "selection");
    const xpert::Texts all = xpert::views(texts, n, "texts");
    std::optional<xpert::Texts> answers;
    if (base_answers) answers = xpert::views(base_answers, n, "base_answers");
    Turn turn(engine);
    xpert::give(turn->chooser().select(catalogue, all, answers, options, [&] { turn->pause(); }), selection);
  });
}

xpert_status xpert_describe_cells(const char *index, const char *request, char **description) {
  return guarded([&] {
    need(index, "index");
    need(description, "description");
    xpert::give(xpert::describe_cells(index, request), description);
  });
}

xpert_status xpert_nearest_cells(xpert_engine engine, const char *index, const xpert_text *texts, size_t n, char **cells) {
  return guarded([&] {
    need(index, "index");
    need(cells, "cells");
    const xpert::Texts all = xpert::views(texts, n, "texts");
    Turn turn(engine);
    xpert::give(turn->chooser().nearest_cells(index, all, [&] { turn->pause(); }), cells);
  });
}

}  // extern "C"
