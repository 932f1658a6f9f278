// The page's numbers against Python's, on StyleBank's and the example users' texts; tools/golden.py writes Python's.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as ort from "onnxruntime-web";
import { WordPieces } from "../../src/encoder/wordpiece";
import { MAX_TOKENS } from "../../src/encoder/messages";
import { readCatalogue } from "../../src/selection/catalogue";
import { mean, minus, row, stack } from "../../src/selection/linear";
import { meanNoise, misfit, posterior } from "../../src/selection/posterior";
import { select } from "../../src/selection/selection";
import { coefficients, novelty, readSpace, whiten } from "../../src/selection/space";
import { SURFACE_NAMES, surfaceStatistics } from "../../src/selection/surface";

interface Golden {
  surface_names: string[];
  space_digest: string;
  texts: string[];
  tokens: number[][];
  surface: number[][];
  embeddings: string;
  coefficients: number[][];
  novelty: number;
  users: {
    user: string;
    texts: string[];
    coefficients: number[][];
    score: number[];
    share: number[];
    misfit: number;
    selection: {
      choice: string | null;
      reason: string;
      margin: number;
      expected_saving: number;
      novelty: number;
      matches: [string, number, number, number][];
      words: [string, number, number, number][];
    };
  }[];
}

const file = (path: string) => readFileSync(new URL(path, import.meta.url));
const buffer = (path: string): ArrayBuffer => new Uint8Array(file(path)).buffer;

const golden = JSON.parse(file("../golden.json").toString()) as Golden;
const space = readSpace(buffer("../../../../sdk/src/xpert/data/default.space.safetensors"));
const candidates = readCatalogue(buffer("../../mock/data/starter.xcat.safetensors"));
const nBank = golden.texts.indexOf("");

const packed = new Uint8Array(Buffer.from(golden.embeddings, "base64")).buffer;
const embeddings = golden.texts.map((_, i) => new Float32Array(packed, 4 * i * space.nSentence, space.nSentence));
const raw = golden.texts.map((_, i) => [...embeddings[i]!, ...golden.surface[i]!]);

function expectNear(found: ArrayLike<number>, expected: ArrayLike<number>, within: number): void {
  expect(found.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(found[i]! - expected[i]!), `at ${i}: ${found[i]} against ${expected[i]}`).toBeLessThanOrEqual(within);
  }
}

test("the statistics have Python's names in Python's order", () => {
  expect(SURFACE_NAMES).toEqual(golden.surface_names);
});

test.each(golden.texts.map((text, i) => [i, text] as const))("statistics of text %i are Python's", (i, text) => {
  expectNear(surfaceStatistics(text), golden.surface[i]!, 2e-5);
});

test("the space and the catalogue belong together", () => {
  expect(space.digest).toBe(golden.space_digest);
  expect(candidates.spaceDigest).toBe(space.digest);
  expect(candidates.words).toEqual(space.words);
});

test("projection gives Python's coefficients", () => {
  const found = coefficients(space, whiten(space, raw));
  golden.coefficients.forEach((expected, i) => expectNear(row(found, i), expected, 2e-5));
});

test("novelty is Python's", () => {
  const whitened = whiten(space, raw.slice(0, nBank));
  expect(novelty(space, whitened, coefficients(space, whitened), candidates)).toBeCloseTo(golden.novelty, 5);
  expect(novelty(space, whiten(space, raw.slice(0, 1)), coefficients(space, whiten(space, raw.slice(0, 1))), candidates)).toBe(0);
});

describe.each(golden.users)("selection for $user", (expected) => {
  const texts = stack(expected.coefficients);

  test("has Python's posterior, shares and misfit", () => {
    const value = minus(mean(texts), candidates.baseCoefficients);
    const noise = meanNoise(candidates, texts.rows, { paired: false });
    const { score, share } = posterior(value, candidates, noise);
    const top = Math.max(...score);
    expectNear(score.map((s) => s - top), expected.score, 1e-5);
    expectNear(share, expected.share, 1e-6);
    expect(misfit(value, candidates, noise)).toBeCloseTo(expected.misfit, 6);
  });

  test("ranks, chooses and gives reasons as Python", () => {
    const found = select(texts, candidates, { novelty: expected.selection.novelty });
    expect(found.choice).toBe(expected.selection.choice);
    expect(found.reason).toBe(expected.selection.reason);
    expect(found.margin).toBeCloseTo(expected.selection.margin, 6);
    expect(found.expectedSaving).toBeCloseTo(expected.selection.expected_saving, 6);
    expect(found.matches.map((m) => m.name)).toEqual(expected.selection.matches.map(([name]) => name));
    expectNear(found.matches.map((m) => m.probability), expected.selection.matches.map(([, p]) => p), 1e-6);
    expectNear(found.matches.map((m) => m.adapterBytes), expected.selection.matches.map(([, , , b]) => b), 0);
  });

  test("describes the user with Python's words, and intervals as wide", () => {
    const found = select(texts, candidates, { novelty: 0 }).words;
    expect(found.map((w) => w.word)).toEqual(expected.selection.words.map(([word]) => word));
    expectNear(found.map((w) => w.coefficient), expected.selection.words.map(([, c]) => c), 1e-6);
    const widths = expected.selection.words.map(([, , low, high]) => high - low);
    found.forEach((w, i) => expect((w.upper - w.lower) / widths[i]!).toBeGreaterThan(0.85));
    found.forEach((w, i) => expect((w.upper - w.lower) / widths[i]!).toBeLessThan(1.18));
  });
});

describe("the encoder", () => {
  const pieces = new WordPieces(file("../../src/encoder/assets/vocab.txt").toString());

  test.each(golden.texts.map((text, i) => [i, text] as const))("cuts text %i into the tokens of the Python library", (i, text) => {
    expect(pieces.encode(text, MAX_TOKENS)).toEqual(golden.tokens[i]);
  });

  test("embeds with 8-bit weights nearly as torch with 32, and so do the coefficients", async () => {
    const session = await ort.InferenceSession.create(file("../../src/encoder/assets/minilm.onnx"), {
      extra: { session: { disable_quant_qdq: "1" } },
    });
    const found: number[][] = [];
    for (const ids of golden.tokens) {
      const { embedding } = await session.run({ ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [ids.length]) });
      found.push([...((embedding as ort.Tensor).data as Float32Array)]);
    }
    const cosines = found.map((e, i) => e.reduce((sum, x, j) => sum + x * embeddings[i]![j]!, 0));
    console.info(`cosines: min ${Math.min(...cosines)}`);
    expect(Math.min(...cosines)).toBeGreaterThan(0.995);
    const ours = coefficients(space, whiten(space, found.map((e, i) => [...e, ...golden.surface[i]!])));
    const worst = Math.max(...golden.coefficients.flatMap((c, i) => c.map((x, j) => Math.abs(x - row(ours, i)[j]!))));
    console.info(`coefficients: at most ${worst} away`);
    expect(worst).toBeLessThan(0.1);
  });
});
