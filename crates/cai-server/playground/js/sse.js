// Server-sent events of a response's body, by the rules of the HTML standard (section 9.2.6).
// EventSource itself can neither POST nor send a key.

// Yields the data of each event.
export async function* events(response) {
  const lines = new LineSplitter();
  const decoder = new TextDecoder();
  let data = [];
  for await (const chunk of chunks(response.body)) {
    for (const line of lines.push(decoder.decode(chunk, { stream: true }))) {
      if (line === "") {
        if (data.length > 0) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
  }
}

// Leaving the loop early cancels the response, which frees its place in the server.
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Lines end in \n, \r\n or \r; a \r at the end of a chunk waits for its \n.
export class LineSplitter {
  #rest = "";

  push(text) {
    this.#rest += text;
    const lines = [];
    for (;;) {
      const end = this.#rest.search(/\r\n|\n|\r(?!$)/);
      if (end < 0) return lines;
      lines.push(this.#rest.slice(0, end));
      this.#rest = this.#rest.slice(end + (this.#rest.startsWith("\r\n", end) ? 2 : 1));
    }
  }
}
