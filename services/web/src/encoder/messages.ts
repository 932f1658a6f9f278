// What the page and the encoder's worker say to each other.

export const ENCODER = "all-MiniLM-L6-v2+surface-1";
export const MAX_TOKENS = 256;

export interface Order {
  readonly texts: readonly string[];
}

export type Answer =
  | { readonly kind: "loading"; readonly done: number; readonly total: number }
  | { readonly kind: "embedded"; readonly index: number; readonly embedding: Float32Array }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly message: string };
