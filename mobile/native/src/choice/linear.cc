#include "choice/linear.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"

namespace xpert {

namespace {

constexpr int kMostSweeps = 60;

/** Turns two columns, and what belongs to them, until they are at right angles; false where they are already. */
bool turn(Vector &a, Vector &b, Vector &with_a, Vector &with_b) {
  const double aa = dot(a.data(), a.data(), a.size()), bb = dot(b.data(), b.data(), b.size()), ab = dot(a.data(), b.data(), a.size());
  if (std::abs(ab) <= std::numeric_limits<double>::epsilon() * std::sqrt(aa * bb)) return false;
  const double zeta = (bb - aa) / (2 * ab);
  const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::hypot(1, zeta));
  const double c = 1 / std::hypot(1, t), s = c * t;
  auto rotate = [c, s](Vector &x, Vector &y) {
    for (size_t i = 0; i < x.size(); ++i) {
      const double left = x[i];
      x[i] = c * left - s * y[i];
      y[i] = s * left + c * y[i];
    }
  };
  rotate(a, b);
  rotate(with_a, with_b);
  return true;
}

}  // namespace

double dot(const double *a, const double *b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

double trace(const Matrix &a) {
  double sum = 0;
  for (size_t i = 0; i < a.n_rows(); ++i) sum += a.at(i, i);
  return sum;
}

Vector multiply(const Matrix &a, const Vector &x) {
  Vector out(a.n_rows());
  for (size_t i = 0; i < a.n_rows(); ++i) out[i] = dot(a.row(i), x.data(), a.n_columns());
  return out;
}

Vector multiply(const double *x, const Matrix &a) {
  Vector out(a.n_columns());
  for (size_t i = 0; i < a.n_rows(); ++i) {
    const double *row = a.row(i);
    for (size_t j = 0; j < a.n_columns(); ++j) out[j] += x[i] * row[j];
  }
  return out;
}

Vector mean_of_rows(const Matrix &a) {
  Vector sum(a.n_columns());
  for (size_t i = 0; i < a.n_rows(); ++i) {
    for (size_t j = 0; j < a.n_columns(); ++j) sum[j] += a.at(i, j);
  }
  for (double &value : sum) value /= static_cast<double>(a.n_rows());
  return sum;
}

bool factor(const Matrix &a, Matrix &lower) {
  const size_t n = a.n_rows();
  lower = Matrix(n, n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      const double rest = a.at(i, j) - dot(lower.row(i), lower.row(j), j);
      if (i != j) {
        lower.at(i, j) = rest / lower.at(j, j);
      } else if (rest > 0 && std::isfinite(rest)) {
        lower.at(i, i) = std::sqrt(rest);
      } else {
        return false;
      }
    }
  }
  return true;
}

void solve_rows(const Matrix &lower, Matrix &b) {
  const size_t n = lower.n_rows();
  for (size_t r = 0; r < b.n_rows(); ++r) {
    double *x = b.row(r);
    for (size_t i = 0; i < n; ++i) x[i] = (x[i] - dot(lower.row(i), x, i)) / lower.at(i, i);
    for (size_t i = n; i-- > 0;) {
      for (size_t j = i + 1; j < n; ++j) x[i] -= lower.at(j, i) * x[j];
      x[i] /= lower.at(i, i);
    }
  }
}

Matrix inverse(const Matrix &a, const char *what) {
  Matrix lower, out(a.n_rows(), a.n_rows());
  if (!factor(a, lower)) bad_file(std::string("The ") + what + " of the catalogue is no covariance. Fetch the catalogue again.");
  for (size_t i = 0; i < a.n_rows(); ++i) out.at(i, i) = 1;
  solve_rows(lower, out);
  return out;
}

Vector least_squares(std::vector<Vector> columns, const Vector &target) {
  const size_t n = columns.size(), m = target.size();
  std::vector<Vector> turned(n, Vector(n));
  for (size_t i = 0; i < n; ++i) turned[i][i] = 1;
  bool more = true;
  for (int sweep = 0; more && sweep < kMostSweeps; ++sweep) {
    more = false;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = i + 1; j < n; ++j) more = turn(columns[i], columns[j], turned[i], turned[j]) || more;
    }
  }
  double largest = 0;
  for (const Vector &column : columns) largest = std::max(largest, std::sqrt(dot(column.data(), column.data(), m)));
  const double least = std::numeric_limits<double>::epsilon() * static_cast<double>(std::max(n, m)) * largest;
  Vector x(n);
  for (size_t i = 0; i < n; ++i) {
    const double square = dot(columns[i].data(), columns[i].data(), m);
    if (!(std::sqrt(square) > least)) continue;  // a direction that the columns do not have
    const double along = dot(columns[i].data(), target.data(), m) / square;
    for (size_t j = 0; j < n; ++j) x[j] += along * turned[i][j];
  }
  return x;
}

}  // namespace xpert
