// The frame: who asks, which base model, which view.

import { useEffect, useRef, useState } from "preact/hooks";
import { list, token } from "./api";
import { Show, useLoad } from "./load";
import { link, useRoute, type Route } from "./route";
import { Catalogue } from "./views/catalogue";
import { Jobs } from "./views/jobs";
import { StyleMap } from "./views/style-map";
import { PllmView } from "./views/pllm";
import { TryIt } from "./views/try-it";
import type { Base } from "./wire";

const PARTS = [
  ["pllms", "Catalogue"],
  ["map", "Map"],
  ["try", "Try it"],
  ["jobs", "Jobs"],
] as const;

export function App() {
  const route = useRoute();
  const [bases, again] = useLoad("bases", (signal) => list<Base>("v1/bases", [], signal));
  const names = bases.state === "ready" ? bases.value.items.map((base) => base.name) : [];
  const base = route.base && names.includes(route.base) ? route.base : (names[0] ?? null);
  const main = useFocusOnMove(route);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the content
      </a>
      <Header route={route} base={base} names={names} onSignOut={again} />
      <main id="main" ref={main} tabIndex={-1}>
        <Show found={bases} retry={again}>
          {() => (base ? <View route={route} base={base} /> : <NoBase />)}
        </Show>
      </main>
      <footer>
        <p>
          Coefficients compare a pLLM with its base: 1 is as much of a word as its exemplars have, 0 is the base. Bars are 95 %
          intervals.
        </p>
      </footer>
    </>
  );
}

function Header(props: { route: Route; base: string | null; names: readonly string[]; onSignOut: () => void }) {
  const { route, base, names, onSignOut } = props;
  const [signedIn, setSignedIn] = useState(false);
  useEffect(() => setSignedIn(token.get() !== null));
  return (
    <header class="top">
      <div class="inner">
        <a class="brand" href={base ? link(base, "pllms") : "#/"}>
          <img src="./icon.svg" alt="" width="26" height="26" />
          <span>
            XPerT <b>explorer</b>
          </span>
        </a>
        {base && (
          <nav aria-label="Views">
            {PARTS.map(([part, title]) => (
              <a key={part} href={link(base, part)} aria-current={route.part === part ? "page" : undefined}>
                {title}
              </a>
            ))}
          </nav>
        )}
        {names.length > 1 && (
          <label class="base">
            Base{" "}
            <select value={base ?? ""} onChange={(event) => (location.hash = link(event.currentTarget.value, "pllms"))}>
              {names.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
        {signedIn && (
          <button type="button" class="plain" onClick={() => (token.forget(), onSignOut())}>
            Sign out
          </button>
        )}
      </div>
    </header>
  );
}

function View({ route, base }: { route: Route; base: string }) {
  if (route.part === "pllms" && route.name) return <PllmView key={route.name} base={base} name={route.name} />;
  if (route.part === "map") return <StyleMap route={route} base={base} />;
  if (route.part === "try") return <TryIt base={base} />;
  if (route.part === "jobs") return <Jobs base={base} />;
  return <Catalogue route={route} base={base} />;
}

function NoBase() {
  return (
    <div class="notice">
      <h1>No base model yet</h1>
      <p>
        Register one: <code>xpert server base add NAME SOURCE</code>, then <code>xpert push</code> its pLLMs.
      </p>
    </div>
  );
}

/** Moves the focus to the content when the view changes, so that a screen reader reads on from there. */
function useFocusOnMove(route: Route) {
  const main = useRef<HTMLElement>(null);
  const place = `${route.base}/${route.part}/${route.name}`;
  const last = useRef(place);
  useEffect(() => {
    const part = PARTS.find(([key]) => key === route.part)?.[1] ?? "";
    document.title = `${route.name ?? part} · XPerT explorer`;
    if (last.current !== place) {
      last.current = place;
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  }, [place]);
  return main;
}
