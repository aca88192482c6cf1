// The mesh drawn: this node in the middle, the others around it, what each does, and what joins them.

import { byId, fill, make, makeSvg, role, rows } from "./dom.js";

const WIDTH = 720;
const HEIGHT = 300;

/** What travels on the link with a peer, in words. */
export function labels(peer, link, workers, isClient) {
  if (!link) return [];
  const said = [link.carrier.startsWith("quic") ? "QUIC · HTTP" : link.carrier];
  if (isClient || peer.role === "client") said.push("API tunnel");
  if (workers.has(peer.name)) said.push("RPC");
  if (link.carrier.includes("bulk")) said.push("bulk");
  return said;
}

/** Names of nodes that hold a share of a model which this node leads, or that lead one which this node shares. */
export function partners(status) {
  const me = status.node.name;
  const split = status.models.filter((model) => model.workers.some((worker) => worker.name === me));
  return new Set(split.flatMap((model) => model.workers.map((worker) => worker.name)).filter((name) => name !== me));
}

export function showMesh(status) {
  const workers = partners(status);
  const isClient = status.node.role === "client";
  const said = (peer) => labels(peer, linkOf(peer), workers, isClient);
  const linkOf = (peer) => status.links.find((link) => link.name === peer.name);
  fillTable(status, said);
  draw(status, said, linkOf);
}

function memory(vram) {
  return `${vram.free_gb.toFixed(1)} / ${vram.total_gb.toFixed(1)} GB ${vram.kind}`;
}

function fillTable(status, said) {
  const mine = status.memory.reduce((sum, device) => [sum[0] + device.free_gb, sum[1] + device.total_gb], [0, 0]);
  const kind = status.memory[0]?.kind ?? "none";
  const me = [`${status.node.name} (this node)`, role(status.node.duty), "alive", "", "",
    status.node.role === "client" ? "" : memory({ free_gb: mine[0], total_gb: mine[1], kind })];
  const peers = status.peers.map((peer) => [
    peer.name, role(peer.duty), make("span", { class: peer.state === "alive" ? "good" : "bad" }, peer.state),
    said(peer).join(", "), peer.rtt_ms === null ? "" : `${peer.rtt_ms.toFixed(1)} ms`,
    peer.role === "client" ? "" : memory(peer.vram),
  ]);
  rows(byId("mesh-table"), [me, ...peers]);
}

function draw(status, said, linkOf) {
  const picture = byId("mesh-picture");
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const middle = { x: WIDTH / 2, y: HEIGHT / 2 };
  const count = Math.max(1, status.peers.length);
  const place = (number) => {
    const angle = (2 * Math.PI * number) / count - Math.PI / 2 + (count === 2 ? Math.PI / 2 : 0);
    return { x: middle.x + 0.38 * WIDTH * Math.cos(angle), y: middle.y + 0.32 * HEIGHT * Math.sin(angle) };
  };
  const lines = [];
  const circles = [node(status.node.name, status.node.duty, "alive", middle, true)];
  status.peers.forEach((peer, number) => {
    const there = place(number);
    const link = linkOf(peer);
    if (link) lines.push(...edge(middle, there, link, [...said(peer), rtt(peer)].filter(Boolean)));
    circles.push(node(peer.name, peer.duty, peer.state, there, false));
  });
  fill(picture, ...lines, ...circles);
}

function rtt(peer) {
  return peer.rtt_ms === null ? "" : `${peer.rtt_ms.toFixed(1)} ms`;
}

function edge(from, to, link, words) {
  const x = from.x + 0.55 * (to.x - from.x);
  const y = from.y + 0.55 * (to.y - from.y);
  return [
    makeSvg("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y, class: link.state }),
    makeSvg("text", { x, y: y - 4, class: "faint" }, words.join(" · ")),
  ];
}

function node(name, duty, state, at, isMe) {
  return makeSvg("g", { class: `${duty} ${state}`, "data-node": name },
    makeSvg("circle", { cx: at.x, cy: at.y, r: isMe ? 36 : 32 }),
    makeSvg("text", { x: at.x, y: at.y + 5 }, duty === "idle" ? "idle" : duty.toUpperCase()),
    makeSvg("text", { x: at.x, y: at.y + (isMe ? 56 : 51) }, state === "alive" ? name : `${name} (${state})`));
}
