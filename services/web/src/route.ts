// Where the page is, kept behind the address's hash so that any path of the server will do: #/BASE/PART/NAME?QUERY

import { useEffect, useState } from "preact/hooks";

export interface Route {
  readonly base: string | null;
  readonly part: string;
  readonly name: string | null;
  readonly query: URLSearchParams;
}

export function read(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [base, part, name] = path.split("/").map(decodeURIComponent);
  return { base: base || null, part: part || "pllms", name: name || null, query: new URLSearchParams(query) };
}

export function link(base: string, part: string, name?: string, query?: URLSearchParams): string {
  const path = [base, part, ...(name ? [name] : [])].map(encodeURIComponent).join("/");
  const rest = query?.toString();
  return `#/${path}${rest ? `?${rest}` : ""}`;
}

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return read(hash);
}

/** Changes the query without a step in the history. */
export function replaceQuery(route: Route, change: (query: URLSearchParams) => void): void {
  const query = new URLSearchParams(route.query);
  change(query);
  history.replaceState(null, "", link(route.base ?? "", route.part, route.name ?? undefined, query));
  dispatchEvent(new HashChangeEvent("hashchange"));
}
