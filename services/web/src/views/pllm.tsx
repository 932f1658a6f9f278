// One pLLM: its words with intervals, its answers beside the base's, where it comes from.

import { get } from "../api";
import { Show, useLoad } from "../load";
import { link } from "../route";
import { isExplained, joined, number, percent, sentence, size, when } from "../words";
import type { Explained, Page, Pllm, Sample } from "../wire";
import { orNull } from "./pllms";
import { BarTable, WordChart } from "./word-chart";

interface Found {
  readonly pllm: Pllm;
  readonly samples: readonly Sample[];
}

export function PllmView({ base, name }: { base: string; name: string }) {
  const path = `v1/pllms/${encodeURIComponent(base)}/${encodeURIComponent(name)}`;
  const [found, again] = useLoad<Found>(path, async (signal) => {
    const pllm = await get<Pllm>(path, signal);
    const answers = isExplained(pllm) ? await orNull(get<Page<Sample>>(`${path}/answers?limit=6`, signal)) : null;
    return { pllm, samples: answers?.items ?? [] };
  });
  return (
    <>
      <p class="back">
        <a href={link(base, "pllms")}>← All pLLMs</a>
      </p>
      <Show found={found} retry={again}>
        {({ pllm, samples }) => (
          <article>
            <h1>{pllm.name}</h1>
            {isExplained(pllm) ? <Explanation pllm={pllm} /> : <NotYet pllm={pllm} />}
            {isExplained(pllm) && <Samples pllm={pllm} samples={samples} />}
            <Origin pllm={pllm} />
          </article>
        )}
      </Show>
    </>
  );
}

function Explanation({ pllm }: { pllm: Explained }) {
  const { explanation } = pllm;
  const bars = explanation.words.map((w) => ({ ...w, sure: w.held_up }));
  return (
    <>
      <p class="lead">{sentence(pllm)}</p>
      <dl class="figures">
        <Fact title="Strength" value={number(explanation.strength, 1)} what="length of what the words explain" />
        <Fact title="Unexplained" value={percent(explanation.residual_share)} what="of the difference to the base" />
        <Fact title="Probes" value={String(explanation.n_probes)} what="prompts that both answered" />
        <Fact title="Adapter" value={size(pllm.adapter_bytes)} what="to download" />
      </dl>
      <section class="card" aria-labelledby="words">
        <h2 id="words">Words</h2>
        <p class="legend">
          <span class="key more">more than the base</span>
          <span class="key less">less</span>
          <span class="key unsure">did not hold up on other probes</span>
        </p>
        <WordChart bars={bars} label={`Coefficients of ${pllm.name}, strongest first; the table below has the numbers`} />
        <BarTable bars={bars} caption={`Coefficients of ${pllm.name}`} />
      </section>
    </>
  );
}

function Fact({ title, value, what }: { title: string; value: string; what: string }) {
  return (
    <div>
      <dt>{title}</dt>
      <dd>
        <b>{value}</b> <span class="quiet">{what}</span>
      </dd>
    </div>
  );
}

function NotYet({ pllm }: { pllm: Pllm }) {
  if (pllm.quarantined) {
    return (
      <div class="notice bad">
        <p>
          <b>Refused.</b> {pllm.quarantined}
        </p>
        <p>It is in no catalogue and cannot be downloaded.</p>
      </div>
    );
  }
  return (
    <div class="notice">
      <p>
        Not explained yet. <a href={link(pllm.base, "jobs")}>See how far its job is.</a>
      </p>
    </div>
  );
}

function Samples({ pllm, samples }: { pllm: Pllm; samples: readonly Sample[] }) {
  return (
    <section aria-labelledby="samples">
      <h2 id="samples">Answers to the same prompts</h2>
      {samples.length === 0 && <p class="quiet">The server keeps no sample answers of this pLLM.</p>}
      {samples.map((sample) => (
        <figure class="sample card" key={sample.prompt}>
          <figcaption>{sample.prompt}</figcaption>
          <div class="pair">
            <div>
              <h3>Base</h3>
              <p>{sample.base}</p>
            </div>
            <div class="own">
              <h3>{pllm.name}</h3>
              <p>{sample.pllm}</p>
            </div>
          </div>
        </figure>
      ))}
    </section>
  );
}

function Origin({ pllm }: { pllm: Pllm }) {
  const merged = pllm.merged_from.map((source) => `${number(source.weight)} × ${source.pllm}`);
  return (
    <section class="card" aria-labelledby="origin">
      <h2 id="origin">Where it comes from</h2>
      <dl class="origin">
        <dt>Base</dt>
        <dd>
          {pllm.base} <code>{pllm.base_digest.slice(0, 16)}…</code>
        </dd>
        <dt>Adapter</dt>
        <dd>
          <code>{pllm.adapter_digest.slice(0, 16)}…</code> {Object.keys(pllm.files).length > 0 && joined(Object.keys(pllm.files))}
        </dd>
        {merged.length > 0 && (
          <>
            <dt>Merged from</dt>
            <dd>{joined(merged)}</dd>
          </>
        )}
        <dt>Registered</dt>
        <dd>
          <time dateTime={pllm.created}>{when(pllm.created)}</time>
        </dd>
        {pllm.explanation && (
          <>
            <dt>Start from it</dt>
            <dd>
              <code class="command">xpert pull {pllm.name} --base {pllm.base}</code>
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}
