// This host's devices as stacked bars: who holds what, what other programs take, what is free.

import { byId, fill, make } from "./dom.js";

export function showMemory(status) {
  fill(byId("memory"), ...status.memory.flatMap(device));
}

function device(device) {
  const held = device.held.reduce((sum, one) => sum + one.gb, 0);
  const others = Math.max(0, device.total_gb - device.free_gb - held);
  const parts = [...device.held.map((one, number) => [one.holder, one.gb, `part-${number % 4}`]), ["other programs", others, "others"]]
    .filter(([, gb]) => gb > 0.0005);
  const words = [...parts.map(([name, gb]) => `${name} ${gb.toFixed(2)} GB`), `free ${device.free_gb.toFixed(2)} GB`].join(", ");
  const bar = make("div", { class: "bar", role: "img", "aria-label": `${device.name}: ${words}` }, ...parts.map((part) => slice(part, device.total_gb)));
  return [make("strong", {}, `${device.name} · ${device.total_gb.toFixed(1)} GB ${device.kind}`), bar, make("p", { class: "legend" }, words)];
}

function slice([name, gb, kind], total) {
  const slice = make("span", { class: kind, title: `${name}: ${gb.toFixed(2)} GB` }, name);
  slice.style.width = `${(100 * gb) / total}%`;
  return slice;
}
