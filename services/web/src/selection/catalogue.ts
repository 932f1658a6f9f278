// The compact catalogue, as xpert.core.catalogue.load_compact.

import { matrix, type Matrix } from "./linear";
import { readSafetensors } from "./safetensors";

/** Step of a compact coefficient. */
const SCALE = 1 / 4096;

export interface Candidates {
  readonly spaceDigest: string;
  readonly words: readonly string[];
  /** The first 16 hexadecimal digits of the adapters' digests. */
  readonly names: readonly string[];
  readonly coefficients: Matrix;
  readonly noise: Matrix;
  readonly baseCoefficients: Float64Array;
  readonly baseUnexplained: Float64Array;
  readonly nProbes: number;
  readonly adapterBytes: readonly number[];
}

export function readCatalogue(buffer: ArrayBuffer): Candidates {
  const { tensors, header } = readSafetensors(buffer, "xpert-catalogue-compact");
  const data = (name: string) => {
    const found = tensors.get(name);
    if (!found) throw new Error(`The catalogue lacks '${name}'.`);
    return found.data;
  };
  const words = header["words"] as string[];
  const k = words.length;
  const ids = data("ids");
  const n = ids.length / 8;
  const scale = tensors.get("scale")?.data;
  const steps = data("coefficients");
  const noise = matrix(k, k);
  const upper = data("noise");
  for (let i = 0, at = 0; i < k; i++) {
    for (let j = i; j < k; j++, at++) noise.data[i * k + j] = noise.data[j * k + i] = upper[at]!;
  }
  return {
    spaceDigest: String(header["space_digest"]),
    words,
    names: Array.from({ length: n }, (_, i) =>
      Array.from(ids.slice(8 * i, 8 * i + 8), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    ),
    coefficients: matrix(n, k, Float64Array.from(steps, (step, i) => step * (scale ? scale[Math.floor(i / k)]! / 127 : SCALE))),
    noise,
    baseCoefficients: Float64Array.from(data("base")),
    baseUnexplained: Float64Array.from(data("base_unexplained")),
    nProbes: Number(header["n_probes"]),
    adapterBytes: Array.from(data("kib"), (kib) => kib * 1024),
  };
}
