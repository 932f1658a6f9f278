import { existsSync } from "node:fs";
import { chromium } from "@playwright/test";

const SYSTEM = ["/usr/bin/chromium", "/usr/bin/google-chrome"];

/** Path of the Chromium to test in: the one named, the system's, Playwright's own, or the one that comes as a package. */
export async function findChromium(): Promise<string> {
  const named = process.env["XPERT_CHROMIUM"];
  if (named) {
    if (!existsSync(named)) throw new Error(`XPERT_CHROMIUM names ${named}, and there is no such file. Name a Chromium, or unset it.`);
    return named;
  }
  const installed = [...SYSTEM, chromium.executablePath()].find((path) => existsSync(path));
  if (installed) return installed;
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error("There is no Chromium. Install one, name it in XPERT_CHROMIUM, or run: npx playwright install chromium");
  }
  // Said before it is loaded, the package brings the system libraries along that a machine without a desktop lacks.
  process.env["AWS_LAMBDA_JS_RUNTIME"] ??= "nodejs20.x";
  const { default: packaged } = await import("@sparticuz/chromium");
  return packaged.executablePath();
}
