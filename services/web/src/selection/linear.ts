// The little linear algebra that selection needs: dense matrices of some dozens of rows.

export type Vector = Float64Array;

/** A matrix, row by row. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

export function matrix(rows: number, columns: number, values?: ArrayLike<number>): Matrix {
  const data = new Float64Array(rows * columns);
  if (values) {
    if (values.length !== data.length) throw new Error(`${values.length} numbers for ${rows} x ${columns}`);
    data.set(values);
  }
  return { rows, columns, data };
}

export function row(m: Matrix, i: number): Vector {
  return m.data.subarray(i * m.columns, (i + 1) * m.columns);
}

export function stack(rows: readonly ArrayLike<number>[]): Matrix {
  const found = matrix(rows.length, rows[0]?.length ?? 0);
  rows.forEach((values, i) => row(found, i).set(values));
  return found;
}

/** a (n, m) times b (m, k). */
export function multiply(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.rows) throw new Error(`${a.rows} x ${a.columns} times ${b.rows} x ${b.columns}`);
  const found = matrix(a.rows, b.columns);
  for (let i = 0; i < a.rows; i++) {
    const out = row(found, i);
    for (let j = 0; j < a.columns; j++) {
      const factor = a.data[i * a.columns + j]!;
      if (factor === 0) continue;
      const line = row(b, j);
      for (let k = 0; k < out.length; k++) out[k] = out[k]! + factor * line[k]!;
    }
  }
  return found;
}

export function transpose(m: Matrix): Matrix {
  const found = matrix(m.columns, m.rows);
  for (let i = 0; i < m.rows; i++) for (let j = 0; j < m.columns; j++) found.data[j * m.rows + i] = m.data[i * m.columns + j]!;
  return found;
}

export function trace(m: Matrix): number {
  let total = 0;
  for (let i = 0; i < m.rows; i++) total += m.data[i * m.columns + i]!;
  return total;
}

/** Solves a x = b for a positive definite a, by Cholesky. */
export function solve(a: Matrix, b: Matrix): Matrix {
  const n = a.rows;
  const low = matrix(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let value = a.data[i * n + j]!;
      for (let k = 0; k < j; k++) value -= low.data[i * n + k]! * low.data[j * n + k]!;
      if (i === j && !(value > 0)) throw new Error("The matrix is not positive definite: the file is broken.");
      low.data[i * n + j] = i === j ? Math.sqrt(value) : value / low.data[j * n + j]!;
    }
  }
  const x = matrix(b.rows, b.columns, b.data);
  for (let c = 0; c < b.columns; c++) {
    for (let i = 0; i < n; i++) {
      let value = x.data[i * b.columns + c]!;
      for (let k = 0; k < i; k++) value -= low.data[i * n + k]! * x.data[k * b.columns + c]!;
      x.data[i * b.columns + c] = value / low.data[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      let value = x.data[i * b.columns + c]!;
      for (let k = i + 1; k < n; k++) value -= low.data[k * n + i]! * x.data[k * b.columns + c]!;
      x.data[i * b.columns + c] = value / low.data[i * n + i]!;
    }
  }
  return x;
}

export function identity(n: number, value = 1): Matrix {
  const found = matrix(n, n);
  for (let i = 0; i < n; i++) found.data[i * n + i] = value;
  return found;
}

export function combine(a: Matrix, x: number, b: Matrix, y: number): Matrix {
  return matrix(a.rows, a.columns, a.data.map((value, i) => x * value + y * b.data[i]!));
}

export const inverse = (m: Matrix) => solve(m, identity(m.rows));

/** v' m v. */
export function quadratic(v: ArrayLike<number>, m: Matrix): number {
  let total = 0;
  for (let i = 0; i < m.rows; i++) {
    const line = row(m, i);
    let inner = 0;
    for (let j = 0; j < line.length; j++) inner += line[j]! * v[j]!;
    total += v[i]! * inner;
  }
  return total;
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i]! * b[i]!;
  return total;
}

export function mean(m: Matrix): Vector {
  const found = new Float64Array(m.columns);
  for (let i = 0; i < m.rows; i++) row(m, i).forEach((value, j) => (found[j] = found[j]! + value / m.rows));
  return found;
}

export const minus = (a: Vector, b: ArrayLike<number>): Vector => a.map((value, i) => value - b[i]!);
