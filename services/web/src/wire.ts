// Answers of REST v1, as xpert.wire; fields that the page does not show are left out.

export interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: string | null;
}

export interface Base {
  readonly name: string;
  readonly source: string;
  readonly digest: string;
}

export interface Space {
  readonly digest: string;
  readonly artifact: string;
  readonly name: string;
  readonly version: number;
  readonly encoder: string;
  readonly words: readonly string[];
}

export interface WordBody {
  readonly word: string;
  readonly coefficient: number;
  readonly lower: number;
  readonly upper: number;
  readonly held_up: boolean;
}

export interface ExplanationBody {
  readonly space: string;
  readonly words: readonly WordBody[];
  readonly strength: number;
  readonly residual_share: number;
  readonly n_probes: number;
}

export interface Pllm {
  readonly name: string;
  readonly base: string;
  readonly base_digest: string;
  readonly adapter_digest: string;
  readonly adapter_bytes: number;
  readonly files: Readonly<Record<string, string>>;
  readonly created: string;
  readonly job: string | null;
  readonly explanation: ExplanationBody | null;
  readonly quarantined: string | null;
  readonly merged_from: readonly { readonly pllm: string; readonly weight: number }[];
}

export type Explained = Pllm & { readonly explanation: ExplanationBody };

export interface CatalogueInfo {
  readonly base: string;
  readonly base_digest: string;
  readonly space: string;
  readonly version: string;
  readonly n_pllms: number;
  readonly n_bytes: number;
}

export type JobState = "queued" | "running" | "succeeded" | "failed" | "cancelled";

export interface Job {
  readonly id: string;
  readonly kind: "explain" | "merge" | "space";
  readonly state: JobState;
  readonly done: number;
  readonly total: number;
  readonly attempts: number;
  readonly subject: string;
  readonly error: string | null;
  readonly created: string;
  readonly updated: string;
}

/** Answers of base and pLLM to one probe. */
export interface Sample {
  readonly prompt: string;
  readonly base: string;
  readonly pllm: string;
}

export interface Problem {
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly request_id: string | null;
}
