// Every view at every width and in both colour schemes: accessible, never wider than the screen, and a picture to look at.

import AxeBuilder from "@axe-core/playwright";
import { expect, signIn, test } from "./page.ts";
import type { Page } from "@playwright/test";

const views: [string, string, (page: Page) => Promise<void>][] = [
  ["catalogue", "", async (page) => expect(page.locator("tbody tr")).toHaveCount(16)],
  [
    "catalogue-words",
    "#/starter/pllms?sort=-poetic&word=concise%3A0.05",
    async (page) => expect(page.locator(".interval").first()).toBeVisible(),
  ],
  ["pllm", "#/starter/pllms/poetic", async (page) => expect(page.locator(".figure")).toBeVisible()],
  ["refused", "#/starter/pllms/old-timer", async (page) => expect(page.locator(".notice")).toBeVisible()],
  ["map", "#/starter/map", async (page) => expect(page.locator(".figure a")).toHaveCount(14)],
  ["map-words", "#/starter/map?x=concise&y=poetic", async (page) => expect(page.locator(".figure a")).toHaveCount(14)],
  ["jobs", "#/starter/jobs", async (page) => expect(page.locator(".job")).toHaveCount(16)],
  [
    "try",
    "#/starter/try",
    async (page) => {
      await page.getByRole("button", { name: "Fill in an example" }).click();
      await page.getByRole("button", { name: "Find the nearest" }).click();
      await expect(page.locator(".verdict")).toBeVisible();
      await expect(page.locator(".result .figure")).toBeVisible();
    },
  ],
];

async function look(page: Page, name: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
  expect(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 160)).join(" | ")}`)).toEqual([]);
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
  await page.screenshot({ path: `../../out/web/${test.info().project.name}-${name}.png`, fullPage: true });
}

for (const [name, hash, ready] of views) {
  test(name, async ({ page }) => {
    await signIn(page, hash);
    await ready(page);
    await look(page, name);
  });
}

test("sign-in", async ({ page }) => {
  await page.goto("./");
  await expect(page.getByLabel("Token")).toBeVisible();
  await look(page, "sign-in");
});
