// Tokens for other hosts, and hosts that ask without one.

import { byId, fill, make } from "./dom.js";
import { ask, command } from "./http.js";

const LOOK_MS = 5000;

export function listenForTokens() {
  byId("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const role = byId("token-role").value;
    const wanted = { role, uses: Number(byId("token-uses").value), ttl_s: 3600 * Number(byId("token-hours").value) };
    const made = await command("token_create", wanted).catch(() => null);
    if (!made) return;
    byId("join-text").value = `meshd ${role === "client" ? "--client " : ""}--join ${made.token}`;
    byId("join-line").hidden = false;
    look();
  });
  byId("join-copy").addEventListener("click", copy);
  look();
  setInterval(look, LOOK_MS);
}

async function copy() {
  const field = byId("join-text");
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select();  // a page that is not served from this host may not write: the person can, with a key
    return;
  }
  byId("join-copy").textContent = "copied";
  setTimeout(() => { byId("join-copy").textContent = "copy"; }, 1500);
}

/** Quiet where this node may not invite. */
async function list(name) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
  const response = await ask(`/api/${name}`, options).catch((error) => ({ why: error.message }));
  return response.why ? response : response.json();
}

async function look() {
  if (document.hidden) return;
  const book = await list("token_list");
  fill(byId("tokens"), ...(book.tokens ?? []).map(token), ...(book.why ? [make("li", { class: "hint" }, book.why)] : []));
  const asking = await list("token_requests");
  const waiting = (asking.requests ?? []).filter((request) => request.state === "waiting");
  fill(byId("pairing"), ...(waiting.length ? waiting.map(pairing) : [make("li", { class: "hint" }, "nobody")]));
}

function button(word, name, body) {
  return make("button", { type: "button", onclick: () => command(name, body).then(look).catch(() => {}) }, word);
}

function token(entry) {
  const words = `${entry.id} · ${entry.role} · ${entry.state} · ${entry.uses_left} of ${entry.uses} uses left `;
  return make("li", {}, words, entry.state === "valid" ? button("revoke", "token_revoke", { id: entry.id }) : null);
}

function pairing(request) {
  const words = `${request.name} at ${request.address} shows code ${request.id}, as ${request.role} `;
  return make("li", {}, words, button("let in", "token_accept", { id: request.id }), " ", button("refuse", "token_refuse", { id: request.id }));
}
