// From coefficients in dozens of words to places on a map: the two directions in which the pLLMs differ most.

import { dot, mean, minus, row, stack, type Matrix, type Vector } from "../selection/linear";

export interface Projection {
  /** Place of every row, (x, y). */
  readonly places: readonly (readonly [number, number])[];
  /** What each column adds to x and y. */
  readonly directions: readonly (readonly [number, number])[];
  /** Share of the rows' spread that the map shows. */
  readonly share: number;
}

const N_STEPS = 200;

/** Principal components of `rows` by power iteration; places are relative to `origin`. */
export function principal(rows: readonly ArrayLike<number>[], origin: ArrayLike<number>): Projection {
  const table = stack(rows);
  const middle = mean(table);
  const centred = stack(rows.map((_, i) => minus(row(table, i), middle)));
  const first = direction(centred, []);
  const second = direction(centred, [first]);
  const total = dot(centred.data, centred.data);
  const shown = rows.reduce((sum, _, i) => sum + dot(row(centred, i), first) ** 2 + dot(row(centred, i), second) ** 2, 0);
  return {
    places: rows.map((_, i) => {
      const from = minus(row(table, i), origin);
      return [dot(from, first), dot(from, second)] as const;
    }),
    directions: Array.from(first, (x, j) => [x, second[j]!] as const),
    share: total > 0 ? shown / total : 1,
  };
}

function direction(centred: Matrix, others: readonly Vector[]): Vector {
  let found = Float64Array.from({ length: centred.columns }, (_, j) => 1 + (j % 3) / 7);
  for (let step = 0; step < N_STEPS; step++) {
    const next = new Float64Array(centred.columns);
    for (let i = 0; i < centred.rows; i++) {
      const along = dot(row(centred, i), found);
      row(centred, i).forEach((x, j) => (next[j] = next[j]! + along * x));
    }
    for (const other of others) {
      const along = dot(next, other);
      other.forEach((x, j) => (next[j] = next[j]! - along * x));
    }
    const length = Math.sqrt(dot(next, next));
    if (length < 1e-12) return next;
    found = next.map((x) => x / length);
  }
  // The sign is free: let the strongest column point up or right.
  const strongest = found.reduce((best, x, j) => (Math.abs(x) > Math.abs(found[best]!) ? j : best), 0);
  return found[strongest]! < 0 ? found.map((x) => -x) : found;
}

export interface Label {
  readonly text: string;
  readonly x: number;
  readonly y: number;
}

export interface PlacedLabel extends Label {
  readonly anchor: "start" | "end" | "middle";
  readonly dx: number;
  readonly dy: number;
}

const LETTER = 7.4;
const LINE = 17;

/** Puts labels, in pixels, beside their dots so that none covers another or a dot; those without room are left out. */
export function placeLabels(labels: readonly Label[], width: number, height: number): PlacedLabel[] {
  const taken = labels.map(({ x, y }) => box(x, y, 12, 12));
  const placed: PlacedLabel[] = [];
  for (const label of labels) {
    const wide = label.text.length * LETTER;
    const tries: [PlacedLabel["anchor"], number, number][] = [
      ["start", 10, 0],
      ["end", -10, 0],
      ["middle", 0, -15],
      ["middle", 0, 15],
      ["start", 8, -11],
      ["start", 8, 11],
      ["end", -8, -11],
      ["end", -8, 11],
      ["middle", 0, -26],
      ["middle", 0, 26],
    ];
    for (const [anchor, dx, dy] of tries) {
      const middle = label.x + dx + (anchor === "start" ? wide / 2 : anchor === "end" ? -wide / 2 : 0);
      const here = box(middle, label.y + dy, wide, LINE);
      const own = taken[labels.indexOf(label)];
      const fits = here.left > 2 && here.right < width - 2 && here.top > 2 && here.bottom < height - 2;
      if (!fits || taken.some((other) => other !== own && overlaps(here, other))) continue;
      taken.push(here);
      placed.push({ ...label, anchor, dx, dy });
      break;
    }
  }
  return placed;
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

const box = (x: number, y: number, w: number, h: number): Box => ({ left: x - w / 2, right: x + w / 2, top: y - h / 2, bottom: y + h / 2 });

const overlaps = (a: Box, b: Box) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
