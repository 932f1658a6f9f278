// What several views need of a base: its pLLMs and its catalogue.

import { ApiError, get, list, type Query } from "../api";
import type { CatalogueInfo, Pllm, Space } from "../wire";

export interface Shelf {
  readonly pllms: readonly Pllm[];
  /** Whether the server has more than were read. */
  readonly more: boolean;
  readonly info: CatalogueInfo | null;
  readonly space: Space | null;
}

export async function loadShelf(base: string, query: Query, signal: AbortSignal): Promise<Shelf> {
  const [{ items, more }, info] = await Promise.all([
    list<Pllm>("v1/pllms", [["base", base], ["limit", "200"], ...query], signal),
    orNull(get<CatalogueInfo>(`v1/catalogues/${encodeURIComponent(base)}`, signal)),
  ]);
  const space = info ? await get<Space>(`v1/spaces/${info.space}`, signal) : null;
  return { pllms: items, more, info, space };
}

/** Turns "there is none" into null. */
export async function orNull<Value>(asked: Promise<Value>): Promise<Value | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}
