import { defineConfig } from "@playwright/test";
import { findChromium } from "./chromium.ts";

const PORT = 4179;
// The address of a real server with pLLMs; without, the page is tested beside recorded answers.
const site = process.env["XPERT_SITE"];

const looks = [
  { name: "desktop-light", viewport: { width: 1280, height: 860 }, colorScheme: "light" },
  { name: "desktop-dark", viewport: { width: 1280, height: 860 }, colorScheme: "dark" },
  { name: "phone-light", viewport: { width: 390, height: 844 }, colorScheme: "light" },
  { name: "phone-dark", viewport: { width: 390, height: 844 }, colorScheme: "dark" },
] as const;

export default defineConfig({
  testDir: "tests/page",
  outputDir: "../../out/web/traces",
  reporter: [["list"]],
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 30_000 }, // The encoder starts within seconds, on a busy machine within some more.
  use: {
    baseURL: site ? `${site}/` : `http://127.0.0.1:${PORT}/`,
    launchOptions: { executablePath: await findChromium(), args: ["--no-sandbox"] },
    trace: "retain-on-failure",
  },
  projects: site
    ? [{ name: "site", testMatch: /site\.spec/, use: { viewport: looks[0].viewport } }]
    : [
        ...looks.map(({ name, viewport, colorScheme }) => ({ name, testMatch: /looks\.spec/, use: { viewport, colorScheme } })),
        { name: "behaviour", testMatch: /behaviour\.spec/, use: { viewport: looks[0].viewport } },
      ],
  ...(site
    ? {}
    : {
        webServer: {
          command: `npx vite preview --mode mock --host 127.0.0.1 --port ${PORT} --strictPort`,
          port: PORT,
          reuseExistingServer: false,
        },
      }),
});
