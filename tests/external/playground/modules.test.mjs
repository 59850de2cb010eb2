// The page's modules that need no page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { diff } from "../../../crates/cai-server/playground/js/diff.js";
import { LineSplitter, events } from "../../../crates/cai-server/playground/js/sse.js";

test("a diff gives back both texts", () => {
  const texts = [
    "",
    "one",
    "a b c d",
    "b a d c",
    "I can't help you.",
    "a x c y d",
    "a b a b a",
    "c d e f g",
  ];
  const without = (runs, kind) =>
    runs
      .filter((run) => run[0] !== kind)
      .map((run) => run[1])
      .join(" ");
  for (const before of texts) {
    for (const after of texts) {
      const runs = diff(before, after);
      assert.equal(without(runs, "added"), before);
      assert.equal(without(runs, "removed"), after);
      for (const [i, run] of runs.entries()) assert.notEqual(run[0], runs[i + 1]?.[0]);
    }
  }
});

test("what is common stays, and a lone word between changes does not", () => {
  assert.deepEqual(diff("keep this old end now", "keep this new end now"), [
    ["same", "keep this"],
    ["removed", "old"],
    ["added", "new"],
    ["same", "end now"],
  ]);
  assert.deepEqual(diff("one a two", "three a four"), [
    ["removed", "one a two"],
    ["added", "three a four"],
  ]);
});

test("lines end in three ways, wherever the chunks end", () => {
  const text = "data: a\r\ndata: b\n\rdata: c\r\n\r\n";
  const whole = ["data: a", "data: b", "", "data: c", ""];
  for (let cut = 0; cut <= text.length; cut += 1) {
    const lines = new LineSplitter();
    assert.deepEqual(
      [...lines.push(text.slice(0, cut)), ...lines.push(text.slice(cut))],
      whole,
      `cut at ${cut}`,
    );
  }
});

test("events are told once they are whole, characters too", async () => {
  const bytes = new TextEncoder().encode(
    ': hello\nid: 7\ndata: é1\ndata:2\n\n\ndata: {"a": 3}\n\ndata: lost',
  );
  const response = new Response(
    new ReadableStream({
      start(controller) {
        for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
        controller.close();
      },
    }),
  );
  const told = [];
  for await (const data of events(response)) told.push(data);
  assert.deepEqual(told, ["é1\n2", '{"a": 3}']);
});
