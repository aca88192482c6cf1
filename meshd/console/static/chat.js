// A chat with any model of the mesh: streams, stops, and says which node answered.

import { byId, make } from "./dom.js";
import { ask, serverEvents } from "./http.js";
import { markdown } from "./markdown.js";

let messages = [];
let running = null;

export function listenForChat() {
  byId("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("chat-text").value.trim();
    if (text && !running) send(text);
  });
  byId("chat-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("chat-form").requestSubmit();
    }
  });
  byId("chat-stop").addEventListener("click", () => running?.abort());
  byId("chat-clear").addEventListener("click", () => {
    running?.abort();
    messages = [];
    byId("chat-log").replaceChildren();
  });
}

function bubble(who) {
  const item = make("li", { class: who });
  byId("chat-log").append(item);
  return item;
}

async function send(text) {
  byId("chat-text").value = "";
  messages.push({ role: "user", content: text });
  bubble("user").textContent = text;
  const item = bubble("assistant");
  item.classList.add("running");
  running = new AbortController();
  busy(true);
  let said = "";
  let meta = "";
  try {
    const response = await ask("/v1/chat/completions", {
      method: "POST", signal: running.signal, headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: byId("chat-model").value, stream: true, messages }),
    });
    meta = `${response.headers.get("x-meshd-node")} · ${response.headers.get("x-meshd-mode")}`;
    for await (const { data } of serverEvents(response)) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      said += event.choices?.[0]?.delta?.content ?? "";
      show(item, said, meta);
    }
  } catch (error) {
    meta = error.name === "AbortError" ? `${meta} · stopped` : error.message;
  }
  messages.push({ role: "assistant", content: said });
  show(item, said, meta);
  item.classList.remove("running");
  running = null;
  busy(false);
}

function show(item, said, meta) {
  item.replaceChildren(...markdown(said), make("p", { class: "meta" }, meta));
  const log = byId("chat-log");
  log.scrollTop = log.scrollHeight;
}

function busy(isBusy) {
  byId("chat-send").disabled = isBusy;
  byId("chat-stop").disabled = !isBusy;
}
