// This host's devices as stacked bars: what models, their caches and forms hold, what other programs take, what is free.

import { byId, fill, make } from "./dom.js";

const USES = { weights: "models", kv: "KV", forms: "forms", rest: "work areas" };
const LEAST_GB = 0.0005;

export function showMemory(status) {
  fill(byId("memory"), ...status.memory.flatMap(device));
}

function device(device) {
  const held = device.held.reduce((sum, one) => sum + one.gb, 0);
  const others = Math.max(0, device.total_gb - device.free_gb - held);
  const uses = Object.entries(USES).map(([use, name]) => [name, sum(device.held, use), `use-${use}`]);
  const parts = [...uses, ["other programs", others, "use-others"]].filter(([, gb]) => gb > LEAST_GB);
  const free = ["free", device.free_gb, "use-free"];
  const words = [...parts, free].map(([name, gb]) => `${name} ${size(gb)}`).join(", ");
  const bar = make("div", { class: "bar", role: "img", "aria-label": `${device.name}: ${words}` }, ...parts.map((part) => slice(part, device.total_gb)));
  return [
    make("strong", {}, `${device.name} · ${device.total_gb.toFixed(1)} GB ${device.kind}`),
    bar,
    make("p", { class: "legend", "aria-hidden": "true" }, ...[...parts, free].map(key)),
    make("ul", { class: "holders" }, ...device.held.filter((one) => one.gb > LEAST_GB).map(holder)),
  ];
}

function size(gb) {
  return gb < 0.1 ? `${(1024 * gb).toFixed(0)} MB` : `${gb.toFixed(2)} GB`;
}

function sum(held, use) {
  return held.reduce((gb, one) => gb + (one.uses[use] ?? 0), 0);
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
