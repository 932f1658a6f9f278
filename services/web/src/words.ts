// How numbers and explanations read.

import type { Explained, Pllm, WordBody } from "./wire";

/** A number with a real minus sign, and none before zero. */
export const number = (x: number, digits = 2): string => x.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");

export const percent = (x: number): string => `${Math.round(100 * x)} %`;

export function size(n: number): string {
  if (n < 1024) return `${n} B`;
  const kib = n / 1024;
  return kib < 1024 ? `${kib.toFixed(kib < 10 ? 1 : 0)} KiB` : `${(kib / 1024).toFixed(kib < 10240 ? 1 : 0)} MiB`;
}

export function when(iso: string): string {
  return new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

export const isExplained = (pllm: Pllm): pllm is Explained => pllm.explanation !== null && pllm.quarantined === null;

export function wordOf(pllm: Pllm, word: string): WordBody | undefined {
  return pllm.explanation?.words.find((w) => w.word === word);
}

/** The words that hold up, strongest first; where none does, the strongest alone. */
export function tellingWords(pllm: Explained, most: number): readonly WordBody[] {
  const { words } = pllm.explanation;
  const sure = words.filter((w) => w.held_up).slice(0, most);
  return sure.length ? sure : words.slice(0, 1);
}

/** One sentence about a pLLM. */
export function sentence(pllm: Explained): string {
  const telling = tellingWords(pllm, 4);
  const spelled = (some: readonly WordBody[]) => joined(some.map((w) => `${w.word} ${number(Math.abs(w.coefficient))}`));
  const more = telling.filter((w) => w.coefficient > 0);
  const less = telling.filter((w) => w.coefficient < 0);
  const parts = [more.length ? `more ${spelled(more)}` : "", less.length ? `less ${spelled(less)}` : ""].filter(Boolean);
  return `Than its base it is ${parts.join("; ")}.`;
}

export function joined(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}
