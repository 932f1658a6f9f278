// Observable Plot inside Preact, under a policy that forbids inline styles.

import * as Plot from "@observablehq/plot";
import { useEffect, useRef, useState } from "preact/hooks";

export type Draw = (width: number) => Plot.PlotOptions;

/** Draws a plot as wide as its place and again whenever `key` or the width changes. */
export function Figure(props: { label: string; signature: string; draw: Draw; after?: (svg: SVGSVGElement) => void }) {
  const { label, signature, draw, after } = props;
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    if (place.current) watch.observe(place.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (!place.current || width === 0) return;
    const svg = Plot.plot({ width, ...draw(width) }) as SVGSVGElement;
    // Plot's few rules stand in style.css: the page's policy takes no inline style.
    svg.querySelectorAll("style").forEach((style) => style.remove());
    // Plot labels its groups "dot" and "rule", which tells a listener nothing.
    svg.querySelectorAll("g[aria-label]").forEach((group) => group.removeAttribute("aria-label"));
    svg.setAttribute("class", "figure");
    svg.setAttribute("aria-label", label);
    svg.setAttribute("role", svg.querySelector("a") ? "group" : "img");
    after?.(svg);
    place.current.replaceChildren(svg);
  }, [width, signature, label]);
  return <div class="figure-place" ref={place} />;
}
