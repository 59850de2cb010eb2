// The words that change from one text to another.

import { el } from "./dom.js";

// Runs of words as [kind, text] with kind `same`, `removed` or `added`, along a longest common
// subsequence. Without the added ones they are `before`, without the removed ones `after`, white space
// aside. One lone word that stays between changes is told as changed: that reads better.
export function diff(before, after) {
  const [a, b] = [before, after].map((text) => text.split(/\s+/).filter((word) => word !== ""));
  const steps = aligned(a, b);
  const changed = (step) => step !== undefined && step[0] !== "same";
  const runs = [];
  let change = { removed: [], added: [] };
  const close = () => {
    for (const kind of ["removed", "added"]) {
      if (change[kind].length > 0) runs.push([kind, change[kind].join(" ")]);
    }
    change = { removed: [], added: [] };
  };
  steps.forEach(([kind, word], i) => {
    const lone = kind === "same" && changed(steps[i - 1]) && changed(steps[i + 1]);
    if (lone) {
      change.removed.push(word);
      change.added.push(word);
    } else if (kind === "same") {
      close();
      if (runs.at(-1)?.[0] === "same") runs.at(-1)[1] += ` ${word}`;
      else runs.push(["same", word]);
    } else {
      change[kind].push(word);
    }
  });
  close();
  return runs;
}

// Every word of both, in order, each as [kind, word].
function aligned(a, b) {
  const common = table(a, b);
  const steps = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      steps.push(["same", a[i]]);
      i += 1;
      j += 1;
    } else if (j === b.length || (i < a.length && common[i + 1][j] >= common[i][j + 1])) {
      steps.push(["removed", a[i]]);
      i += 1;
    } else {
      steps.push(["added", b[j]]);
      j += 1;
    }
  }
  return steps;
}

// common[i][j]: length of the longest common subsequence of a[i..] and b[j..].
function table(a, b) {
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i][j] =
        a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  return common;
}

const ELEMENTS = { same: "span", removed: "del", added: "ins" };

// The text after, with what changed marked.
export function showDiff(before, after) {
  return diff(before, after).flatMap(([kind, text]) => [el(ELEMENTS[kind], {}, text), " "]);
}
