import { defineConfig } from "vitest/config";
import { mockServer } from "./mock/plugin.ts";

// `--mode mock` serves the page beside a small /v1 of recorded answers; a build never holds any of it.
export default defineConfig(({ mode }) => ({
  base: "./",
  plugins: mode === "mock" ? [mockServer()] : [],
  worker: { format: "es" },
  build: {
    outDir: "../src/xpert_services/web",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
    modulePreload: { polyfill: false },
  },
  test: { include: ["tests/unit/**/*.test.ts"], testTimeout: 60_000 },
}));
