// What went wrong, in words for a person, with what can be done.

import { el } from "./dom.js";

const ADVICE = new Map([
  [0, "Is the server still running? Start it again, then retry."],
  [401, "Reload the page to give a key."],
  [403, "This key may not do that."],
  [408, "The request took too long. Ask for fewer tokens, or retry."],
  [413, "The prompt is too long for this server. Shorten it."],
  [429, "All places are taken. Wait a moment, then retry."],
  [503, "The server is starting or stopping. Retry in a moment."],
  [504, "The model was too slow for the server’s time limit."],
]);

// A notice with the server's message, advice, and a button to retry if `retry` is given.
export function trouble(error, retry) {
  const status = error.status ?? null;
  const advice = ADVICE.get(status) ?? (status >= 500 ? "The server’s log says more." : null);
  const wait = error.retryAfter ? `The server asks to wait ${error.retryAfter} s.` : null;
  return el(
    "div",
    { class: "notice", role: "alert" },
    el("p", {}, error.message),
    el("p", { class: "soft" }, [advice, wait].filter(Boolean).join(" ")),
    retry && el("button", { type: "button", onclick: retry }, "Retry"),
  );
}
