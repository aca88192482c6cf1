// Asking this node: JSON, text, and a stream of events, with the key of this tab.

import { byId, complain } from "./dom.js";

const KEY = "meshd-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}`, ...more } : more;
}

/** A response that is fine. Throws Refused with what the node said. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const message = said.error?.message ?? said.error ?? `${response.status} ${response.statusText}`;
  if (response.status === 401 || response.status === 403) byId("key-form").hidden = false;
  throw new Refused(response.status, message);
}

/** A control command's answer. What went wrong is shown, and thrown. */
export async function command(name, body = {}) {
  try {
    complain("");
    const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    return await (await ask(`/api/${name}`, options)).json();
  } catch (error) {
    complain(error.message);
    throw error;
  }
}

/** Blocks of a stream of server-sent events: `{event, data}`. */
export async function* serverEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (held + value).split(/\r?\n\r?\n/);
    held = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/);
      const of = (field) => lines.filter((line) => line.startsWith(`${field}:`)).map((line) => line.slice(field.length + 1).trim());
      const data = of("data").join("\n");
      if (data) yield { event: of("event")[0] ?? "message", data };
    }
  }
}

/** Follow `/api/events` for ever, calling a handler by event; says how the connection is. */
export async function follow(handlers, show) {
  for (let pause = 500; ; pause = Math.min(pause * 2, 10000)) {
    try {
      const response = await ask("/api/events");
      show(true);
      for await (const { event, data } of serverEvents(response)) {
        pause = 500;
        handlers[event]?.(JSON.parse(data));
      }
    } catch (error) {
      if (!(error instanceof TypeError)) complain(error.message);
    }
    show(false);
    await new Promise((resume) => setTimeout(resume, pause));
  }
}

export function listenForKey() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, byId("key").value.trim());
    location.reload();
  });
}
