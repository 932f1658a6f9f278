// Choosing the nearest pLLM or abstaining, as xpert.core.selection.select without the base's answers.

import type { Candidates } from "./catalogue";
import { matrix, mean, row, type Matrix } from "./linear";
import { meanNoise, misfit, posterior, twins } from "./posterior";

const MIN_MARGIN = 0.1;
const MISFIT_LIMIT = 1.05;
const NOVELTY_LIMIT = 0.65;
const MIN_CONFIDENCE = 0.5;
const SELECTION_COST = 0.02;
const SAVINGS: readonly (readonly [number, number])[] = [
  [0, 0],
  [0.3, 0.055],
  [0.5, 0.164],
  [0.7, 0.42],
  [0.8, 0.664],
  [0.9, 0.817],
];
const N_BOOTSTRAP = 1000;

export interface Match {
  readonly name: string;
  readonly probability: number;
  readonly similarity: number;
  readonly adapterBytes: number;
}

export interface UserWord {
  readonly word: string;
  readonly coefficient: number;
  readonly lower: number;
  readonly upper: number;
}

export interface Selection {
  readonly matches: readonly Match[];
  readonly choice: string | null;
  readonly reason: string;
  readonly margin: number;
  readonly expectedSaving: number;
  readonly misfit: number;
  readonly novelty: number;
  readonly words: readonly UserWord[];
  readonly nTexts: number;
}

/**
 * Chooses for texts whose coefficients are `texts`, (n_texts, n_axes). `label` turns a name of the catalogue into one for people.
 */
export function select(
  texts: Matrix,
  candidates: Candidates,
  options: { readonly novelty: number; readonly label?: (name: string) => string },
): Selection {
  if (texts.rows === 0) throw new Error("There are no texts to choose by. Give at least one, better 10 or more.");
  const single = matrix(texts.rows, texts.columns, texts.data.map((x, i) => x - candidates.baseCoefficients[i % texts.columns]!));
  if (!single.data.every(Number.isFinite)) throw new Error("A text's coefficients are NaN or infinite: the encoder is broken.");
  const value = mean(single);
  const noise = meanNoise(candidates, texts.rows, { paired: false });
  const { score, share } = posterior(value, candidates, noise);
  const probability = softmax(score);
  const order = Array.from(probability.keys()).sort((a, b) => probability[b]! - probability[a]! || a - b);
  const label = options.label ?? ((name: string) => name);
  const matches = order.map((i) => ({
    name: label(candidates.names[i]!),
    probability: probability[i]!,
    similarity: share[i]!,
    adapterBytes: candidates.adapterBytes[i]!,
  }));
  const same = twins(candidates, order[0]!);
  const near = matches.filter((_, at) => same[order[at]!]);
  const rival = matches.find((_, at) => !same[order[at]!]);
  const lead = near.reduce((sum, m) => sum + m.probability, 0);
  const expectedSaving = near.reduce((sum, m) => sum + m.probability * saving(m.similarity), 0);
  const found = {
    first: matches[0]!,
    rival,
    expectedSaving,
    misfit: misfit(value, candidates, noise),
    novelty: options.novelty,
    doubt: lead < MIN_CONFIDENCE || lead - (rival?.probability ?? 0) < MIN_MARGIN,
  };
  const against = reasonToAbstain(found);
  return {
    matches,
    choice: against ? null : found.first.name,
    reason: against || `'${found.first.name}' is the nearest, and near enough to start from.`,
    margin: found.first.probability - (matches[1]?.probability ?? 0),
    expectedSaving,
    misfit: found.misfit,
    novelty: found.novelty,
    words: userWords(single, candidates.words),
    nTexts: texts.rows,
  };
}

function softmax(score: Float64Array): Float64Array {
  const top = Math.max(...score);
  const found = score.map((s) => Math.exp(s - top));
  const total = found.reduce((a, b) => a + b, 0);
  return found.map((p) => p / total);
}

function saving(similarity: number): number {
  const last = SAVINGS[SAVINGS.length - 1]!;
  if (similarity >= last[0]) return last[1] - SELECTION_COST;
  const i = Math.max(SAVINGS.findIndex(([x]) => x > similarity), 1);
  const [x0, y0] = SAVINGS[i - 1]!;
  const [x1, y1] = SAVINGS[i]!;
  return y0 + ((y1 - y0) * (similarity - x0)) / (x1 - x0) - SELECTION_COST;
}

interface Found {
  readonly first: Match;
  readonly rival: Match | undefined;
  readonly expectedSaving: number;
  readonly misfit: number;
  readonly novelty: number;
  readonly doubt: boolean;
}

function reasonToAbstain({ first, rival, expectedSaving, misfit: fit, novelty, doubt }: Found): string {
  const percent = (x: number) => `${Math.round(100 * x)}%`;
  if (fit > MISFIT_LIMIT) {
    return (
      `Near nothing: '${first.name}' is the best match, but what it leaves unexplained is ${fit.toFixed(2)} of what it ` +
      `explains; up to ${MISFIT_LIMIT} is a known style. Start from the base, or from a merge.`
    );
  }
  if (novelty > NOVELTY_LIMIT) {
    return (
      `Near nothing: the texts share a manner that no word describes, ${novelty.toFixed(2)} of what the words describe; up to ` +
      `${NOVELTY_LIMIT} is a known style. Start from the base, or build a space with exemplars of this style.`
    );
  }
  if (doubt) {
    const second = rival ? `, '${rival.name}' ${percent(rival.probability)}` : "";
    return `Too close to call: '${first.name}' has ${percent(first.probability)}${second}. Give more texts, or merge the two.`;
  }
  if (expectedSaving <= 0) {
    return (
      `It would not pay: about ${percent(first.similarity)} of the texts are in the style of '${first.name}', which saves ` +
      "less than choosing costs. Start from the base."
    );
  }
  return "";
}

/** The user's own words with 95 % bootstrap intervals over the texts, strongest first. */
function userWords(single: Matrix, words: readonly string[]): UserWord[] {
  const value = mean(single);
  const draws = words.map(() => new Float64Array(N_BOOTSTRAP));
  const random = mulberry(1);
  for (let b = 0; b < N_BOOTSTRAP; b++) {
    for (let t = 0; t < single.rows; t++) {
      const picked = row(single, Math.floor(random() * single.rows));
      picked.forEach((x, j) => (draws[j]![b] = draws[j]![b]! + x / single.rows));
    }
  }
  return words
    .map((word, j) => {
      const sorted = draws[j]!.sort();
      return { word, coefficient: value[j]!, lower: quantile(sorted, 0.025), upper: quantile(sorted, 0.975) };
    })
    .sort((a, b) => Math.abs(b.coefficient) - Math.abs(a.coefficient));
}

function quantile(sorted: Float64Array, q: number): number {
  const at = q * (sorted.length - 1);
  const i = Math.floor(at);
  return sorted[i]! + (at - i) * ((sorted[i + 1] ?? sorted[i]!) - sorted[i]!);
}

/** A seeded generator: the same texts get the same intervals. */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
