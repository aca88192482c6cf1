// Sessions that this node keeps, by model: how many are in which tier, and what each tier takes.

import { byId, rows } from "./dom.js";

export function showSessions(status) {
  byId("sessions-box").hidden = status.sessions.length === 0;
  byId("no-sessions").hidden = status.sessions.length > 0;
  rows(byId("sessions-table"), status.sessions.map((one) => [
    one.model, String(one.open), String(one.resident - one.bounded), String(one.bounded),
    one.resident ? `${size(one.live_bytes)} of ${size(one.context_bytes)}` : "",
    one.parked ? `${one.parked}, ${size(one.parked_bytes)} on disk` : "0",
    [one.active && `${one.active} answered`, one.waiting && `${one.waiting} waiting`].filter(Boolean).join(", "),
    one.drafted_tokens ? `${one.accepted_tokens} of ${one.drafted_tokens}` : "",
  ]));
}

function size(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
