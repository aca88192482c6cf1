// Every node's devices as stacked bars: what models, their caches and forms hold, what other programs take, what is
// free. Of this node's also who holds how much.

import { byId, fill, make } from "./dom.js";

const USES = { weights: "models", kv: "KV", forms: "forms", rest: "work areas", other: "other programs" };
const LEAST_GB = 0.0005;
const MOST_NODES = 24;  // beyond it bars are no picture any more

export function showMemory(status) {
  const here = [status.node.name, status.node.role === "client" ? [] : status.memory];
  const nodes = [here, ...status.peers.map((peer) => [peer.name, peer.memory])].filter(([, devices]) => devices.length);
  const more = nodes.length - MOST_NODES;
  fill(byId("memory"), ...nodes.slice(0, MOST_NODES).flatMap(([name, devices]) => devices.map((one) => device(name, one))));
  byId("more-memory").hidden = more <= 0;
  byId("more-memory").textContent = `and ${more} more: meshd status`;
}

function device(node, device) {
  const held = { ...device.uses, other: device.other_gb };
  const parts = Object.entries(USES).map(([use, name]) => [name, held[use] ?? 0, `use-${use}`]).filter(([, gb]) => gb > LEAST_GB);
  const free = ["free", device.free_gb, "use-free"];
  const words = [...parts, free].map(([name, gb]) => `${name} ${size(gb)}`).join(", ");
  const bar = make("div", { class: "bar", role: "img", "aria-label": `${node}, ${device.name}: ${words}` }, ...parts.map((part) => slice(part, device.total_gb)));
  return make("div", { class: "device", "data-node": node },
    make("p", {}, make("strong", {}, device.held ? `${node} (this node)` : node), ` · ${device.name} · ${device.total_gb.toFixed(1)} GB ${device.kind}`),
    bar,
    make("p", { class: "legend", "aria-hidden": "true" }, ...[...parts, free].map(key)),
    device.held && make("ul", { class: "holders" }, ...device.held.filter((one) => one.gb > LEAST_GB).map(holder)),
  );
}

function size(gb) {
  return gb < 0.1 ? `${(1024 * gb).toFixed(0)} MB` : `${gb.toFixed(2)} GB`;
}

function slice([name, gb, kind], total) {
  const slice = make("span", { class: kind, title: `${name}: ${size(gb)}` }, gb / total > 0.3 ? name : "");
  slice.style.width = `${(100 * gb) / total}%`;
  return slice;
}

function key([name, gb, kind]) {
  return make("span", {}, make("i", { class: kind }), `${name} ${size(gb)}`);
}

function holder(one) {
  const uses = Object.entries(one.uses).map(([use, gb]) => `${USES[use]} ${size(gb)}`);
  return make("li", {}, make("strong", {}, one.holder), ` ${size(one.gb)}: ${uses.join(", ")}`);
}
