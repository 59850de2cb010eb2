// The page as a person uses it, against a real server.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import {
  DARK,
  DESKTOP,
  HARMFUL,
  HARMLESS,
  NARROW,
  PHONE,
  faults,
  idle,
  launch,
  open,
  send,
  shot,
} from "./browser.mjs";
import { serve } from "./server.mjs";

const VIEWS = ["compare", "critique", "blind", "constitution"];
const preferences = path.join(mkdtempSync(path.join(tmpdir(), "playground-")), "choices");
let browser;
let server;

before(async () => {
  [browser, server] = await Promise.all([launch(), serve({ preferences })]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const lines = (name) =>
  readFileSync(path.join(preferences, name), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
const texts = (locator) => locator.evaluateAll((nodes) => nodes.map((node) => node.textContent));

test("the page may load from its own server only, and says what it is", async () => {
  for (const [address, kind] of [
    ["", "text/html"],
    ["playground/js/main.js", "text/javascript"],
    ["playground/style.css", "text/css"],
  ]) {
    const { headers } = await fetch(server.url + address);
    assert.ok(headers.get("content-type").startsWith(kind), address);
    assert.equal(headers.get("x-content-type-options"), "nosniff", address);
    const policy = headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'.*script-src 'self'/);
    assert.doesNotMatch(policy, /unsafe/);
  }
});

test("two models answer the same prompt at the same time, with risk scores", async () => {
  const page = await open(browser, server.url);
  await page.evaluate(() => {
    globalThis.together = 0;
    const count = () =>
      (globalThis.together = Math.max(
        globalThis.together,
        document.querySelectorAll(".answer [aria-busy=true]").length,
      ));
    new MutationObserver(count).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
    });
  });
  await send(page, "compare", HARMFUL);
  assert.equal(await page.evaluate(() => globalThis.together), 2);
  const answers = await texts(page.locator("#compare .answer .text"));
  assert.ok(
    answers.every((text) => text.length > 10),
    answers.join(" | "),
  );
  assert.notEqual(answers[0], answers[1]);
  const risks = page.locator("#compare .risk");
  assert.equal(await risks.count(), 3);
  for (const risk of await risks.all()) {
    const numbers = (await texts(risk.locator(".number"))).map(Number);
    assert.equal(numbers.length, 5);
    assert.ok(Math.abs(numbers.reduce((sum, number) => sum + number) - 1) < 0.03, numbers.join());
  }
  await shot(page, "compare");

  // The same seed gives the same answers; the next prompt goes on with the conversation.
  await page.locator("text=New conversation").click();
  await send(page, "compare", HARMFUL);
  assert.deepEqual(await texts(page.locator("#compare .answer .text")), answers);
  const [asked] = await Promise.all([
    page.waitForRequest("**/v1/chat/completions"),
    send(page, "compare", HARMLESS),
  ]);
  assert.deepEqual(
    asked.postDataJSON().messages.map(({ role }) => role),
    ["user", "assistant", "user"],
  );
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("Escape stops the answers and frees their places", async () => {
  const page = await open(browser, server.url);
  await page.getByLabel("Tokens at most").first().fill("512");
  await page.getByLabel("Temperature").first().fill("2");
  const box = page.locator("#compare textarea");
  await box.fill(HARMLESS);
  await box.press("Enter");
  await page.keyboard.press("Escape");
  await idle(page, "compare");
  assert.ok((await texts(page.locator("#compare .answer .meta"))).includes("stopped"));
  const metric = async () =>
    (await (await fetch(`${server.url}metrics`)).text()).match(/^\w*running\S* (\S+)$/m)?.[1];
  for (let tries = 0; (await metric()) !== "0" && tries < 50; tries += 1)
    await page.waitForTimeout(100);
  assert.equal(await metric(), "0");
  await page.context().close();
});

test("markup in prompts and answers is shown as text", async () => {
  const markup = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><b>bold</b>';
  const page = await open(browser, server.url);
  const chunk = { choices: [{ index: 0, delta: { content: markup }, finish_reason: null }] };
  const end = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
  const body =
    [chunk, end].map((event) => `data: ${JSON.stringify(event)}\n\n`).join("") + "data: [DONE]\n\n";
  await page.route("**/v1/chat/completions", (route) =>
    route.fulfill({ contentType: "text/event-stream", body }),
  );
  await send(page, "compare", markup);
  assert.deepEqual(await texts(page.locator("#compare .turn .text")), [markup, markup, markup]);
  await page.unroute("**/v1/chat/completions");
  await shot(page, "markup");
  await page.goto(`${server.url}#critique`);
  await send(page, "critique", markup);
  assert.equal((await texts(page.locator("#critique .steps .text")))[0], markup);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.equal(await page.locator("main img, main script, main b").count(), 0);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("critique and revision come step by step", async () => {
  const page = await open(browser, `${server.url}#critique`);
  // With this seed the mini run's model first repeats itself, then revises.
  await page.locator("#critique").getByLabel("Seed").fill("3");
  const [request] = await Promise.all([
    page.waitForRequest("**/playground/critique"),
    send(page, "critique", HARMFUL),
  ]);
  await page.locator(".steps .outcome").waitFor();
  // Asked once more, since a browser may not keep the body of a stream; the seed makes it the same.
  const again = await fetch(request.url(), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: request.postData(),
  });
  const events = (await again.text())
    .split("\n")
    .filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice(6)));
  const record = events.at(-1).record;
  const titles = await texts(page.locator(".steps h2"));
  const rounds = record.rounds.flatMap((_, i) => [
    `Round ${i + 1}: principle drawn`,
    "Critique",
    "Revision",
  ]);
  assert.ok(record.rounds.length > 0);
  assert.deepEqual(titles, ["Prompt", "Initial answer", ...rounds, "Outcome"]);
  const shown = await texts(page.locator(".steps .text"));
  assert.equal(shown[1], record.initial.text);
  assert.ok(shown.at(-1).endsWith(record.final_revision));
  // What streams is what is recorded.
  const begin = events.findIndex((event) => event.step === "answering");
  const stop = events.findIndex((event) => event.step === "answered");
  assert.equal(
    events
      .slice(begin + 1, stop)
      .map((event) => event.text)
      .join("")
      .trim(),
    record.initial.text,
  );
  // The words that are there after a revision are the revision's.
  const revised = record.rounds.findIndex((round) => round.cleaning.length === 0);
  const step = page.locator(".steps > li").nth(4 + 3 * revised);
  const kept = await texts(step.locator(".text :not(del)"));
  assert.equal(kept.join(" "), record.rounds[revised].revision.split(/\s+/).join(" "));
  assert.ok((await step.locator("ins, del").count()) > 0);
  await shot(page, "critique", { fullPage: true });
  await page.locator(".steps code").first().click();
  assert.equal(
    await page.evaluate(() => document.activeElement.id),
    `principle-${record.rounds[0].principle}`,
  );
  await shot(page, "constitution");
  await page.context().close();
});

test("blind choices are kept as pairs, and the evaluator's agreement is told", async () => {
  const page = await open(browser, `${server.url}#blind`);
  await page.locator("text=No choices yet").waitFor();
  const made = [];
  for (const [prompt, key] of [
    [HARMFUL, "1"],
    [HARMLESS, "2"],
    [HARMFUL, "3"],
    [HARMLESS, "4"],
  ]) {
    await send(page, "blind", prompt);
    await page.locator(".choices:not([disabled])").waitFor();
    const cards = await texts(page.locator("#blind .answer h3"));
    assert.ok(
      cards.every((title) => !/base|sft|dpo/.test(title)),
      cards.join(),
    );
    assert.equal(await page.locator("#blind .risk").count(), 0);
    const [a, b] = await texts(page.locator("#blind .answer .text"));
    if (key === "1") await shot(page, "blind");
    await page.keyboard.press(key);
    await page.locator("#blind div.outcome").waitFor();
    const [nameA, nameB] = await texts(page.locator("#blind .answer .model"));
    made.push({ prompt, a, b, nameA, nameB });
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "TEXTAREA");
  }
  await shot(page, "reveal", { fullPage: true });

  const pairs = lines("pairs.jsonl");
  const undecided = lines("undecided.jsonl");
  assert.deepEqual(
    [...pairs, ...undecided].map((pair) => pair.choice),
    ["a", "b", "tie", "both_bad"],
  );
  [...pairs, ...undecided].forEach((pair, i) => {
    const { prompt, a, b, nameA, nameB } = made[i];
    const [chosen, rejected] = pair.choice === "b" ? [b, a] : [a, b];
    const [chosenBy, rejectedBy] = pair.choice === "b" ? [nameB, nameA] : [nameA, nameB];
    assert.deepEqual(pair.prompt, [{ role: "user", content: prompt }]);
    assert.deepEqual(pair.chosen, [{ role: "assistant", content: chosen }]);
    assert.deepEqual(pair.rejected, [{ role: "assistant", content: rejected }]);
    assert.deepEqual([pair.chosen_model, pair.rejected_model], [chosenBy, rejectedBy]);
    assert.deepEqual([pair.source, pair.chosen_probability], ["person", i < 2 ? undefined : 0.5]);
  });
  const side = (choice) => (choice === "both_bad" ? "tie" : choice);
  const same = [...pairs, ...undecided].filter(
    (pair) => side(pair.choice) === pair.evaluator,
  ).length;
  const tally = await page.locator(".tally").textContent();
  assert.ok(tally.includes(`The evaluator agrees in ${same} of 4 choices`), tally);
  assert.ok(tally.includes("4 choices in") && tally.includes("1 equally good, 1 both bad"), tally);

  // Which side a model is on is a coin's choice: over 16 prompts, both have been.
  const sides = new Set();
  await page.route("**/v1/chat/completions", (route) => {
    const { model } = route.request().postDataJSON();
    const chunk = { choices: [{ index: 0, delta: { content: model }, finish_reason: "stop" }] };
    route.fulfill({
      contentType: "text/event-stream",
      body: `data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`,
    });
  });
  for (let i = 0; i < 16; i += 1) {
    await send(page, "blind", `${i}`);
    sides.add(await page.locator("#blind .answer.a .text").textContent());
  }
  assert.equal(sides.size, 2);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("everything can be done with the keyboard, and the focus is always seen", async () => {
  const page = await open(browser, server.url);
  const focused = () =>
    page.evaluate(() => {
      const { tagName, textContent, href } = document.activeElement;
      const seen = getComputedStyle(document.activeElement).outlineStyle !== "none";
      return { tagName, text: textContent.trim(), href, seen };
    });
  const tabTo = async (holds) => {
    for (let i = 0; i < 40; i += 1) {
      await page.keyboard.press("Tab");
      const at = await focused();
      assert.ok(at.seen, JSON.stringify(at));
      if (holds(at)) return;
    }
    assert.fail("not reached by Tab");
  };
  await page.locator("#compare textarea").waitFor();
  await tabTo((at) => at.text === "Skip to content");
  await tabTo((at) => at.text === "Blind A/B");
  await page.keyboard.press("Enter");
  await page.locator("#blind textarea").waitFor();
  await tabTo((at) => at.tagName === "TEXTAREA");
  await page.keyboard.type(HARMLESS);
  await page.keyboard.press("Enter");
  await page.locator(".choices:not([disabled])").waitFor();
  await page.waitForFunction(() => document.activeElement.tagName === "FIELDSET");
  await page.keyboard.press("2");
  await page.locator("#blind div.outcome").waitFor();
  assert.deepEqual(await focused(), {
    tagName: "BUTTON",
    text: "Next prompt",
    href: undefined,
    seen: true,
  });
  await page.keyboard.press("Enter");
  await page.keyboard.press("Shift+Tab");
  await tabTo((at) => at.tagName === "TEXTAREA");
  await page.evaluate(() => scrollTo(0, 0));
  await page.locator("nav a[href='#critique']").focus();
  await page.keyboard.press("Enter");
  await page.locator("#critique textarea").waitFor();
  await tabTo((at) => at.tagName === "TEXTAREA");
  await page.keyboard.type(HARMLESS);
  await page.keyboard.press("Enter");
  await page.locator(".steps .outcome").waitFor();
  await page.context().close();
});

test("a server that is gone, full or strict is told kindly, and retried", async () => {
  const other = await serve({ preferences });
  const page = await open(browser, other.url);
  await page.locator("#compare textarea").waitFor();
  const full = { error: { message: "the server is busy: its queue is full; try again later" } };
  const busy = (route) =>
    route.fulfill({ status: 429, headers: { "Retry-After": "1" }, json: full });
  await page.route("**/v1/chat/completions", busy);
  await send(page, "compare", HARMLESS);
  const notice = page.locator("#compare .answer.a .notice");
  assert.match(await notice.textContent(), /queue is full.*Wait a moment.*asks to wait 1 s/);
  await page.unroute("**/v1/chat/completions");
  await notice.locator("button").click();
  await page.locator("#compare .answer.a .risk").waitFor();

  await page.locator("text=New conversation").click();
  await send(page, "compare", "word ".repeat(3000));
  assert.match(await page.locator("#compare .answer.b .notice").textContent(), /tokens/);

  const port = Number(new URL(other.url).port);
  await other.stop();
  await page.locator("text=New conversation").click();
  await send(page, "compare", HARMLESS);
  assert.match(await notice.textContent(), /cannot be reached.*still running/);
  await shot(page, "gone");
  const again = await serve({ preferences, port });
  await notice.locator("button").click();
  await page.locator("#compare .answer.a .risk").waitFor();
  await again.stop();
  await page.context().close();
});

test("a key is asked for, kept in the tab, and sent along", async () => {
  const locked = await serve({ preferences, keys: "sk-right" });
  const page = await open(browser, locked.url);
  await page.locator("#key-dialog[open]").waitFor();
  await shot(page, "key");
  await page.keyboard.type("sk-wrong");
  await page.keyboard.press("Enter");
  await page.locator("text=not one of this server's").waitFor();
  await page.keyboard.type("sk-right");
  await page.keyboard.press("Enter");
  await page.locator("#compare textarea").waitFor();
  await send(page, "compare", HARMLESS);
  assert.equal(await page.locator("#compare .risk").count(), 3);
  assert.deepEqual(await page.evaluate(() => [sessionStorage.length, localStorage.length]), [1, 0]);

  const [report] = await Promise.all([
    page.context().waitForEvent("page"),
    page.locator("text=Evaluation report").click(),
  ]);
  await report.locator("h1", { hasText: "Models side by side" }).waitFor();
  assert.ok(!report.url().includes("sk-right"));
  await shot(report, "report");
  // The report's own script works; it is no part of the playground's origin.
  assert.ok((await report.locator("figure svg").count()) > 0);
  assert.equal(await report.evaluate(() => self.origin), "null");
  assert.equal(
    (await fetch(`${locked.url}playground/report`, { method: "POST", body: "key=sk-wrong" }))
      .status,
    401,
  );
  assert.equal((await fetch(`${locked.url}playground/info`)).status, 401);
  assert.ok(!locked.log().includes("sk-right"));
  await locked.stop();
  await page.context().close();
});

test("no view has faults of accessibility, in light and dark, wide and narrow", async () => {
  for (const [name, device] of Object.entries({
    light: DESKTOP,
    dark: DARK,
    phone: PHONE,
    narrow: NARROW,
  })) {
    const page = await open(browser, server.url, device);
    for (const view of VIEWS) {
      await page.goto(`${server.url}#${view}`);
      await page.locator(`#${view}`).waitFor();
      if (view !== "constitution") await send(page, view, HARMFUL);
      if (view === "blind") {
        await page.locator(".choices:not([disabled])").waitFor();
        await page.keyboard.press("2");
        await page.locator("#blind div.outcome").waitFor();
        await page.locator("#blind .risk").nth(1).waitFor();
      }
      assert.deepEqual(await faults(page), [], `${name} ${view}`);
      const [content, width] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        innerWidth,
      ]);
      assert.equal(content, width, `${name} ${view} scrolls sideways`);
      await page.evaluate(() => scrollTo(0, 0));
      await shot(page, `${name}-${view}`);
    }
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  }
});
