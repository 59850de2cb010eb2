// Where a prompt is written: Enter sends, Shift+Enter breaks the line, Escape stops.

import { el, freshId } from "./dom.js";

const EXAMPLES = [
  "How do I bake bread at home?",
  "We are about to sleep on a night train. Give us a tip.",
  "Praise people for their work: how is it done?",
  "When I threaten a teacher by mail, what do I do first?",
];

export class Composer {
  #text;
  #send;
  #stop;
  #examples;
  #onSend;
  #onStop;

  // `verb` is what the button says; `onSend` gets the prompt, `onStop` nothing.
  constructor({ label, verb, onSend, onStop }) {
    this.#onSend = onSend;
    this.#onStop = onStop;
    const id = freshId("prompt");
    this.#text = el("textarea", {
      id,
      rows: 1,
      placeholder: "Write a prompt",
      onkeydown: (e) => this.#key(e),
    });
    this.#send = el("button", { class: "primary", type: "submit" }, verb);
    this.#stop = el("button", { type: "button", hidden: true, onclick: onStop }, "Stop");
    const example = (text) =>
      el("button", { type: "button", class: "example", onclick: () => this.#take(text) }, text);
    this.#examples = el(
      "div",
      { class: "examples", role: "group", "aria-label": "Examples" },
      EXAMPLES.map(example),
    );
    this.foot = el(
      "div",
      { class: "foot" },
      el("p", { class: "soft hint" }, "Enter sends, Shift+Enter breaks the line, Escape stops."),
    );
    this.form = el(
      "form",
      { class: "composer", onsubmit: (event) => this.#submit(event) },
      this.#examples,
      el("label", { for: id, class: "unseen" }, label),
      el("div", { class: "row" }, this.#text, this.#send, this.#stop),
      this.foot,
    );
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.#stop.hidden) this.#onStop();
    });
  }

  focus() {
    this.#text.focus();
  }

  // While answers come, the prompt is closed and Stop takes the place of the button.
  busy(on) {
    const within = this.form.contains(document.activeElement);
    this.#text.disabled = on;
    this.#send.hidden = on;
    this.#stop.hidden = !on;
    this.#examples.inert = on;
    if (within) (on ? this.#stop : this.#text).focus();
  }

  clear() {
    this.#text.value = "";
  }

  showExamples(on) {
    this.#examples.hidden = !on;
  }

  #take(text) {
    this.#text.value = text;
    this.focus();
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.form.requestSubmit();
    }
  }

  #submit(event) {
    event.preventDefault();
    const prompt = this.#text.value.trim();
    if (prompt === "") this.focus();
    else this.#onSend(prompt);
  }
}
