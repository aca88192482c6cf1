// Every way the mesh could serve a model, with the memory it takes, how fast it would be, and which to take.

import { byId, make, rows } from "./dom.js";
import { command } from "./http.js";

export function listenForPlan() {
  byId("plan-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = byId("plan");
    place.textContent = "…";
    try {
      place.replaceChildren(...show(await command("plan", { model: byId("plan-model").value.trim() })));
    } catch {
      place.textContent = "";
    }
  });
}

function speed(tokens) {
  return tokens < 10 ? tokens.toFixed(1) : tokens.toFixed(0);
}

function show(found) {
  const head = ["", "choice", "nodes", "tokens/s", "why"].map((word) => make("th", { scope: "col" }, word));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody"));
  rows(table, found.choices.map((choice) => [
    choice.advised ? make("span", { class: "good" }, "advised") : choice.possible ? "" : "no",
    choice.kind,
    choice.nodes.map((node) => `${node.name}: ${node.layers} layers, ${node.needed_gb} of ${node.free_gb} GB`).join("; "),
    choice.tokens_per_s ? `${speed(choice.tokens_per_s.likely)} (${speed(choice.tokens_per_s.low)} to ${speed(choice.tokens_per_s.high)})` : "",
    choice.reason,
  ]));
  return [
    make("p", {}, `${found.model}: ${found.memory.total_gb} GB alone, ${found.slots} slots of ${found.context_tokens} tokens`),
    make("div", { class: "scroll" }, table),
    make("p", {}, `drafts: ${found.drafts}`),
    ...found.far_drafts.map((row) => make("p", {}, `drafts of another host: ${row}`)),
  ];
}
