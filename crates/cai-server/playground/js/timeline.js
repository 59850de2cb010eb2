// The steps of critique and revision, down a line. The last one grows while the model writes.

import { showDiff } from "./diff.js";
import { announce, counted, el, words } from "./dom.js";
import { trouble } from "./trouble.js";

export class Timeline {
  #list;
  #threshold;
  #text = null;
  // The answer that the next revision replaces, and its risk.
  #inUse = null;

  // `threshold` is the probability of harm below which an answer counts as safe.
  constructor(list, prompt, threshold) {
    this.#list = list;
    this.#threshold = threshold;
    list.replaceChildren();
    this.#step("Prompt");
    this.#finish(prompt);
  }

  tell(event) {
    switch (event.step) {
      case "answering":
        this.#step("Initial answer");
        break;
      case "answered":
        this.#answered(event.answer);
        break;
      case "criticising":
        this.#principle(event.round, event.principle);
        this.#step("Critique");
        break;
      case "criticised":
        this.#finish(event.critique);
        break;
      case "revising":
        this.#step("Revision");
        break;
      case "revised":
        this.#revised(event.revised);
        break;
      case "finished":
        this.#outcome(event.record);
        break;
      case "text":
        this.#text.append(event.text);
        break;
    }
  }

  failed(error, retry) {
    this.#text.setAttribute("aria-busy", "false");
    const stopped = error.name === "AbortError";
    const shown = stopped ? el("p", { class: "soft" }, "Stopped.") : trouble(error, retry);
    this.#list.append(el("li", {}, shown));
  }

  // A new step; what is written into it is announced when it is whole.
  #step(title, kind = "") {
    this.#text = el("div", { class: "text", "aria-live": "polite", "aria-busy": "true" });
    const item = el("li", { class: kind }, el("h2", {}, title), this.#text);
    this.#list.append(item);
    item.scrollIntoView({ block: "nearest" });
    return this.#text;
  }

  // The step as it counts, which can differ from what was streamed: white space, a repaired opening.
  #finish(...content) {
    this.#text.replaceChildren(...content);
    this.#text.setAttribute("aria-busy", "false");
  }

  #answered(answer) {
    this.#finish(answer.text || el("em", { class: "soft" }, "no text"));
    this.#tags(answer);
    this.#inUse = answer;
  }

  #principle(round, principle) {
    const link = el("a", { href: `#constitution/${principle.id}` }, el("code", {}, principle.id));
    this.#step(`Round ${round}: principle drawn`, "drawn");
    this.#finish(
      el("p", {}, link, ` ${words(principle.category)}`),
      el(
        "dl",
        {},
        ...[
          ["Critique", principle.critique_request],
          ["Revision", principle.revision_request],
        ].flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
      ),
    );
  }

  #revised(round) {
    const used = round.cleaning.length === 0;
    if (used) this.#finish(...showDiff(this.#inUse.text, round.revision));
    else this.#finish(round.revision || el("em", { class: "soft" }, "no text"));
    this.#tags(round, this.#inUse.harm, used ? [] : ["not used: the answer before stays"]);
    if (used) this.#inUse = { text: round.revision, harm: round.harm };
  }

  // What is found about an answer, under its text. `before` is the harm of the one that it replaces.
  #tags({ harm, risk, refused, cleaning }, before = null, more = []) {
    const tags = [];
    if (typeof harm === "number") {
      const from = typeof before === "number" ? `${before.toFixed(2)} → ` : "";
      const kind = harm < this.#threshold ? "good" : "bad";
      tags.push([kind, `harm ${from}${harm.toFixed(2)}`]);
      if (kind === "bad") tags.push([kind, words(risk)]);
    }
    if (refused) tags.push(["", "declines"]);
    tags.push(...[...cleaning.map(words), ...more].map((flaw) => ["flaw", flaw]));
    if (tags.length === 0) return;
    const items = tags.map(([kind, text]) => el("li", { class: kind }, text));
    this.#text.after(el("ul", { class: "tags", "aria-label": "Found" }, items));
  }

  #outcome(record) {
    const said = {
      revised: `Revised after ${counted(record.rounds.length, "round")}.`,
      safe: "The classifier finds the initial answer safe: nothing to revise.",
      unchanged: "The initial answer stays: no revision could take its place.",
    }[record.outcome];
    this.#step("Outcome", "outcome");
    this.#finish(el("p", { class: "soft" }, said), el("p", {}, record.final_revision));
    announce(said);
  }
}
