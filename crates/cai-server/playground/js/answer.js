// One answer on the page: it grows while the model writes, and says how it ended.

import { answer } from "./chat.js";
import { el, words } from "./dom.js";
import { trouble } from "./trouble.js";

// How an answer ended, if not by itself.
function ending({ finish, guard }) {
  if (finish === "length") return "cut off at the largest number of tokens";
  if (finish !== "content_filter") return null;
  const why =
    guard === null
      ? ""
      : `: ${words(guard.category)} ${guard.score.toFixed(2)} in the ${guard.stage}`;
  return `withheld by the server’s guard${why}`;
}

export class AnswerCard {
  // `side` is `a` or `b`; `name` the model's, or null where it is hidden.
  constructor(side, name) {
    this.side = side.toUpperCase();
    this.name = el("span", { class: "model" }, name ?? "hidden");
    this.text = el("div", { class: "text", "aria-live": "polite", "aria-busy": "false" });
    this.meta = el("p", { class: "meta soft" });
    this.risk = el("div");
    this.problem = el("div");
    this.article = el(
      "article",
      { class: `answer ${side}`, "aria-label": `Answer ${this.side}` },
      el("h3", {}, el("span", { class: "side" }, this.side), " ", this.name),
      this.text,
      this.problem,
      this.meta,
      this.risk,
    );
  }

  // Lets the model answer. Resolves to the text, or null if there is none: an error is shown here,
  // with a button that calls `retry`.
  async run(settings, retry) {
    this.text.replaceChildren();
    this.problem.replaceChildren();
    this.meta.textContent = "";
    this.text.setAttribute("aria-busy", "true");
    const began = performance.now();
    try {
      const pieces = answer(settings);
      for (;;) {
        const { done, value } = await pieces.next();
        if (done) return this.#ended(value, began);
        this.text.append(value);
      }
    } catch (error) {
      if (error.name === "AbortError") this.meta.textContent = "stopped";
      else this.problem.replaceChildren(trouble(error, retry));
      return null;
    } finally {
      this.text.normalize();
      this.text.setAttribute("aria-busy", "false");
    }
  }

  #ended(end, began) {
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const tokens = end.tokens === null ? null : `${end.tokens} tokens`;
    const parts = [tokens, `${seconds} s`, ending(end)];
    this.meta.textContent = parts.filter(Boolean).join(" · ");
    const text = this.text.textContent;
    if (text === "") this.text.append(el("em", { class: "soft" }, "no text"));
    return text;
  }
}

// The settings of side B: the same, but where both are one model, another seed.
export function sideB(a, model) {
  return model === a.model ? { ...a, model, seed: a.seed + 1 } : { ...a, model };
}
