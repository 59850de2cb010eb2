// Requests to this server: the key goes along, and what goes wrong becomes an ApiError.

import { askForKey, storedKey } from "./key.js";

// An answer that is none. `message` is the server's, `status` 0 if it could not be reached.
export class ApiError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// The response to a GET, or to a POST of `body`. Addresses are relative, so that the page also works
// below a proxy's path. A key that the server demands is asked for, once for all waiting requests.
export async function request(path, { body, signal } = {}) {
  for (;;) {
    const key = storedKey();
    const response = await send(path, key, body, signal);
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status !== 401) throw error;
    const another = await askForKey(key, error.message);
    if (another === null) throw error;
  }
}

export async function json(path, options) {
  return (await request(path, options)).json();
}

async function send(path, key, body, signal) {
  const headers = {};
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const method = body === undefined ? "GET" : "POST";
  try {
    return await fetch(path, { method, headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.");
  }
}

async function errorOf(response) {
  let message = `The server answered with status ${response.status}.`;
  try {
    message = (await response.json()).error.message ?? message;
  } catch {
    // Not the API's own error, such as a proxy's page: the status says enough.
  }
  const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
  return new ApiError(response.status, message, Number.isFinite(seconds) ? seconds : null);
}
