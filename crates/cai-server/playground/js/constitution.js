// The principles, in groups.

import { el, words } from "./dom.js";

export function constitutionView(section, info) {
  const { constitution } = info;
  if (constitution === null) {
    section.append(
      el("p", { class: "lead" }, "This server has none. Set playground.constitution to a file."),
    );
    return;
  }
  const groups = Map.groupBy(constitution.principles, (principle) => principle.category);
  const total = constitution.principles.length;
  section.append(
    el(
      "p",
      { class: "lead" },
      `“${constitution.name}”: ${total} principles. A critique asks by one of them, drawn by weight.`,
    ),
    ...[...groups].map(([category, principles]) => group(category, principles)),
  );
}

function group(category, principles) {
  const title = `group-${category}`;
  return el(
    "section",
    { class: "group", "aria-labelledby": title },
    el(
      "h2",
      { id: title },
      words(category),
      " ",
      el("span", { class: "count" }, principles.length),
    ),
    el("div", { class: "principles" }, principles.map(card)),
  );
}

function card(principle) {
  const said = [
    ["Critique", principle.critique_request],
    ["Revision", principle.revision_request],
    ["Comparison", principle.preference_question],
  ].filter(([, text]) => text);
  const facts = [`weight ${principle.weight}`, ...(principle.risks ?? []).map(words)];
  return el(
    "article",
    { class: "principle", id: `principle-${principle.id}`, tabindex: -1 },
    el("h3", {}, el("code", {}, principle.id)),
    el("p", { class: "meta soft" }, facts.join(" · ")),
    el("dl", {}, said.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]).flat()),
  );
}
