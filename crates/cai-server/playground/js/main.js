// Starts the page: learns what the server has, builds the views, and shows the one in the address.

import { json } from "./api.js";
import { blindView } from "./blind.js";
import { compareView } from "./compare.js";
import { constitutionView } from "./constitution.js";
import { critiqueView } from "./critique.js";
import { reportLink } from "./report.js";
import { useClassifier } from "./risk.js";
import { trouble } from "./trouble.js";

const VIEWS = new Map([
  ["compare", compareView],
  ["critique", critiqueView],
  ["blind", blindView],
  ["constitution", constitutionView],
]);

async function start() {
  const place = document.getElementById("trouble");
  place.hidden = true;
  try {
    const info = await json("playground/info");
    useClassifier(info.classifier);
    for (const [name, build] of VIEWS) build(document.getElementById(name), info);
    document.getElementById("links").append(...reportLink(info));
    window.addEventListener("hashchange", show);
    show();
  } catch (error) {
    place.replaceChildren(...trouble(error, start).childNodes);
    place.hidden = false;
  }
}

// `#constitution/danger` is a principle in a view. Other fragments are places in the page.
function show() {
  const [name, part] = location.hash.slice(1).split("/");
  if (!VIEWS.has(name) && location.hash !== "") return;
  const shown = name || "compare";
  for (const view of VIEWS.keys()) {
    document.getElementById(view).hidden = view !== shown;
    const link = document.querySelector(`nav a[href="#${view}"]`);
    if (view === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (part) document.getElementById(`principle-${part}`)?.focus();
  else window.scrollTo(0, 0);
}

start();
