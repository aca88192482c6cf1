// Sessions that this node keeps, by model: how many are where, and what they take.

import { byId, fill, make } from "./dom.js";

export function showSessions(status) {
  byId("sessions-title").hidden = status.sessions.length === 0;
  fill(byId("sessions"), ...status.sessions.map(row));
}

function row(one) {
  const whole = one.resident - one.bounded;
  const places = [
    whole && `${whole} resident`, one.bounded && `${one.bounded} bounded`, one.parked && `${one.parked} parked`,
  ].filter(Boolean).join(", ");
  const sizes = `live ${size(one.live_bytes)} in cells of ${size(one.resident_bytes)}, parked ${size(one.parked_bytes)}`;
  const now = one.active + one.waiting ? `; answering ${one.active}, waiting ${one.waiting}` : "";
  return make("li", {}, make("strong", {}, one.model), ` ${one.open} open: ${places}; ${sizes}${now}`);
}

function size(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
