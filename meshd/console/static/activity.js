// Requests and form calls of this node, as they come and go.

import { byId, make, rows, seconds } from "./dom.js";

const SHOWN = 20;

export function showActivity(deeds) {
  byId("no-activity").hidden = deeds.length > 0;
  rows(byId("activity-table"), deeds.slice(0, SHOWN).map((deed) => [
    deed.what, [deed.where, deed.mode].filter(Boolean).join(", "), outcome(deed), seconds(deed.first_s), time(deed),
    deed.tokens ? String(deed.tokens) : "",
  ]));
}

function outcome(deed) {
  const kind = deed.outcome === "running" ? "running" : /^(2|ok)/.test(deed.outcome) ? "good" : "bad";
  return make("span", { class: kind }, deed.outcome);
}

function time(deed) {
  const predicted = deed.predicted_s === null ? "" : ` (${seconds(deed.predicted_s)} predicted)`;
  return `${seconds(deed.seconds)}${predicted}`;
}
