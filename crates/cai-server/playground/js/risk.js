// The safety classifier's view of a text, as bars with numbers.

import { json } from "./api.js";
import { el, words } from "./dom.js";

let classifier = null;

// Without a classifier no bars are shown.
export function useClassifier(info) {
  classifier = info;
}

// Scores `text` and shows them in `place`; an error is shown there, too.
export async function showRisk(place, text, of) {
  if (classifier === null || text.trim() === "") return;
  try {
    const scored = await json("v1/moderations", { body: { input: text } });
    const scores = scored.results[0].category_scores;
    place.replaceChildren(bars(scores, of));
  } catch (error) {
    place.replaceChildren(el("p", { class: "soft" }, `No risk scores: ${error.message}`));
  }
}

function bars(scores, of) {
  const labels = classifier.labels.filter((label) => label in scores);
  const rows = labels.map((label) => {
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", scores[label]);
    return el(
      "li",
      { class: label === classifier.safe_label ? "safe" : "harm" },
      el("span", { class: "label" }, words(label)),
      bar,
      el("span", { class: "number" }, scores[label].toFixed(2)),
    );
  });
  return el("ul", { class: "risk", "aria-label": `Risk scores of ${of}` }, rows);
}
