// The sentence encoder in a worker, so that the page stays alive while it works.

import * as ort from "onnxruntime-web/wasm";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import modelUrl from "./assets/minilm.onnx?url";
import vocabularyUrl from "./assets/vocab.txt?url";
import { WordPieces } from "./wordpiece";
import { MAX_TOKENS, type Answer, type Order } from "./messages";

ort.env.wasm.wasmPaths = { wasm: new URL(wasmUrl, self.location.href).href };
ort.env.wasm.numThreads = 1; // More need cross-origin isolation, which a page of a server behind a proxy cannot count on.

interface Loaded {
  session: ort.InferenceSession;
  pieces: WordPieces;
}

let loading: Promise<Loaded> | undefined;

self.onmessage = async ({ data }: MessageEvent<Order>) => {
  const say = (answer: Answer) => self.postMessage(answer);
  try {
    loading ??= load((done, total) => say({ kind: "loading", done, total }));
    const { session, pieces } = await loading;
    for (const [i, text] of data.texts.entries()) {
      const ids = BigInt64Array.from(pieces.encode(text, MAX_TOKENS), BigInt);
      const { embedding } = await session.run({ ids: new ort.Tensor("int64", ids, [ids.length]) });
      say({ kind: "embedded", index: i, embedding: (embedding as ort.Tensor).data as Float32Array });
    }
    say({ kind: "done" });
  } catch (error) {
    loading = undefined;
    say({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
};

async function load(progress: (done: number, total: number) => void): Promise<Loaded> {
  const [model, vocabulary] = await Promise.all([
    download(modelUrl, progress),
    download(vocabularyUrl, () => {}),
  ]);
  progress(0, 0); // What is left is to start it.
  // Without this the 8-bit weights would be turned into 32 bits again for every text.
  const session = await ort.InferenceSession.create(model, { extra: { session: { disable_quant_qdq: "1" } } });
  return { session, pieces: new WordPieces(new TextDecoder().decode(vocabulary)) };
}

async function download(url: string, progress: (done: number, total: number) => void): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok || !response.body) throw new Error(`The encoder could not be fetched: ${url} answered ${response.status}.`);
  const total = Number(response.headers.get("content-length") ?? 0);
  const parts: Uint8Array[] = [];
  let done = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { value } = await reader.read();
    if (!value) break;
    parts.push(value);
    done += value.length;
    progress(done, total);
  }
  const whole = new Uint8Array(done);
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
