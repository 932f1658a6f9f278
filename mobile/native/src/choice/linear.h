// The linear algebra of the choice: small dense matrices in double precision.
#pragma once

#include <cstddef>
#include <vector>

namespace xpert {

using Vector = std::vector<double>;

/** Numbers row by row. */
class Matrix {
 public:
  Matrix() = default;
  Matrix(size_t n_rows, size_t n_columns) : n_rows_(n_rows), n_columns_(n_columns), values_(n_rows * n_columns) {}

  size_t n_rows() const { return n_rows_; }
  size_t n_columns() const { return n_columns_; }
  double *row(size_t i) { return values_.data() + i * n_columns_; }
  const double *row(size_t i) const { return values_.data() + i * n_columns_; }
  double &at(size_t i, size_t j) { return values_[i * n_columns_ + j]; }
  double at(size_t i, size_t j) const { return values_[i * n_columns_ + j]; }

 private:
  size_t n_rows_ = 0, n_columns_ = 0;
  std::vector<double> values_;
};

double dot(const double *a, const double *b, size_t n);
double trace(const Matrix &a);

/** Matrix times column. */
Vector multiply(const Matrix &a, const Vector &x);

/** Row times matrix. */
Vector multiply(const double *x, const Matrix &a);

/** Mean of the rows. */
Vector mean_of_rows(const Matrix &a);

/** Lower factor of a symmetric matrix, whose upper half is not read; false where it is not positive. */
bool factor(const Matrix &a, Matrix &lower);

/** Solves a x = b for every row of b, given the lower factor of a. */
void solve_rows(const Matrix &lower, Matrix &b);

/** Inverse of a positive symmetric matrix; what says what it is, for the message where it is not. */
Matrix inverse(const Matrix &a, const char *what);

/** The shortest x that brings columns x nearest to target; a column is a list of numbers. As numpy's lstsq. */
Vector least_squares(std::vector<Vector> columns, const Vector &target);

}  // namespace xpert
