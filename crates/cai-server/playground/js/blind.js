// Two hidden models, one prompt, a person's choice; then who was who, and what the evaluator says.

import { json } from "./api.js";
import { AnswerCard, sideB } from "./answer.js";
import { Composer } from "./composer.js";
import { announce, el } from "./dom.js";
import { showRisk } from "./risk.js";
import { modelSelect, sampling, settingsRow } from "./settings.js";
import { tallyTable } from "./tally.js";
import { trouble } from "./trouble.js";

// In the order of the keys 1 to 4.
const CHOICES = [
  ["a", "A is better"],
  ["b", "B is better"],
  ["tie", "Equally good"],
  ["both_bad", "Both bad"],
];

export function blindView(section, info) {
  const models = {
    one: modelSelect(info.models, info.models[0]),
    other: modelSelect(info.models, info.models.at(-1)),
  };
  const settings = sampling(info);
  const stage = el("div", { class: "turns" });
  const tally = el("div", { class: "tally" });
  const composer = new Composer({
    label: "Prompt for both hidden models",
    verb: "Send",
    onSend: send,
    onStop: stop,
  });
  section.append(
    settingsRow({ "One model": models.one, "Other model": models.other, ...settings.controls }),
    composer.form,
    stage,
    tally,
  );
  json("playground/preferences").then(showTally, (error) => tally.replaceChildren(trouble(error)));

  let running = null;
  // The comparison that waits for a choice.
  let open = null;

  section.ownerDocument.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, dialog");
    const choice = CHOICES[Number(event.key) - 1];
    if (
      open === null ||
      section.hidden ||
      typing ||
      !choice ||
      event.ctrlKey ||
      event.altKey ||
      event.metaKey
    )
      return;
    event.preventDefault();
    choose(choice[0]);
  });

  async function send(prompt) {
    if (!settings.valid()) return;
    open = null;
    composer.busy(true);
    running = new AbortController();
    const cards = { a: new AnswerCard("a", null), b: new AnswerCard("b", null) };
    const choices = choiceButtons(choose);
    stage.replaceChildren(
      el("div", { class: "ask" }, el("h2", {}, "Prompt"), el("p", { class: "text" }, prompt)),
      el("div", { class: "pair" }, cards.a.article, cards.b.article),
      choices,
    );
    const messages = [{ role: "user", content: prompt }];
    const first = { ...settings.read(), messages, model: models.one.value, signal: running.signal };
    const sides = shuffled([first, sideB(first, models.other.value)]);
    const both = { a: sides[0], b: sides[1] };
    const texts = await Promise.all(["a", "b"].map((side) => cards[side].run(both[side])));
    running = null;
    composer.busy(false);
    if (texts.some((text) => text === null)) return;
    open = { prompt: messages, cards, both, texts: { a: texts[0], b: texts[1] }, choices };
    choices.disabled = false;
    choices.focus();
    announce("Both answers are there. Choose with the keys 1 to 4.");
  }

  async function choose(choice) {
    const compared = open;
    open = null;
    compared.choices.disabled = true;
    const side = (name) => {
      const { model, seed } = compared.both[name];
      return { model, seed, text: compared.texts[name] };
    };
    const { temperature, maxTokens } = compared.both.a;
    const body = {
      prompt: compared.prompt,
      a: side("a"),
      b: side("b"),
      choice,
      temperature,
      max_tokens: maxTokens,
    };
    try {
      reveal(compared, choice, await json("playground/preferences", { body }));
    } catch (error) {
      const retry = () => {
        notice.remove();
        open = compared;
        choose(choice);
      };
      const notice = trouble(error, retry);
      compared.choices.after(notice);
    }
  }

  function reveal(compared, choice, saved) {
    for (const side of ["a", "b"]) {
      const card = compared.cards[side];
      card.name.textContent = compared.both[side].model;
      showRisk(card.risk, compared.texts[side], `answer ${card.side}`);
    }
    const chosen = CHOICES.find(([name]) => name === choice)[1];
    const outcome = verdict(chosen, choice, saved.evaluator);
    compared.choices.replaceWith(outcome);
    outcome.querySelector("button").addEventListener("click", () => {
      composer.clear();
      composer.focus();
    });
    outcome.querySelector("button").focus();
    showTally(saved);
    announce(outcome.querySelector("p").textContent);
  }

  function showTally(kept) {
    tally.replaceChildren(tallyTable(kept));
  }

  function stop() {
    running?.abort();
  }
}

function choiceButtons(choose) {
  const button = ([name, label], i) =>
    el("button", { type: "button", onclick: () => choose(name) }, el("kbd", {}, i + 1), " ", label);
  return el(
    "fieldset",
    { class: "choices", disabled: true, tabindex: -1 },
    el("legend", {}, "Which answer is better?"),
    el("div", { class: "row" }, CHOICES.map(button)),
  );
}

// What was chosen, and what the evaluator says of the same two answers.
function verdict(chosen, choice, evaluator) {
  const same = evaluator.choice === (choice === "both_bad" ? "tie" : choice);
  const says = { a: "prefers A", b: "prefers B", tie: "sees no difference" }[evaluator.choice];
  const line = `You said: ${chosen}. The evaluator ${says}${same ? ", as you do" : ""}.`;
  const reason = (side) =>
    el(
      "li",
      {},
      el("strong", {}, `${side.toUpperCase()} ${evaluator[side].overall.toFixed(2)}`),
      ` ${evaluator[side].explanation}`,
    );
  return el(
    "div",
    { class: "outcome" },
    el("p", {}, line),
    el("ul", { class: "reasons" }, reason("a"), reason("b")),
    el("button", { type: "button", class: "primary" }, "Next prompt"),
  );
}

// A fair coin decides the order.
function shuffled([one, other]) {
  const [bit] = crypto.getRandomValues(new Uint8Array(1));
  return bit % 2 === 0 ? [one, other] : [other, one];
}
