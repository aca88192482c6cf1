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
  setInterval(look, LOOK_MS);
}

let mayInvite = false;

/** The node says whether it may let others in. */
export function showTokens(status) {
  if (mayInvite === status.node.may_invite) return;
  mayInvite = status.node.may_invite;
  byId("token-form").hidden = !mayInvite;
  byId("no-tokens").hidden = mayInvite;
  byId("token-lists").hidden = !mayInvite;
  look();
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

async function list(name) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
  return (await ask(`/api/${name}`, options)).json();
}

async function look() {
  if (document.hidden || !mayInvite) return;
  const [book, asking] = await Promise.all([list("token_list"), list("token_requests")]).catch(() => [{ tokens: [] }, { requests: [] }]);
  fill(byId("tokens"), ...(book.tokens.length ? book.tokens.map(token) : [make("li", { class: "hint" }, "none yet")]));
  const waiting = asking.requests.filter((request) => request.state === "waiting");
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
