// The mixture model of selection, as xpert.core.posterior; the one file to follow when that changes.

import type { Candidates } from "./catalogue";
import { combine, identity, inverse, matrix, minus, multiply, quadratic, row, trace, type Matrix, type Vector } from "./linear";

const N_SHARES = 17;
const SHARES = Array.from({ length: N_SHARES }, (_, i) => 0.2 + (0.8 * i) / (N_SHARES - 1));
const SHARE_PRIOR = SHARES.map((_, i) => (i === N_SHARES - 1 ? 0.9 : 0.1 / (N_SHARES - 1)));
const MISFIT_SHARES = [...SHARES, ...Array.from({ length: 10 }, (_, i) => 1.05 + (0.45 * i) / 9)];
const MISFIT_CEILING = 1e3;
const UNPAIRED_NOISE = 1.5;
const SHRINKAGE = 0.2;
const SINGLE_SHRINKAGE = 0.5;

const shrunk = (noise: Matrix, shrinkage: number): Matrix =>
  combine(noise, 1 - shrinkage, identity(noise.rows), (shrinkage * trace(noise)) / noise.rows + 1e-9);

/** Covariance of (user's mean - pLLM's mean) when they share one style. */
export function meanNoise(candidates: Candidates, nTexts: number, options: { readonly paired: boolean }): Matrix {
  const factor = (1 / nTexts + 1 / candidates.nProbes) * (options.paired ? 1 : UNPAIRED_NOISE);
  const noise = matrix(candidates.noise.rows, candidates.noise.columns, candidates.noise.data.map((value) => value * factor));
  return shrunk(noise, SHRINKAGE);
}

function centre(candidates: Candidates): Vector {
  const { rows, columns } = candidates.coefficients;
  const found = new Float64Array(columns);
  for (let i = 0; i < rows; i++) row(candidates.coefficients, i).forEach((x, j) => (found[j] = found[j]! + x / (rows + 1)));
  return found;
}

/** Log posterior up to a constant and expected share of the texts in each pLLM's style. */
export function posterior(value: Vector, candidates: Candidates, noise: Matrix): { score: Vector; share: Vector } {
  const metric = inverse(noise);
  const middle = centre(candidates);
  const n = candidates.coefficients.rows;
  const score = new Float64Array(n);
  const share = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const line = minus(row(candidates.coefficients, i), middle);
    const log = SHARES.map((a, s) => {
      const gap = value.map((v, j) => v - middle[j]! - a * line[j]!);
      return -0.5 * quadratic(gap, metric) + Math.log(SHARE_PRIOR[s]!);
    });
    const top = Math.max(...log);
    const weights = log.map((l) => Math.exp(l - top));
    const total = weights.reduce((a, b) => a + b, 0);
    score[i] = top + Math.log(total);
    share[i] = weights.reduce((sum, w, s) => sum + (w / total) * SHARES[s]!, 0);
  }
  return { score, share };
}

/** How badly the best pLLM explains a user's mean coefficients, whatever the share and strength. */
export function misfit(value: Vector, candidates: Candidates, noise: Matrix): number {
  const metric = inverse(shrunk(candidates.noise, SINGLE_SHRINKAGE));
  const middle = centre(candidates);
  let best = Infinity;
  let explained = 0;
  for (let i = 0; i < candidates.coefficients.rows; i++) {
    const line = minus(row(candidates.coefficients, i), middle);
    for (const a of MISFIT_SHARES) {
      const part = line.map((x) => a * x);
      const left = quadratic(value.map((v, j) => v - middle[j]! - part[j]!), metric);
      if (left < best) [best, explained] = [left, quadratic(part, metric)];
    }
  }
  const beyond = Math.max(best - trace(multiply(metric, noise)), 0);
  return explained > 0 ? Math.min(Math.sqrt(beyond / explained), MISFIT_CEILING) : MISFIT_CEILING;
}

/** The pLLMs that the probes cannot tell from the one at `first`, itself included. */
export function twins(candidates: Candidates, first: number): boolean[] {
  const metric = inverse(meanNoise(candidates, candidates.nProbes, { paired: true }));
  const k = candidates.coefficients.columns;
  const limit = k + 1.645 * Math.sqrt(2 * k);
  return Array.from({ length: candidates.coefficients.rows }, (_, i) => {
    const gap = minus(row(candidates.coefficients, i), row(candidates.coefficients, first));
    return quadratic(gap, metric) <= limit;
  });
}
