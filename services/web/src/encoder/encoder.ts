// Texts to raw vectors: the sentence embedding beside the surface statistics, as xpert.core.encoder.JointEncoder.

import { surfaceStatistics } from "../selection/surface";
import type { Answer, Order } from "./messages";

export interface Progress {
  readonly phase: "loading" | "reading";
  readonly done: number;
  readonly total: number;
}

let worker: Worker | undefined;

/** Encodes texts in this browser; nothing is sent. One call at a time. */
export async function encode(texts: readonly string[], progress: (p: Progress) => void): Promise<Float32Array[]> {
  worker ??= new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const embeddings = await embed(worker, texts, progress);
  return texts.map((text, i) => join(embeddings[i]!, surfaceStatistics(text)));
}

function embed(engine: Worker, texts: readonly string[], progress: (p: Progress) => void): Promise<Float32Array[]> {
  return new Promise((resolve, reject) => {
    const found: Float32Array[] = [];
    engine.onerror = (event) => {
      worker = undefined;
      reject(new Error(`The encoder did not start: ${event.message || "the browser gave no reason"}.`));
    };
    engine.onmessage = ({ data }: MessageEvent<Answer>) => {
      if (data.kind === "loading") progress({ phase: "loading", done: data.done, total: data.total });
      else if (data.kind === "failed") reject(new Error(data.message));
      else if (data.kind === "done") resolve(found);
      else {
        found[data.index] = data.embedding;
        progress({ phase: "reading", done: data.index + 1, total: texts.length });
      }
    };
    const order: Order = { texts };
    engine.postMessage(order);
  });
}

function join(a: Float32Array, b: Float32Array): Float32Array {
  const found = new Float32Array(a.length + b.length);
  found.set(a);
  found.set(b, a.length);
  return found;
}
