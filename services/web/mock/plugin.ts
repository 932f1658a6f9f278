// A small /v1 of recorded answers beside the built page, for the tests and for working on the page.

import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin, PreviewServer, ViteDevServer } from "vite";
import type { Base, CatalogueInfo, Job, Pllm, Sample, Space } from "../src/wire";

export const TOKEN = "look-around";
const STEP_MS = 150;

const bytes = (path: string) => readFileSync(new URL(path, import.meta.url));
const json = <Value>(name: string) => JSON.parse(bytes(`./data/${name}.json`).toString()) as Value;

/** Serves `/v1` to whoever has the token; one job advances while someone follows it. */
export function mockServer(): Plugin {
  const world = new World();
  const serve = (server: ViteDevServer | PreviewServer) => {
    server.middlewares.use((request, response, next) => {
      if (request.url?.startsWith("/v1/")) world.answer(request, response);
      else next();
    });
  };
  return { name: "mock-v1", configureServer: serve, configurePreviewServer: serve };
}

class World {
  readonly bases = json<Base[]>("bases");
  readonly spaces = json<Space[]>("spaces");
  readonly pllms = json<Pllm[]>("pllms");
  readonly catalogues = json<CatalogueInfo[]>("catalogues");
  readonly answers = json<Record<string, Sample[]>>("answers");
  readonly jobs: Job[];

  constructor() {
    const done = json<Job[]>("jobs");
    const like = { ...done[0]!, done: 0, total: 40, attempts: 1 };
    const waiting = this.pllms.find((pllm) => pllm.name === "support-desk");
    const refused = this.pllms.find((pllm) => pllm.quarantined);
    this.jobs = [
      ...done,
      { ...like, id: waiting?.job ?? "", subject: "starter/support-desk", state: "running", done: 11 },
      { ...like, id: "f".repeat(64), subject: "starter/old-timer", state: "failed", error: refused?.quarantined ?? null },
    ];
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://mock");
    const part = url.pathname.split("/").slice(2).map(decodeURIComponent);
    const signed = part[0] === "downloads";
    if (!signed && request.headers.authorization !== `Bearer ${TOKEN}`) {
      return refuse(response, 401, "access", "No valid token came with the request. Send one that an administrator made.");
    }
    if (part[0] === "jobs" && part[2] === "events") return this.events(part[1]!, response);
    if (part[0] === "jobs" && request.method === "DELETE") return this.cancel(part[1]!, response);
    if (part[0] === "artifacts") {
      response.writeHead(307, { location: `/v1/downloads/${part[1]}` });
      return void response.end();
    }
    if (signed) return binary(response, bytes("../../../sdk/src/xpert/data/default.space.safetensors"));
    if (part[0] === "catalogues" && !request.headers.accept?.includes("json")) {
      return binary(response, bytes("./data/starter.xcat.safetensors"));
    }
    const found = this.find(part, url.searchParams);
    if (found === undefined) return refuse(response, 404, "not_found", `There is nothing at ${url.pathname}.`);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(found));
  }

  private find([kind, a, b, c]: string[], query: URLSearchParams): unknown {
    if (kind === "bases" && !a) return page(this.bases, query, (base) => base.name);
    if (kind === "spaces") return this.spaces.find((space) => space.digest === a);
    if (kind === "catalogues") return this.catalogues.find((info) => info.base === a);
    if (kind === "jobs") return a ? this.jobs.find((job) => job.id === a) : page(this.jobs, query, (job) => job.id);
    if (kind !== "pllms") return undefined;
    if (c === "answers") return this.answers[b!] && { items: this.answers[b!], next: null };
    if (b) return this.pllms.find((pllm) => pllm.base === a && pllm.name === b);
    return page(this.pllms.filter((pllm) => pllm.base === query.get("base")), query, (pllm) => pllm.name);
  }

  private cancel(id: string, response: ServerResponse): void {
    const at = this.jobs.findIndex((job) => job.id === id);
    this.jobs[at] = { ...this.jobs[at]!, state: "cancelled", updated: new Date().toISOString() };
    response.writeHead(202, { "content-type": "application/json" });
    response.end(JSON.stringify(this.jobs[at]));
  }

  private events(id: string, response: ServerResponse): void {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const begun = this.jobs.findIndex((job) => job.id === id && job.state === "running");
    if (begun >= 0) this.jobs[begun] = { ...this.jobs[begun]!, done: 11 };
    const timer = setInterval(() => {
      const at = this.jobs.findIndex((job) => job.id === id);
      const job = this.jobs[at];
      if (!job || job.state !== "running") return void (clearInterval(timer), response.end());
      // It stops short of its end, so that every test finds it at work.
      this.jobs[at] = { ...job, done: Math.min(job.done + 1, job.total - 1), updated: new Date().toISOString() };
      response.write(`event: job\r\ndata: ${JSON.stringify(this.jobs[at])}\r\n\r\n`);
    }, STEP_MS);
    response.on("close", () => clearInterval(timer));
  }
}

function page<Item>(items: readonly Item[], query: URLSearchParams, key: (item: Item) => string) {
  const sorted = [...items].sort((a, b) => (key(a) < key(b) ? -1 : 1));
  const rest = sorted.filter((item) => key(item) > (query.get("after") ?? ""));
  const limit = Math.min(Number(query.get("limit") ?? 100), 10); // Small pages, so that reading on is exercised.
  return { items: rest.slice(0, limit), next: rest.length > limit ? key(rest[limit - 1]!) : null };
}

function refuse(response: ServerResponse, status: number, code: string, detail: string): void {
  response.writeHead(status, { "content-type": "application/problem+json" });
  response.end(JSON.stringify({ type: `urn:xpert:${code}`, title: code, status, detail, code, request_id: "mock-1" }));
}

function binary(response: ServerResponse, body: Buffer): void {
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": body.length });
  response.end(body);
}
