// The choices so far: how often each model was preferred, and how far the evaluator agrees.

import { counted, el } from "./dom.js";

export function tallyTable({ folder, tally }) {
  if (tally.choices === 0) {
    return el("p", { class: "soft" }, `No choices yet. They will be kept in ${folder}.`);
  }
  const row = ({ name, preferred, compared }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el("td", {}, preferred),
      el("td", {}, compared),
      el("td", {}, percent(preferred, compared)),
    );
  const head = ["Model", "Preferred", "Compared", "Share"].map((text) =>
    el("th", { scope: "col" }, text),
  );
  return el(
    "div",
    {},
    el("h2", {}, "Choices so far"),
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, "Choices by model"),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, tally.models.map(row)),
    ),
    el("p", {}, agreement(tally)),
    el(
      "p",
      { class: "soft" },
      `${counted(tally.choices, "choice")} in ${folder}: ${tally.ties} equally good, ${tally.both_bad} both bad.`,
    ),
  );
}

function agreement({ agreement: { n, same, kappa } }) {
  const chance =
    kappa === null ? "" : `; Cohen’s κ ${kappa.toFixed(2)} (0 is chance, 1 is perfect)`;
  return `The evaluator agrees in ${same} of ${counted(n, "choice")}, ${percent(same, n)}${chance}.`;
}

function percent(part, whole) {
  return whole === 0 ? "–" : `${Math.round((100 * part) / whole)} %`;
}
