// What the page's tests share: signing in, and that nothing in the browser complains.

import { expect, test as plain, type Page } from "@playwright/test";
import { TOKEN } from "../../mock/plugin.ts";

export const test = plain.extend<{ complaints: string[] }>({
  complaints: [
    async ({ page }, use) => {
      const complaints: string[] = [];
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => {
        // The browser itself notes answers of 401 and 404, which the page handles.
        if (message.type() === "error" && !message.text().includes("Failed to load resource")) complaints.push(message.text());
      });
      await use(complaints);
      expect(complaints).toEqual([]);
    },
    { auto: true },
  ],
});

export async function signIn(page: Page, hash = ""): Promise<void> {
  await page.addInitScript((token) => sessionStorage.setItem("xpert-token", token), TOKEN);
  await page.goto(`./${hash}`);
}

export { expect, TOKEN };
