// The style space, as xpert.core.space: raw vectors to coefficients.

import { combine, dot, identity, matrix, multiply, row, solve, stack, trace, transpose, type Matrix } from "./linear";
import { readSafetensors } from "./safetensors";

export interface StyleSpace {
  readonly digest: string;
  readonly encoder: string;
  readonly words: readonly string[];
  readonly nSentence: number;
  readonly sentenceWeight: number;
  readonly offset: ArrayLike<number>;
  readonly scale: ArrayLike<number>;
  readonly whitening: Matrix;
  readonly axes: Matrix;
  /** Whitened differences to coefficients, (dim, n_axes). */
  readonly solver: Matrix;
}

export function readSpace(buffer: ArrayBuffer): StyleSpace {
  const { tensors, header } = readSafetensors(buffer, "xpert-space");
  const [offset, scale, whitening, axes] = ["offset", "scale", "whitening", "axes"].map((name) => {
    const found = tensors.get(name);
    if (!found) throw new Error(`The style space lacks '${name}'. Register it again.`);
    return found;
  });
  const lines = matrix(axes!.shape[0]!, axes!.shape[1]!, axes!.data);
  const gram = multiply(lines, transpose(lines));
  const ridge = (Number(header["ridge"]) * trace(gram)) / gram.rows;
  return {
    digest: String(header["digest"]),
    encoder: String(header["encoder"]),
    words: header["words"] as string[],
    nSentence: Number(header["n_sentence"]),
    sentenceWeight: Number(header["sentence_weight"]),
    offset: offset!.data,
    scale: scale!.data,
    whitening: matrix(whitening!.shape[0]!, whitening!.shape[1]!, whitening!.data),
    axes: lines,
    solver: transpose(solve(combine(gram, 1, identity(gram.rows), ridge), lines)),
  };
}

/** Whitened features of raw vectors, (n_texts, dim). */
export function whiten(space: StyleSpace, raw: readonly ArrayLike<number>[]): Matrix {
  const dim = space.nSentence + space.offset.length;
  const features = raw.map((values) => {
    if (values.length !== dim) throw new Error(`The style space takes ${dim} numbers a text, found ${values.length}.`);
    return Float64Array.from(values, (value, i) => {
      if (i < space.nSentence) return space.sentenceWeight * value;
      const j = i - space.nSentence;
      return Math.tanh((value - space.offset[j]!) / (2 * space.scale[j]!));
    });
  });
  return multiply(stack(features), space.whitening);
}

/** Coefficients of whitened features, (n_texts, n_axes). */
export const coefficients = (space: StyleSpace, whitened: Matrix): Matrix => multiply(whitened, space.solver);

const OUTLIER = 5;

/**
 * The manner that all texts share and no word describes, over what the words describe, as xpert.core.selection.novelty.
 */
export function novelty(
  space: StyleSpace,
  whitened: Matrix,
  found: Matrix,
  origin: { readonly baseCoefficients: ArrayLike<number>; readonly baseUnexplained: ArrayLike<number> },
): number {
  const n = whitened.rows;
  if (n < 2) return 0;
  const described = multiply(found, space.axes);
  const width = whitened.columns - space.nSentence;
  const total = new Float64Array(width);
  const value = new Float64Array(found.columns);
  let own = 0;
  for (let i = 0; i < n; i++) {
    const left = total.map((_, j) => {
      const k = space.nSentence + j;
      const beyond = row(whitened, i)[k]! - row(described, i)[k]! - origin.baseUnexplained[j]!;
      return Math.min(Math.max(beyond, -OUTLIER), OUTLIER);
    });
    own += dot(left, left);
    left.forEach((x, j) => (total[j] = total[j]! + x));
    row(found, i).forEach((x, j) => (value[j] = value[j]! + (x - origin.baseCoefficients[j]!) / n));
  }
  const shared = (dot(total, total) - own) / (n * (n - 1));
  const explained = row(multiply(stack([value]), space.axes), 0);
  return Math.max(shared, 0) / Math.max(dot(explained, explained), 1e-12);
}
