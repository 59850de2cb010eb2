// The controls above a conversation: which models, and how they sample.

import { el, freshId } from "./dom.js";

function labelled(label, control) {
  control.id = freshId("setting");
  return el("div", { class: "setting" }, el("label", { for: control.id }, label), control);
}

export function modelSelect(models, chosen) {
  const option = (name) => el("option", { value: name, selected: name === chosen }, name);
  return el("select", {}, models.map(option));
}

export function numberInput(value, min, max, step = 1) {
  return el("input", {
    type: "number",
    value,
    min,
    max,
    step,
    inputmode: "decimal",
    required: true,
  });
}

// Labels and controls in a row. `controls` maps labels to elements.
export function settingsRow(controls) {
  const fields = Object.entries(controls).map(([label, control]) => labelled(label, control));
  return el("form", { class: "settings", onsubmit: (event) => event.preventDefault() }, fields);
}

// Temperature, seed and tokens, as both the conversation and the blind comparison have them.
export function sampling(info) {
  const controls = {
    Temperature: numberInput(0.7, 0, 2, 0.1),
    Seed: numberInput(42, 0, 2 ** 31 - 1),
    "Tokens at most": numberInput(Math.min(128, info.max_tokens), 1, info.max_tokens),
  };
  const [temperature, seed, maxTokens] = Object.values(controls);
  const valid = () => Object.values(controls).every((control) => control.reportValidity());
  const read = () => ({
    temperature: temperature.valueAsNumber,
    seed: seed.valueAsNumber,
    maxTokens: maxTokens.valueAsNumber,
  });
  return { controls, valid, read };
}
