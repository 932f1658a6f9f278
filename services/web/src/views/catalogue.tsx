// All pLLMs of a base as a table to sort and filter by words.

import { useState } from "preact/hooks";
import { Show, useLoad } from "../load";
import { link, replaceQuery, type Route } from "../route";
import { isExplained, number, percent, size, tellingWords, wordOf } from "../words";
import type { Pllm, WordBody } from "../wire";
import { loadShelf, type Shelf } from "./pllms";

interface Filter {
  readonly word: string;
  readonly least: number;
}

interface Sort {
  readonly key: string;
  readonly down: boolean;
}

/** As the server's `word=NAME:VALUE`: at least a value from 0 up, at most one below. */
function passes(filter: Filter, value: number | undefined): boolean {
  return value !== undefined && (filter.least >= 0 ? value >= filter.least : value <= filter.least);
}

const COLUMNS = [
  ["name", "pLLM"],
  ["strength", "Strength"],
  ["residual", "Unexplained"],
  ["size", "Adapter"],
] as const;

const filtersOf = (route: Route): Filter[] =>
  route.query.getAll("word").map((text) => {
    const [word = "", least = "0"] = text.split(":");
    return { word, least: Number(least) || 0 };
  });

function sortOf(route: Route): Sort {
  const text = route.query.get("sort") ?? "name";
  return { key: text.replace(/^-/, ""), down: text.startsWith("-") };
}

export function Catalogue({ route, base }: { route: Route; base: string }) {
  const filters = filtersOf(route);
  // Filters go to the server only where it has more pLLMs than the page reads at once.
  const [large, setLarge] = useState(false);
  const asked = large ? filters.map((f) => ["word", `${f.word}:${f.least}`] as const) : [];
  const [found, again] = useLoad(`${base} ${JSON.stringify(asked)}`, async (signal) => {
    const shelf = await loadShelf(base, asked, signal);
    if (shelf.more) setLarge(true);
    return shelf;
  });
  return (
    <Show found={found} retry={again}>
      {(shelf) => <Table shelf={shelf} route={route} base={base} filters={filters} />}
    </Show>
  );
}

function Table(props: { shelf: Shelf; route: Route; base: string; filters: readonly Filter[] }) {
  const { shelf, route, base, filters } = props;
  const sort = sortOf(route);
  const part = route.query.get("q") ?? "";
  const words = shelf.space?.words ?? [];
  const shown = shelf.pllms
    .filter((pllm) => pllm.name.includes(part.trim().toLowerCase()))
    .filter((pllm) => filters.every((f) => passes(f, wordOf(pllm, f.word)?.coefficient)))
    .sort(order(sort));
  const asked = [...new Set([...filters.map((f) => f.word), ...(words.includes(sort.key) ? [sort.key] : [])])];
  const reach = Math.max(0.2, ...shelf.pllms.flatMap((p) => asked.map((word) => wordOf(p, word)?.upper ?? 0)));
  return (
    <>
      <h1>Catalogue</h1>
      <Summary shelf={shelf} base={base} />
      <Controls route={route} words={words} filters={filters} sort={sort} part={part} />
      <p class="count" role="status">
        {shown.length === shelf.pllms.length ? `${shown.length} pLLMs` : `${shown.length} of ${shelf.pllms.length} pLLMs`}
        {shelf.more && "; the server has more: narrow them down by words"}
      </p>
      {shown.length === 0 ? (
        <p class="notice">No pLLM is like that. Lower a threshold or remove a filter.</p>
      ) : (
        <table class="pllms">
          <caption class="hidden">pLLMs of {base}, sorted by {sort.key}</caption>
          <thead>
            <tr>
              <Head route={route} sort={sort} column={COLUMNS[0]} />
              <th scope="col">Strongest words</th>
              {asked.map((word) => (
                <Head key={word} route={route} sort={sort} column={[word, word]} />
              ))}
              {COLUMNS.slice(1).map((column) => (
                <Head key={column[0]} route={route} sort={sort} column={column} right />
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((pllm) => (
              <Row key={pllm.name} pllm={pllm} asked={asked} reach={reach} />
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

function Summary({ shelf, base }: { shelf: Shelf; base: string }) {
  const { info, space } = shelf;
  return (
    <p class="lead">
      Personal LLMs on the base <b>{base}</b>
      {info && space ? (
        <>
          , each explained in {space.words.length} words. All {info.n_pllms} together take a phone {size(info.n_bytes)} to choose
          from.
        </>
      ) : (
        ". None is explained yet."
      )}
    </p>
  );
}

function Controls(props: { route: Route; words: readonly string[]; filters: readonly Filter[]; sort: Sort; part: string }) {
  const { route, words, filters, sort, part } = props;
  const [word, setWord] = useState("");
  const [least, setLeast] = useState("0.3");
  const put = (next: readonly Filter[]) =>
    replaceQuery(route, (query) => {
      query.delete("word");
      next.forEach((f) => query.append("word", `${f.word}:${f.least}`));
    });
  const add = (event: Event) => {
    event.preventDefault();
    if (!words.includes(word)) return;
    put([...filters.filter((f) => f.word !== word), { word, least: Number(least) || 0 }]);
    setWord("");
  };
  return (
    <div class="controls">
      <label>
        Name
        <input
          type="search"
          value={part}
          placeholder="any"
          onInput={(event) => {
            const { value } = event.currentTarget;
            replaceQuery(route, (query) => (value ? query.set("q", value) : query.delete("q")));
          }}
        />
      </label>
      <form class="together" onSubmit={add}>
        <label>
          Only those that are
          <select value={word} onChange={(event) => setWord(event.currentTarget.value)}>
            <option value="">a word …</option>
            {words.map((w) => (
              <option key={w}>{w}</option>
            ))}
          </select>
        </label>
        <label>
          by at least
          <input class="short" type="number" step="0.1" value={least} onInput={(event) => setLeast(event.currentTarget.value)} />
        </label>
        <button type="submit" disabled={!word}>
          Add
        </button>
      </form>
      <label>
        Sort by
        <select
          value={sort.key}
          onChange={(event) => {
            const key = event.currentTarget.value;
            replaceQuery(route, (query) => query.set("sort", key === "name" ? key : `-${key}`));
          }}
        >
          {COLUMNS.map(([key, title]) => (
            <option key={key} value={key}>
              {key === "name" ? "name" : title.toLowerCase()}
            </option>
          ))}
          <optgroup label="a word">
            {words.map((w) => (
              <option key={w}>{w}</option>
            ))}
          </optgroup>
        </select>
      </label>
      {filters.length > 0 && (
        <ul class="chips" aria-label="Filters">
          {filters.map((f) => (
            <li key={f.word}>
              {f.word} {f.least < 0 ? "≤" : "≥"} {String(f.least).replace("-", "−")}
              <button type="button" aria-label={`Remove the filter ${f.word}`} onClick={() => put(filters.filter((g) => g !== f))}>
                ×
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function Head(props: { route: Route; sort: Sort; column: readonly [string, string]; right?: boolean }) {
  const { route, sort, column, right } = props;
  const [key, title] = column;
  const here = sort.key === key;
  const first = key === "name" ? key : `-${key}`;
  const turned = key === "name" ? `-${key}` : key;
  const next = here && (sort.down ? first.startsWith("-") : !first.startsWith("-")) ? turned : first;
  return (
    <th scope="col" class={right ? "right" : undefined} aria-sort={here ? (sort.down ? "descending" : "ascending") : undefined}>
      <button type="button" class="sort" onClick={() => replaceQuery(route, (query) => query.set("sort", next))}>
        {title}
        <span aria-hidden="true">{here ? (sort.down ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

function Row({ pllm, asked, reach }: { pllm: Pllm; asked: readonly string[]; reach: number }) {
  return (
    <tr>
      <th scope="row">
        <a href={link(pllm.base, "pllms", pllm.name)}>{pllm.name}</a>
      </th>
      <td class="words">
        <Strongest pllm={pllm} most={asked.length > 1 ? 2 : 3} />
      </td>
      {asked.map((word) => {
        const found = wordOf(pllm, word);
        return (
          <td key={word} class="asked" data-label={word}>
            {found ? <Interval word={found} reach={reach} /> : <span class="quiet">–</span>}
          </td>
        );
      })}
      <td class="right" data-label="Strength">
        {pllm.explanation ? number(pllm.explanation.strength, 1) : "–"}
      </td>
      <td class="right" data-label="Unexplained">
        {pllm.explanation ? percent(pllm.explanation.residual_share) : "–"}
      </td>
      <td class="right" data-label="Adapter">
        {size(pllm.adapter_bytes)}
      </td>
    </tr>
  );
}

function Strongest({ pllm, most }: { pllm: Pllm; most: number }) {
  if (pllm.quarantined) return <span class="badge bad">refused</span>;
  if (!isExplained(pllm)) return <span class="badge">being explained</span>;
  return (
    <ul class="strongest">
      {tellingWords(pllm, most).map((w) => (
        <li key={w.word} class={w.coefficient < 0 ? "less" : "more"}>
          {w.word} <b>{number(w.coefficient)}</b>
        </li>
      ))}
    </ul>
  );
}

/** A coefficient with its interval on one line, zero marked. */
function Interval({ word, reach }: { word: WordBody; reach: number }) {
  const at = (x: number) => 20 + (Math.max(-0.25 * reach, Math.min(reach, x)) / reach) * 76;
  const tone = !word.held_up ? "unsure" : word.coefficient < 0 ? "less" : "more";
  return (
    <span class="interval">
      <svg viewBox="0 0 100 16" width="100" height="16" aria-hidden="true" class={tone}>
        <line class="zero" x1="20" x2="20" y1="1" y2="15" />
        <line class="range" x1={at(word.lower)} x2={at(word.upper)} y1="8" y2="8" />
        <circle cx={at(word.coefficient)} cy="8" r="4" />
      </svg>
      <span class={word.held_up ? "" : "quiet"}>{number(word.coefficient)}</span>
    </span>
  );
}

function order(sort: Sort): (a: Pllm, b: Pllm) => number {
  const byName = (a: Pllm, b: Pllm) => (a.name < b.name ? -1 : 1);
  if (sort.key === "name") return (a, b) => (sort.down ? -byName(a, b) : byName(a, b));
  const value = (pllm: Pllm): number | undefined => {
    if (sort.key === "size") return pllm.adapter_bytes;
    if (sort.key === "strength") return pllm.explanation?.strength;
    if (sort.key === "residual") return pllm.explanation?.residual_share;
    return wordOf(pllm, sort.key)?.coefficient;
  };
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    // What has no value stands last either way.
    if (x === undefined || y === undefined) return Number(x === undefined) - Number(y === undefined) || byName(a, b);
    return (sort.down ? y - x : x - y) || byName(a, b);
  };
}
