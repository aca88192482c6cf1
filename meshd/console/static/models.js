// Models, what can be done with them, and why each host leads.

import { byId, fill, make, rows } from "./dom.js";
import { command } from "./http.js";

export function showModels(status) {
  rows(byId("models-table"), status.models.map((model) => [
    model.name, holders(model), model.mode,
    make("span", { class: model.state === "ready" ? "good" : model.state === "failed" ? "bad" : "" }, model.state),
    String(model.in_flight), model.reason, actions(model, status.node.name),
  ]));
  fill(byId("elections"), ...status.claims.map((claim) => make("li", {}, claim.reason)));
  const names = status.models.map((model) => make("option", { value: model.name }, model.name));
  keepChoice(byId("chat-model"), names);
  fill(byId("plan-models"), ...status.models.map((model) => make("option", { value: model.name })));
}

/** Replace a picker's options without losing what was picked. */
function keepChoice(picker, options) {
  const before = picker.value;
  fill(picker, ...options);
  if (options.some((option) => option.value === before)) picker.value = before;
}

function holders(model) {
  if (model.workers.length < 2) return model.hosts.join(", ") || model.host;
  return model.workers.map((worker) => `${worker.name} ${Math.round(100 * worker.share)} %`).join(" + ");
}

function actions(model, me) {
  if (!model.hosts.includes(me)) return "";
  const act = (name, word) => make("button", { type: "button", onclick: () => command(name, { name: model.name }).catch(() => {}) }, word);
  return model.state === "unloaded" ? act("model_load", "load") : act("model_unload", "unload");
}

export function listenForModels() {
  byId("pull-form").addEventListener("submit", (event) => {
    event.preventDefault();
    command("model_pull", { name: byId("pull-name").value.trim() }).then(() => event.target.reset()).catch(() => {});
  });
}
