// One answer of one model, piece by piece, over the OpenAI API.

import { ApiError, request } from "./api.js";
import { events } from "./sse.js";

// Yields pieces of text. Returns how the answer ended (`stop`, `length`, `content_filter`), the number
// of its tokens, and why the server's guard withheld it, if it did.
export async function* answer({ model, messages, temperature, seed, maxTokens, signal }) {
  const body = {
    model,
    messages,
    temperature,
    seed,
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true },
  };
  const response = await request("v1/chat/completions", { body, signal });
  let finish = null;
  let tokens = null;
  let guard = null;
  for await (const data of events(response)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(500, chunk.error.message);
    tokens = chunk.usage?.completion_tokens ?? tokens;
    const choice = chunk.choices[0];
    if (choice?.delta?.content) yield choice.delta.content;
    finish = choice?.finish_reason ?? finish;
    guard = choice?.guard ?? guard;
  }
  if (finish === null) throw new ApiError(0, "The connection ended before the answer did.");
  return { finish, tokens, guard };
}
