// A conversation with two models side by side.

import { AnswerCard, sideB } from "./answer.js";
import { Composer } from "./composer.js";
import { announce, el } from "./dom.js";
import { showRisk } from "./risk.js";
import { modelSelect, sampling, settingsRow } from "./settings.js";

export function compareView(section, info) {
  const models = {
    a: modelSelect(info.models, info.models[0]),
    b: modelSelect(info.models, info.models.at(-1)),
  };
  const settings = sampling(info);
  const turns = el("div", { class: "turns" });
  const composer = new Composer({
    label: "Prompt for both models",
    verb: "Send",
    onSend: send,
    onStop: stop,
  });
  const again = el(
    "button",
    { type: "button", class: "link", onclick: restart },
    "New conversation",
  );
  section.append(
    settingsRow({ "Model A": models.a, "Model B": models.b, ...settings.controls }),
    turns,
    composer.form,
  );

  // What each model has seen and said. A turn that it did not answer is not in it.
  let history = { a: [], b: [] };
  let running = null;

  async function send(prompt) {
    if (!settings.valid()) return;
    composer.busy(true);
    composer.clear();
    composer.showExamples(false);
    running = new AbortController();
    const turn = new Turn(prompt, { a: models.a.value, b: models.b.value });
    turns.append(turn.element);
    turn.element.scrollIntoView({ block: "start" });
    const common = { ...settings.read(), signal: running.signal };
    const a = { ...common, model: models.a.value };
    const both = { a, b: sideB(a, models.b.value) };
    const risk = showRisk(turn.risk, prompt, "the prompt");
    await Promise.all([
      risk,
      ...["a", "b"].map((side) => answerTurn(turn.cards[side], side, both[side], prompt)),
    ]);
    running = null;
    composer.foot.append(again);
    composer.busy(false);
    announce("Both models are done.");
  }

  async function answerTurn(card, side, settings, prompt) {
    const asked = [...history[side], { role: "user", content: prompt }];
    const retry = () => answerTurn(card, side, { ...settings, signal: undefined }, prompt);
    const text = await card.run({ ...settings, messages: asked }, retry);
    if (!text) return;
    history[side] = [...asked, { role: "assistant", content: text }];
    await showRisk(card.risk, text, `answer ${card.side}`);
  }

  function stop() {
    running?.abort();
  }

  function restart() {
    history = { a: [], b: [] };
    turns.replaceChildren();
    again.remove();
    composer.showExamples(true);
    composer.focus();
  }
}

// The prompt and both answers.
class Turn {
  constructor(prompt, names) {
    this.risk = el("div");
    this.cards = { a: new AnswerCard("a", names.a), b: new AnswerCard("b", names.b) };
    this.element = el(
      "div",
      { class: "turn" },
      el(
        "div",
        { class: "ask" },
        el("h2", {}, "Prompt"),
        el("p", { class: "text" }, prompt),
        this.risk,
      ),
      el("div", { class: "pair" }, this.cards.a.article, this.cards.b.article),
    );
  }
}
