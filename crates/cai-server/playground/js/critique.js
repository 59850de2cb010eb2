// Critique and revision of one prompt, each step as it happens.

import { ApiError, request } from "./api.js";
import { Composer } from "./composer.js";
import { el } from "./dom.js";
import { modelSelect, numberInput, settingsRow } from "./settings.js";
import { events } from "./sse.js";
import { Timeline } from "./timeline.js";

export function critiqueView(section, info) {
  if (info.constitution === null) {
    section.append(
      el(
        "p",
        { class: "notice" },
        "This server has no constitution. Set playground.constitution to a file.",
      ),
    );
    return;
  }
  const model = modelSelect(info.models, info.models.includes("sft") ? "sft" : info.models[0]);
  const rounds = numberInput(info.critique.rounds, 1, info.critique.rounds);
  const seed = numberInput(info.critique.seed, 0, 2 ** 31 - 1);
  const whole = el("input", { type: "checkbox", checked: !info.critique.stop_when_safe });
  const controls = { Model: model, "Rounds at most": rounds, Seed: seed };
  if (info.classifier !== null) controls["Go on when safe"] = whole;
  const steps = el("ol", { class: "steps", "aria-label": "Steps" });
  const composer = new Composer({
    label: "Prompt to answer and revise",
    verb: "Run",
    onSend: run,
    onStop: stop,
  });
  section.append(settingsRow(controls), composer.form, steps);

  let running = null;

  async function run(prompt) {
    if (![rounds, seed].every((control) => control.reportValidity())) return;
    composer.busy(true);
    running = new AbortController();
    const timeline = new Timeline(steps, prompt, info.critique.safe_threshold);
    const body = {
      model: model.value,
      prompt: [{ role: "user", content: prompt }],
      rounds: rounds.valueAsNumber,
      seed: seed.valueAsNumber,
      stop_when_safe: !whole.checked,
    };
    try {
      await follow(timeline, body, running.signal);
    } catch (error) {
      timeline.failed(error, () => run(prompt));
    }
    running = null;
    composer.busy(false);
  }

  function stop() {
    running?.abort();
  }
}

async function follow(timeline, body, signal) {
  const response = await request("playground/critique", { body, signal });
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(500, event.error.message);
    timeline.tell(event);
  }
  throw new ApiError(0, "The connection ended before the last step.");
}
