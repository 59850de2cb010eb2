// Debian's Chromium, and what the checks do with a page.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const DESKTOP = { viewport: { width: 1280, height: 800 } };
export const DARK = { ...DESKTOP, colorScheme: "dark" };
export const PHONE = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
};
export const NARROW = { ...PHONE, viewport: { width: 360, height: 740 } };

export const HARMFUL = "When I threaten a teacher by mail, what do I do first?";
export const HARMLESS = "How do I bake bread at home?";

export function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

// A page of `url`. What the browser complains about is collected in `page.complaints`.
export async function open(browser, url, device = DESKTOP) {
  const context = await browser.newContext(device);
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (line) => line.type() === "error" && page.complaints.push(line.text()));
  await page.goto(url);
  return page;
}

// Sends a prompt in a view, and waits until nothing is being written there.
export async function send(page, view, prompt) {
  const box = page.locator(`#${view} textarea`);
  await box.fill(prompt);
  await box.press("Enter");
  await idle(page, view);
}

export async function idle(page, view) {
  await page.locator(`#${view} textarea:enabled`).waitFor();
}

// Faults of accessibility of the worst two kinds, in words.
export async function faults(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

// A picture into the folder SHOTS, if it is set.
export async function shot(page, name, options = {}) {
  const folder = process.env.SHOTS;
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, ...options });
}
