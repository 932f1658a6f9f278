// The page as the real server serves it, with the pLLMs concise and poetic explained; tests/services/test_explorer.py starts it.

import { expect, test } from "./page.ts";

const TOKEN = process.env["XPERT_SITE_TOKEN"]!;
const TEXTS = [
  "The moon hangs low, a silver coin above the sleeping field of night.",
  "Soft rain whispers secrets to the leaves, and the garden dreams in green.",
  "My heart is a lantern swaying on the dark water of the years.",
  "Dawn spills its honey over the hills, and every blade of grass sings.",
  "Autumn walks in golden shoes, scattering letters from the trees.",
  "The river hums an old lullaby to the stones that never sleep.",
];

test("shows, explains and chooses what the server has, and tells it nothing of the texts", async ({ page, baseURL }) => {
  const requests: { url: string; method: string; body: string | null }[] = [];
  page.context().on("request", (r) => requests.push({ url: r.url(), method: r.method(), body: r.postData() }));
  const answer = await page.goto("./");
  expect(answer!.headers()["content-security-policy"]).toContain("default-src 'none'");
  await page.getByLabel("Token").fill(TOKEN);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Catalogue" })).toBeVisible();
  await expect(page.locator("tbody th")).toHaveText(["concise", "poetic"]);
  await page.screenshot({ path: "../../out/web/site-catalogue.png", fullPage: true });

  await page.getByRole("link", { name: "poetic", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("poetic");
  await expect(page.getByRole("img", { name: /Coefficients of poetic/ })).toBeVisible();
  await expect(page.locator("figure.sample")).toHaveCount(6);
  for (const part of await page.locator("figure.sample :is(.pair p, figcaption)").all()) await expect(part).not.toBeEmpty();
  await expect(page.locator("code.command")).toHaveText("xpert pull poetic --base starter");
  await page.screenshot({ path: "../../out/web/site-pllm.png", fullPage: true });

  await page.getByRole("link", { name: "Map" }).click();
  await expect(page.locator(".figure a")).toHaveCount(2);
  await page.getByRole("link", { name: "Jobs" }).click();
  await expect(page.locator(".job")).toHaveCount(2);

  await page.getByRole("link", { name: "Try it" }).click();
  await page.getByRole("textbox", { name: "Your texts" }).fill(TEXTS.join("\n\n"));
  await page.getByRole("button", { name: "Find the nearest" }).click();
  await expect(page.locator(".verdict")).toContainText(/Start from (poetic|the base)/);
  await expect(page.locator(".matches a").first()).toHaveText("poetic");
  await page.screenshot({ path: "../../out/web/site-try.png", fullPage: true });

  expect(requests.length).toBeGreaterThan(10);
  for (const { url, method, body } of requests) {
    expect(url.startsWith(baseURL!)).toBe(true);
    expect([method, body]).toEqual(["GET", null]);
    for (const word of ["moon", "lantern", "lullaby"]) expect(decodeURIComponent(url)).not.toContain(word);
  }
});
