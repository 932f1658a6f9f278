// From coefficients in dozens of words to places on a map, and labels beside them.

export interface Layout {
  /** Place of every row, (x, y); the last row is at zero. */
  readonly places: readonly (readonly [number, number])[];
  /** How far distances on the map are off, as a share of the distances. */
  readonly error: number;
}

const N_STEPS = 300;
const MANY = 300;

/**
 * Lays rows out so that distances on the map come near those between rows: multidimensional scaling by majorization (SMACOF).
 *
 * Styles are nearly at right angles to each other, so that any two directions show little of them; distances show more.
 */
export function layOut(rows: readonly ArrayLike<number>[]): Layout {
  const n = rows.length;
  const far = rows.map((a) => rows.map((b) => distance(a, b)));
  const unit = Math.max(...far.flat(), 1e-9);
  // Golden angles: an even start that is the same every time.
  let places = rows.map((_, i) => spiral(i, n, unit));
  for (let step = 0; step < (n > MANY ? N_STEPS / 10 : N_STEPS); step++) places = closer(places, far);
  let [missed, whole] = [0, 0];
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      missed += (far[i]![j]! - distance(places[i]!, places[j]!)) ** 2;
      whole += far[i]![j]! ** 2;
    }
  }
  const [x, y] = places[n - 1]!;
  return { places: places.map((p) => [p[0] - x, p[1] - y] as const), error: whole > 0 ? Math.sqrt(missed / whole) : 0 };
}

type Place = readonly [number, number];

function spiral(i: number, n: number, unit: number): Place {
  const radius = 0.5 * unit * Math.sqrt((i + 0.5) / n);
  return [radius * Math.cos(2.399963 * i), radius * Math.sin(2.399963 * i)];
}

function closer(places: readonly Place[], far: readonly (readonly number[])[]): Place[] {
  return places.map((a, i) => {
    let [x, y] = [0, 0];
    places.forEach((b, j) => {
      if (i === j) return;
      const ratio = far[i]![j]! / Math.max(distance(a, b), 1e-9);
      x += b[0] + ratio * (a[0] - b[0]);
      y += b[1] + ratio * (a[1] - b[1]);
    });
    return [x / places.length + a[0] / places.length, y / places.length + a[1] / places.length];
  });
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(total);
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
