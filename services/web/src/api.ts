// Asking the server: REST v1 with a bearer token that this tab alone keeps.

import type { Job, Page, Problem } from "./wire";

const TOKEN = "xpert-token";
const MOST_ITEMS = 1000;

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly requestId: string | null = null,
  ) {
    super(message);
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value: string) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

export type Query = readonly (readonly [string, string])[];

async function ask(path: string, init: RequestInit & { accept?: string } = {}): Promise<Response> {
  const headers = new Headers({ accept: init.accept ?? "application/json" });
  const secret = token.get();
  if (secret) headers.set("authorization", `Bearer ${secret}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached. Check that it runs and that you are connected.");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<ApiError> {
  try {
    const problem = (await response.json()) as Problem;
    return new ApiError(response.status, problem.detail, problem.request_id);
  } catch {
    return new ApiError(response.status, `The server answered ${response.status} without saying why.`);
  }
}

const withQuery = (path: string, query: Query) => (query.length ? `${path}?${new URLSearchParams(query.map((q) => [...q]))}` : path);

export async function get<Body>(path: string, signal?: AbortSignal): Promise<Body> {
  return (await (await ask(path, signal ? { signal } : {})).json()) as Body;
}

export async function bytes(path: string, signal?: AbortSignal): Promise<ArrayBuffer> {
  return (await ask(path, { accept: "application/octet-stream", ...(signal ? { signal } : {}) })).arrayBuffer();
}

/** Reads a list page by page, at most 1,000 items; `more` tells whether there are others. */
export async function list<Item>(path: string, query: Query, signal?: AbortSignal): Promise<{ items: Item[]; more: boolean }> {
  const items: Item[] = [];
  let after: string | null = null;
  do {
    const here: Query = after === null ? query : [...query, ["after", after]];
    const page: Page<Item> = await get(withQuery(path, here), signal);
    items.push(...page.items);
    after = page.next;
  } while (after !== null && items.length < MOST_ITEMS);
  return { items, more: after !== null };
}

export async function cancel(job: string): Promise<void> {
  await ask(`v1/jobs/${job}`, { method: "DELETE" });
}

/** Follows a job by server-sent events until it ends; by fetch, since EventSource sends no token. */
export async function follow(job: string, tell: (job: Job) => void, signal: AbortSignal): Promise<void> {
  const response = await ask(`v1/jobs/${job}/events`, { accept: "text/event-stream", signal });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length) tell(JSON.parse(data.join("\n")) as Job);
    }
  }
}
