// What proposes tokens to this node's models, here and on other hosts, and whether that pays; who drafts in the mesh.

import { byId, fill, make, rows } from "./dom.js";

const KINDS = { on: "good", off: "bad", never: "bad", tried: "" };

export function showDrafts(status) {
  const { here, models, drafters } = status.drafting;
  const local = here.map((one) => ({ ...one, node: status.node.name }));
  const all = [...local, ...models];
  byId("drafts-section").hidden = status.node.role === "client";
  byId("drafts-box").hidden = all.length === 0;
  byId("no-drafts").hidden = all.length > 0;
  rows(byId("drafts-table"), all.map((one) => [
    one.model, one.drafter, one.node, make("span", { class: KINDS[one.state] }, one.state), accepted(one),
    one.speedup ? `${one.speedup.toFixed(2)} ×` : "", why(one),
  ]));
  byId("drafters-title").hidden = drafters.length === 0;
  fill(byId("drafters"), ...drafters.map((one) => make("li", {}, make("strong", {}, one.model), ` on ${one.node}, ${one.token_ms} ms a token`)));
}

/** The state stands in a column of its own. */
function why(one) {
  return one.reason.startsWith(`${one.state}: `) ? one.reason.slice(one.state.length + 2) : one.reason;
}

function accepted(one) {
  if (!one.drafted) return "none yet";
  return `${one.accepted} of ${one.drafted} (${Math.round((100 * one.accepted) / one.drafted)} %)`;
}
