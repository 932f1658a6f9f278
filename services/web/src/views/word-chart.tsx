// Words with coefficients and intervals, for a pLLM or a user.

import * as Plot from "@observablehq/plot";
import { number } from "../words";
import { Figure } from "./figure";

export interface Bar {
  readonly word: string;
  readonly coefficient: number;
  readonly lower: number;
  readonly upper: number;
  readonly sure: boolean;
  /** What it is compared with, if anything: drawn as a diamond. */
  readonly other?: number | undefined;
}

const ROW = 25;

export function WordChart({ bars, label }: { bars: readonly Bar[]; label: string }) {
  const signature = JSON.stringify(bars);
  return <Figure label={label} signature={signature} draw={(width) => options(bars, width)} />;
}

function options(bars: readonly Bar[], width: number): Plot.PlotOptions {
  const tone = (bar: Bar) => (!bar.sure ? "var(--unsure)" : bar.coefficient < 0 ? "var(--less)" : "var(--more)");
  const narrow = width < 480;
  const ends = bars.flatMap((b) => [b.lower, b.upper, b.other ?? 0]);
  return {
    height: bars.length * ROW + 54,
    marginLeft: narrow ? 112 : 128,
    marginRight: 48,
    marginTop: 26,
    marginBottom: 28,
    style: { fontSize: "13px" },
    x: { axis: null, domain: [Math.min(-0.25, ...ends), Math.max(0.5, ...ends)], nice: true },
    y: { domain: bars.map((b) => b.word), label: null, padding: 0.2 },
    marks: [
      Plot.gridX({ ticks: narrow ? 3 : 8, stroke: "var(--line)", strokeOpacity: 1 }),
      Plot.axisX({ anchor: "top", ticks: narrow ? 3 : 8, tickSize: 0, fill: "var(--quiet)", label: null }),
      Plot.axisY({ tickSize: 0, fill: "var(--ink)", label: null, tickPadding: 8 }),
      Plot.ruleX([0], { stroke: "var(--quiet)" }),
      Plot.link(bars, {
        x1: "lower",
        x2: "upper",
        y1: "word",
        y2: "word",
        stroke: tone,
        strokeWidth: 7,
        strokeOpacity: 0.3,
        strokeLinecap: "round",
      }),
      Plot.dot(bars.filter((b) => b.other !== undefined), {
        x: "other",
        y: "word",
        symbol: "diamond",
        r: 5,
        stroke: "var(--ink)",
        fill: "var(--card)",
        strokeWidth: 1.6,
      }),
      Plot.dot(bars, {
        x: "coefficient",
        y: "word",
        r: 4.6,
        stroke: tone,
        strokeWidth: 2,
        fill: (b: Bar) => (b.sure ? tone(b) : "var(--card)"),
        title: (b: Bar) => `${b.word} ${number(b.coefficient)} (${number(b.lower)} to ${number(b.upper)})`,
      }),
      Plot.text(bars, {
        x: (b: Bar) => Math.max(b.upper, b.coefficient, b.other ?? -9),
        y: "word",
        text: (b: Bar) => number(b.coefficient),
        textAnchor: "start",
        dx: 11,
        fill: (b: Bar) => (b.sure ? "var(--ink)" : "var(--quiet)"),
        stroke: "var(--card)",
        strokeWidth: 4,
        fontVariant: "tabular-nums",
      }),
    ],
  };
}

export function BarTable({ bars, caption }: { bars: readonly Bar[]; caption: string }) {
  return (
    <details>
      <summary>The same as a table</summary>
      <table class="plain-table">
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            <th scope="col">Word</th>
            <th scope="col" class="right">Coefficient</th>
            <th scope="col" class="right">95 % interval</th>
          </tr>
        </thead>
        <tbody>
          {bars.map((bar) => (
            <tr key={bar.word}>
              <th scope="row">{bar.word}</th>
              <td class="right">{number(bar.coefficient)}</td>
              <td class="right">
                {number(bar.lower)} to {number(bar.upper)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
