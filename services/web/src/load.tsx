// Loading what a view needs: waiting, failing in words, asking for a token where one is needed.

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { ApiError } from "./api";
import { SignIn } from "./views/sign-in";

export type Loaded<Value> =
  | { readonly state: "loading" }
  | { readonly state: "failed"; readonly error: unknown }
  | { readonly state: "ready"; readonly value: Value };

/** Loads again whenever `key` changes or `reload` is called; what was there stays until the new value comes. */
export function useLoad<Value>(key: string, load: (signal: AbortSignal) => Promise<Value>): [Loaded<Value>, () => void] {
  const [found, setFound] = useState<Loaded<Value>>({ state: "loading" });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    load(control.signal).then(
      (value) => control.signal.aborted || setFound({ state: "ready", value }),
      (error: unknown) => control.signal.aborted || setFound({ state: "failed", error }),
    );
    return () => control.abort();
  }, [key, turn]);
  return [found, useCallback(() => setTurn((n) => n + 1), [])];
}

export function Show<Value>(props: {
  found: Loaded<Value>;
  retry: () => void;
  children: (value: Value) => ComponentChildren;
}) {
  const { found, retry, children } = props;
  if (found.state === "loading") return <p class="waiting" role="status">Loading …</p>;
  if (found.state === "ready") return <>{children(found.value)}</>;
  if (found.error instanceof ApiError && (found.error.status === 401 || found.error.status === 403)) {
    return <SignIn reason={found.error} done={retry} />;
  }
  return <Failure error={found.error} retry={retry} />;
}

export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  return (
    <div class="notice bad" role="alert">
      <p>{error instanceof Error ? error.message : String(error)}</p>
      {error instanceof ApiError && error.requestId && <p class="quiet">Request {error.requestId}</p>}
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
