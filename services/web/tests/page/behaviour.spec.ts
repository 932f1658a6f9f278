import { readFileSync } from "node:fs";
import { expect, signIn, test, TOKEN } from "./page.ts";

interface Expected {
  user: string;
  texts: string[];
  selection: { choice: string | null; matches: [string, number, number, number][] };
}

const golden = JSON.parse(readFileSync(new URL("../golden.json", import.meta.url), "utf-8")) as { users: Expected[] };
const pllms = JSON.parse(readFileSync(new URL("../../mock/data/pllms.json", import.meta.url), "utf-8")) as {
  name: string;
  adapter_digest: string;
}[];
const label = (row: string | null) => pllms.find((p) => row && p.adapter_digest.startsWith(row))?.name ?? null;

test("asks for a token, says when it does not do, and keeps it in the tab alone", async ({ page }) => {
  await page.goto("./");
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page.getByText("No valid token came with the request")).toBeVisible();
  await page.getByLabel("Token").fill(TOKEN);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Catalogue" })).toBeVisible();
  expect(await page.evaluate(() => [localStorage.length, document.cookie, sessionStorage.getItem("xpert-token")])).toEqual([0, "", TOKEN]);
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Token")).toBeVisible();
});

test("reads all pages, sorts and filters by words, and keeps that in the address", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("status")).toHaveText("16 pLLMs");
  await page.getByLabel("Sort by").selectOption("concise");
  const names = page.locator("tbody th");
  await expect(names.first()).toHaveText("concise");
  await expect(page.getByRole("columnheader", { name: "concise" })).toHaveAttribute("aria-sort", "descending");
  await page.getByRole("columnheader", { name: "concise" }).getByRole("button").click();
  await expect(page.getByRole("columnheader", { name: "concise" })).toHaveAttribute("aria-sort", "ascending");
  await page.getByLabel("Only those that are").selectOption("expert");
  await page.getByLabel("by at least").fill("0.2");
  await page.getByRole("button", { name: "Add" }).click();
  await expect(names).toHaveText(["expert", "expert-concise"]);
  await page.reload();
  await expect(names).toHaveText(["expert", "expert-concise"]);
  await page.getByRole("button", { name: "Remove the filter expert" }).click();
  await page.getByRole("searchbox", { name: "Name" }).fill("shake");
  await expect(names).toHaveText(["shakespearean"]);
  await page.getByRole("searchbox", { name: "Name" }).fill("nobody");
  await expect(page.getByText("No pLLM is like that")).toBeVisible();
});

test("shows a pLLM's words with intervals and its answers beside the base's", async ({ page }) => {
  await signIn(page, "#/starter/pllms/poetic");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("poetic");
  await expect(page.getByRole("img", { name: /Coefficients of poetic/ })).toBeVisible();
  await page.getByText("The same as a table").click();
  await expect(page.getByRole("row", { name: /^poetic 0\.\d\d 0\.\d\d to 0\.\d\d$/ })).toBeVisible();
  await expect(page.locator("figure.sample")).toHaveCount(6);
});

test("says why a pLLM was refused and that another is still being explained", async ({ page }) => {
  await signIn(page, "#/starter/pllms/old-timer");
  await expect(page.getByText("holds NaN or infinity")).toBeVisible();
  await page.goto("./#/starter/pllms/support-desk");
  await expect(page.getByText("Not explained yet")).toBeVisible();
  await page.goto("./#/starter/pllms/nobody");
  await expect(page.getByRole("alert")).toContainText("There is nothing at");
});

test("leads from the map to a pLLM by keyboard", async ({ page }) => {
  await signIn(page, "#/starter/map");
  const dot = page.getByRole("link", { name: /^poetic: poetic/ });
  await dot.focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("poetic");
  await page.goto("./#/starter/map");
  await page.getByLabel("Across").selectOption("formal");
  await page.getByLabel("Up").selectOption("humorous");
  await expect(page.getByText("the base is at zero")).toBeVisible();
  await expect(page).toHaveURL(/x=formal&y=humorous/);
});

test("follows a running job live and cancels it", async ({ page }) => {
  await signIn(page, "#/starter/jobs");
  const job = page.getByRole("listitem").filter({ hasText: "support-desk" });
  const bar = job.getByRole("progressbar");
  const before = Number(await bar.getAttribute("value"));
  await expect.poll(async () => Number(await bar.getAttribute("value"))).toBeGreaterThan(before);
  await job.getByRole("button", { name: /^Cancel/ }).click();
  await expect(job.getByText("cancelled")).toBeVisible();
});

test("works by keyboard: the skip link leads to the content, a move puts the focus there", async ({ page }) => {
  await signIn(page);
  await expect(page.getByRole("heading", { name: "Catalogue" })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("main")).toBeFocused();
  await page.getByRole("link", { name: "Jobs" }).focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("main")).toBeFocused();
  await expect(page).toHaveTitle("Jobs · XPerT explorer");
});

for (const { user, texts, selection } of golden.users.filter((u) => ["u02", "u08", "u10"].includes(u.user))) {
  test(`chooses for ${user} what Python chooses, and sends nothing`, async ({ page }) => {
    await signIn(page, "#/starter/try");
    const requests: { url: string; method: string; body: string | null }[] = [];
    await page.getByRole("textbox", { name: "Your texts" }).fill("One text to start the encoder with.");
    await page.getByRole("button", { name: "Find the nearest" }).click();
    await expect(page.locator(".verdict")).toBeVisible();
    page.on("request", (r) => requests.push({ url: r.url(), method: r.method(), body: r.postData() }));
    await page.getByRole("textbox", { name: "Your texts" }).fill(texts.join("\n\n"));
    await expect(page.getByText(`${texts.length} texts.`)).toBeVisible();
    await page.getByRole("button", { name: "Find the nearest" }).click();
    const verdict = page.locator(".verdict");
    await expect(verdict).toContainText(selection.choice ? `Start from ${label(selection.choice)}` : "Start from the base");
    await expect(page.locator(".matches a").first()).toHaveText(label(selection.matches[0]![0])!);
    expect(requests).toEqual([]);
  });
}

test("fetches the encoder from this server alone, with nothing in the requests", async ({ page, baseURL }) => {
  await signIn(page, "#/starter/try");
  await expect(page.getByLabel("Your texts")).toBeVisible();
  const requests: { url: string; method: string; body: string | null }[] = [];
  page.context().on("request", (r) => requests.push({ url: r.url(), method: r.method(), body: r.postData() }));
  await page.getByRole("button", { name: "Fill in an example" }).click();
  await page.getByRole("button", { name: "Find the nearest" }).click();
  await expect(page.locator(".verdict")).toContainText("Start from poetic");
  expect(requests.length).toBeGreaterThan(0);
  for (const request of requests) {
    expect(request.url).toMatch(new RegExp(`^${baseURL!}assets/[\\w.-]+$`));
    expect([request.method, request.body]).toEqual(["GET", null]);
  }
});

test("says so where the server cannot be reached", async ({ page }) => {
  await page.route("**/v1/**", (route) => route.abort());
  await page.goto("./");
  await expect(page.getByRole("alert")).toContainText("The server cannot be reached");
});
