// The selection on pasted texts, in this browser alone.

import { useRef, useState } from "preact/hooks";
import { bytes, get } from "../api";
import { encode, type Progress } from "../encoder/encoder";
import { ENCODER } from "../encoder/messages";
import { Failure, Show, useLoad } from "../load";
import { link } from "../route";
import { readCatalogue, type Candidates } from "../selection/catalogue";
import { select, type Selection } from "../selection/selection";
import { coefficients, novelty, readSpace, whiten, type StyleSpace } from "../selection/space";
import { percent, size, wordOf } from "../words";
import type { Pllm, Space } from "../wire";
import { EXAMPLE } from "./example";
import { loadShelf } from "./pllms";
import { BarTable, WordChart } from "./word-chart";

const MAX_TEXT = 100_000;
const MAX_TEXTS = 200;
const N_MATCHES = 5;
const N_WORDS = 10;

interface Ready {
  readonly space: StyleSpace;
  readonly candidates: Candidates;
  readonly pllms: readonly Pllm[];
}

async function prepare(base: string, signal: AbortSignal): Promise<Ready | null> {
  const { info, pllms } = await loadShelf(base, [], signal);
  if (!info) return null;
  const described = await get<Space>(`v1/spaces/${info.space}`, signal);
  const [compact, file] = await Promise.all([
    bytes(`v1/catalogues/${encodeURIComponent(base)}`, signal),
    bytes(`v1/artifacts/${described.artifact}`, signal),
  ]);
  const found = { space: readSpace(file), candidates: readCatalogue(compact), pllms };
  if (found.space.digest !== found.candidates.spaceDigest) throw new Error("The catalogue changed its style space just now. Try again.");
  return found;
}

/** Pasted text to texts: at blank lines where there are any, else a line each. */
export function splitTexts(pasted: string): string[] {
  const parts = /\n[ \t\r]*\n/.test(pasted.trim()) ? pasted.split(/\n[ \t\r]*\n/) : pasted.split("\n");
  return parts.map((part) => part.trim().slice(0, MAX_TEXT)).filter(Boolean).slice(0, MAX_TEXTS);
}

export function TryIt({ base }: { base: string }) {
  const [found, again] = useLoad(base, (signal) => prepare(base, signal));
  return (
    <>
      <h1>Which pLLM is nearest to how you write?</h1>
      <p class="lead">
        Paste texts that you wrote. They are read <b>in this browser</b>, as a phone would: nothing of them is sent, neither the
        texts nor what is computed from them.
      </p>
      <Show found={found} retry={again}>
        {(ready) =>
          ready === null ? (
            <p class="notice">No pLLM of {base} is explained yet, so there is nothing to choose from.</p>
          ) : ready.space.encoder !== ENCODER ? (
            <p class="notice">
              The style space was made with the encoder {ready.space.encoder}; this page brings {ENCODER} alone. Choose with{" "}
              <code>xpert select</code> instead.
            </p>
          ) : (
            <Box base={base} ready={ready} />
          )
        }
      </Show>
    </>
  );
}

function Box({ base, ready }: { base: string; ready: Ready }) {
  const [pasted, setPasted] = useState("");
  const [progress, setProgress] = useState<Progress | null>(null);
  const [result, setResult] = useState<Selection | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const texts = splitTexts(pasted);
  const busy = progress !== null;

  const run = async (event: Event) => {
    event.preventDefault();
    setTrouble(null);
    setResult(null);
    setProgress({ phase: "reading", done: 0, total: texts.length });
    try {
      const raw = await encode(texts, setProgress);
      setResult(choose(raw, ready));
      requestAnimationFrame(() => heading.current?.focus());
    } catch (error) {
      setTrouble(error);
    } finally {
      setProgress(null);
    }
  };

  return (
    <>
      <form class="card try" onSubmit={run}>
        <label for="texts">Your texts</label>
        <textarea
          id="texts"
          rows={10}
          spellcheck={false}
          aria-describedby="how"
          placeholder={"One text a line.\n\nOr longer ones with blank lines between them."}
          value={pasted}
          onInput={(event) => setPasted(event.currentTarget.value)}
        />
        <p id="how" class="quiet">
          {texts.length === 0
            ? "A text a line, or blank lines between longer ones. From 10 texts on the choice is reliable."
            : `${texts.length} ${texts.length === 1 ? "text" : "texts"}${texts.length < 5 ? "; from 10 on the choice is reliable" : ""}.`}
        </p>
        <div class="together">
          <button type="submit" class="main" disabled={busy || texts.length === 0}>
            Find the nearest
          </button>
          <button type="button" disabled={busy} onClick={() => setPasted(EXAMPLE.join("\n\n"))}>
            Fill in an example
          </button>
        </div>
        {progress && <Working progress={progress} />}
        {trouble !== null && <Failure error={trouble} />}
      </form>
      {result && (
        <section class="result" aria-labelledby="result">
          <Outcome base={base} result={result} ready={ready} heading={heading} />
        </section>
      )}
    </>
  );
}

function choose(raw: readonly Float32Array[], { space, candidates, pllms }: Ready): Selection {
  const names = new Map(pllms.map((pllm) => [pllm.adapter_digest.slice(0, 16), pllm.name]));
  const whitened = whiten(space, raw);
  const found = coefficients(space, whitened);
  return select(found, candidates, {
    novelty: novelty(space, whitened, found, candidates),
    label: (name) => names.get(name) ?? name,
  });
}

function Working({ progress }: { progress: Progress }) {
  const { phase, done, total } = progress;
  const fetching = done === 0 ? "Starting the encoder" : `Fetching the encoder, once: ${size(done)}${total ? ` of ${size(total)}` : ""}`;
  const text = phase === "loading" ? fetching : `Reading: ${done} of ${total} texts`;
  return (
    <p class="working" role="status">
      <progress value={total ? done : undefined} max={total || 1} aria-label={phase === "loading" ? "Fetching the encoder" : "Reading"} />
      <span>{text}</span>
    </p>
  );
}

function Outcome(props: {
  base: string;
  result: Selection;
  ready: Ready;
  heading: { readonly current: HTMLHeadingElement | null };
}) {
  const { base, result, ready, heading } = props;
  const first = result.matches[0]!;
  const chosen = ready.pllms.find((pllm) => pllm.name === first.name);
  const bars = result.words.slice(0, N_WORDS).map((w) => ({
    ...w,
    sure: w.lower * w.upper > 0,
    other: chosen ? wordOf(chosen, w.word)?.coefficient : undefined,
  }));
  return (
    <>
      <div class={`card verdict ${result.choice ? "good" : "none"}`}>
        <h2 id="result" ref={heading} tabIndex={-1}>
          {result.choice ? (
            <>
              Start from <a href={link(base, "pllms", result.choice)}>{result.choice}</a>
            </>
          ) : (
            "Start from the base"
          )}
        </h2>
        <p>{result.reason}</p>
        {result.choice && (
          <p class="quiet">
            About {percent(first.similarity)} of the texts are in its style. Expected saving: {percent(result.expectedSaving)} of the
            fine-tuning time, choosing counted, by the paper's table for Llama-3.2-1B.
          </p>
        )}
      </div>
      <div class="halves">
        <section class="card" aria-labelledby="nearest">
          <h3 id="nearest">Nearest</h3>
          <ol class="matches">
            {result.matches.slice(0, N_MATCHES).map((match) => (
              <li key={match.name}>
                <a href={link(base, "pllms", match.name)}>{match.name}</a>
                <meter value={match.probability} min={0} max={1} aria-label={`Probability of ${match.name}`} />
                <span>{percent(match.probability)}</span>
              </li>
            ))}
          </ol>
          <p class="quiet">Probability of being the nearest of {result.matches.length}, if any is near.</p>
        </section>
        <section class="card" aria-labelledby="own">
          <h3 id="own">Your words</h3>
          <p class="legend">
            <span class="key more">you</span>
            <span class="key unsure">you, unsure</span>
            <span class="key other">{first.name}</span>
          </p>
          <WordChart bars={bars} label="Your coefficients with intervals over your texts; the table below has the numbers" />
          <BarTable bars={bars} caption="Your coefficients" />
        </section>
      </div>
    </>
  );
}
