// A map of all pLLMs in style space: by what tells them apart most, or by two words.

import * as Plot from "@observablehq/plot";
import { Show, useLoad } from "../load";
import { link, replaceQuery, type Route } from "../route";
import { isExplained, number, percent, tellingWords, wordOf } from "../words";
import type { Explained } from "../wire";
import { Figure } from "./figure";
import { loadShelf } from "./pllms";
import { layOut, placeLabels, type Layout } from "./projection";

const BASE_ID = "";

interface Dot {
  readonly id: string;
  readonly name: string;
  readonly x: number;
  readonly y: number;
  readonly href: string | undefined;
}

interface Sheet {
  readonly dots: readonly Dot[];
  readonly axes: readonly [string, string];
}

export function StyleMap({ route, base }: { route: Route; base: string }) {
  const [found, again] = useLoad(base, (signal) => loadShelf(base, [], signal));
  return (
    <>
      <h1>Map of styles</h1>
      <Show found={found} retry={again}>
        {(shelf) => {
          const pllms = shelf.pllms.filter(isExplained);
          const words = shelf.space?.words ?? [];
          return pllms.length < 2 ? (
            <p class="notice">A map needs at least two explained pLLMs.</p>
          ) : (
            <MapOf route={route} base={base} pllms={pllms} words={words} more={shelf.more} />
          );
        }}
      </Show>
    </>
  );
}

function MapOf(props: { route: Route; base: string; pllms: readonly Explained[]; words: readonly string[]; more: boolean }) {
  const { route, base, pllms, words, more } = props;
  const chosen = (["x", "y"] as const).map((axis) => route.query.get(axis) ?? "");
  const byWords = chosen.every((word) => words.includes(word));
  const table = pllms.map((pllm) => words.map((word) => wordOf(pllm, word)?.coefficient ?? 0));
  const origin = words.map(() => 0);
  const layout = layOut([...table, origin]);
  const sheet = byWords ? wordSheet(base, pllms, chosen[0]!, chosen[1]!) : wholeSheet(base, pllms, layout);
  return (
    <>
      <p class="lead">
        {byWords
          ? `Where the pLLMs lie by two of ${words.length} words; the base is at zero.`
          : `Near each other means alike in all ${words.length} words. Distances between the ${pllms.length} pLLMs` +
            `${more ? " read so far" : ""} are right to about ${percent(layout.error)}; directions mean nothing.`}
      </p>
      <div class="controls">
        {(["x", "y"] as const).map((axis, i) => (
          <label key={axis}>
            {axis === "x" ? "Across" : "Up"}
            <select
              value={byWords ? chosen[i] : ""}
              onChange={(event) => {
                const { value } = event.currentTarget;
                replaceQuery(route, (query) => {
                  const spare = words.find((w) => w !== value) ?? "";
                  if (!value) ["x", "y"].forEach((key) => query.delete(key));
                  else if (!byWords) ["x", "y"].forEach((key) => query.set(key, key === axis ? value : spare));
                  else query.set(axis, value);
                });
              }}
            >
              <option value="">all words at once</option>
              {words.map((word) => (
                <option key={word}>{word}</option>
              ))}
            </select>
          </label>
        ))}
      </div>
      <section class="card map">
        <Figure
          label={`Map of ${pllms.length} pLLMs of ${base}; each dot leads to its page`}
          signature={JSON.stringify(sheet)}
          draw={(width) => options(sheet, width)}
          after={(svg) => nameLinks(svg, sheet, pllms)}
        />
      </section>
    </>
  );
}

function wordSheet(base: string, pllms: readonly Explained[], x: string, y: string): Sheet {
  const at = (pllm: Explained, word: string) => wordOf(pllm, word)?.coefficient ?? 0;
  return {
    dots: [baseDot(base), ...pllms.map((p) => ({ id: p.name, name: p.name, x: at(p, x), y: at(p, y), href: link(base, "pllms", p.name) }))],
    axes: [`${x} →`, `↑ ${y}`],
  };
}

function wholeSheet(base: string, pllms: readonly Explained[], { places }: Layout): Sheet {
  return {
    dots: [
      baseDot(base),
      ...pllms.map((p, i) => ({ id: p.name, name: p.name, x: places[i]![0], y: places[i]![1], href: link(base, "pllms", p.name) })),
    ],
    axes: ["", ""],
  };
}

const baseDot = (base: string): Dot => ({ id: BASE_ID, name: `${base} (base)`, x: 0, y: 0, href: undefined });

function options(sheet: Sheet, width: number): Plot.PlotOptions {
  const height = Math.round(Math.max(380, Math.min(width * 0.68, 620)));
  const margin = { left: sheet.axes[0] ? 44 : 16, right: 16, top: 24, bottom: sheet.axes[0] ? 40 : 16 };
  const [x, y] = domains(sheet, width - margin.left - margin.right, height - margin.top - margin.bottom);
  const pixels = {
    x: (v: number) => margin.left + ((v - x[0]) / (x[1] - x[0])) * (width - margin.left - margin.right),
    y: (v: number) => height - margin.bottom - ((v - y[0]) / (y[1] - y[0])) * (height - margin.top - margin.bottom),
  };
  const labels = placeLabels(
    sheet.dots.map((d) => ({ text: d.name, x: pixels.x(d.x), y: pixels.y(d.y) })),
    width,
    height,
  );
  const words = !!sheet.axes[0];
  return {
    width,
    height,
    marginLeft: margin.left,
    marginRight: margin.right,
    marginTop: margin.top,
    marginBottom: margin.bottom,
    style: { fontSize: "13px" },
    x: { domain: x, axis: words ? "bottom" : null, label: sheet.axes[0] || null, labelAnchor: "right", ticks: 6, tickSize: 0 },
    y: { domain: y, axis: words ? "left" : null, label: sheet.axes[1] || null, ticks: 6, tickSize: 0 },
    marks: [
      ...(words ? gridlines() : []),
      Plot.dot(
        sheet.dots.filter((d) => d.id === BASE_ID),
        { x: "x", y: "y", symbol: "diamond", r: 7, fill: "var(--card)", stroke: "var(--ink)", strokeWidth: 2 },
      ),
      Plot.dot(
        sheet.dots.filter((d) => d.id !== BASE_ID),
        { x: "x", y: "y", r: 6, fill: "var(--more)", stroke: "var(--card)", strokeWidth: 1.5, href: "href" },
      ),
      ...labels.map((label) =>
        Plot.text([label.text], {
          frameAnchor: "top-left",
          textAnchor: label.anchor,
          dx: label.x + label.dx - margin.left,
          dy: label.y + label.dy - margin.top,
          lineAnchor: "middle",
          fill: "var(--ink)",
          stroke: "var(--card)",
          strokeWidth: 4,
        }),
      ),
    ],
  };
}

function gridlines(): Plot.Markish[] {
  const line = { ticks: 6, stroke: "var(--line)", strokeOpacity: 1 };
  return [Plot.gridX(line), Plot.gridY(line), Plot.ruleX([0], { stroke: "var(--edge)" }), Plot.ruleY([0], { stroke: "var(--edge)" })];
}

/** Ranges with room for labels, and one unit as long across as up where distances mean something. */
function domains(sheet: Sheet, width: number, height: number): [[number, number], [number, number]] {
  const range = (values: readonly number[], room: number): [number, number] => {
    const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
    const more = (high - low || 1) * room;
    return [low - more, high + more];
  };
  const x = range(sheet.dots.map((d) => d.x), 0.14);
  const y = range(sheet.dots.map((d) => d.y), 0.08);
  if (sheet.axes[0]) return [x, y];
  const unit = Math.max((x[1] - x[0]) / width, (y[1] - y[0]) / height);
  const widen = ([low, high]: [number, number], pixels: number): [number, number] => {
    const more = (unit * pixels - (high - low)) / 2;
    return [low - more, high + more];
  };
  return [widen(x, width), widen(y, height)];
}

/** Gives every dot's link a name, and a tooltip with its words. */
function nameLinks(svg: SVGSVGElement, sheet: Sheet, pllms: readonly Explained[]): void {
  const names = sheet.dots.filter((d) => d.id !== BASE_ID);
  svg.querySelectorAll("a").forEach((anchor, i) => {
    const pllm = pllms.find((p) => p.name === names[i]?.id);
    if (!pllm) return;
    const words = tellingWords(pllm, 3).map((w) => `${w.word} ${number(w.coefficient)}`);
    const text = `${pllm.name}: ${words.join(", ")}`;
    anchor.setAttribute("aria-label", text);
    anchor.removeAttribute("target");
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = text;
    anchor.append(title);
  });
}
