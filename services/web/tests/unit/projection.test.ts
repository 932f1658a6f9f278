import { expect, test } from "vitest";
import { layOut, placeLabels } from "../../src/views/projection";

test("a layout keeps distances that fit on a plane, with the last row at zero", () => {
  const rows = [[3, 0, 0], [0, 4, 0], [3, 4, 0], [0, 0, 0]];
  const { places, error } = layOut(rows);
  expect(error).toBeLessThan(0.01);
  expect(places[3]).toEqual([0, 0]);
  expect(Math.hypot(...places[2]!)).toBeCloseTo(5, 1);
});

test("a layout of styles at right angles to each other says how far it is off", () => {
  const rows = Array.from({ length: 8 }, (_, i) => Array.from({ length: 8 }, (_, j) => (i === j ? 1 : 0)));
  const { error } = layOut([...rows, rows[0]!.map(() => 0)]);
  expect(error).toBeGreaterThan(0.1);
  expect(error).toBeLessThan(0.4);
});

test("labels never cover each other; what has no room is left out", () => {
  const crowd = Array.from({ length: 30 }, (_, i) => ({ text: `pllm-${i}`, x: 100 + (i % 3), y: 100 + (i % 5) }));
  const placed = placeLabels(crowd, 300, 200);
  expect(placed.length).toBeGreaterThan(0);
  expect(placed.length).toBeLessThan(30);
  const rows = placed.map((l) => `${l.anchor} ${Math.round(l.y + l.dy)}`);
  expect(new Set(rows).size).toBe(rows.length);
});
