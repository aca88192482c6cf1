// The mesh drawn: this node in the middle, the others around it, what each does, and what joins them.

import { byId, fill, make, makeSvg, role, rows } from "./dom.js";

const LEAST_WIDTH = 280;
const NARROW = 560;
const NAME_HEIGHT = 24;
const MY_RADIUS = 38;
const PEER_RADIUS = 36;
const MOST_LABELLED = 8;  // beyond it words would lie on words: they are in the table, and where the pointer rests

const MOST_DRAWN = 20;

let shown = null;

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
  const linkOf = (peer) => status.links.find((link) => peer.id.startsWith(link.node));
  fillTable(status, said);
  shown = () => draw(status, said, linkOf);
  shown();
}

window.addEventListener("resize", () => shown?.());

function isGone(state) {
  return state === "dead" || state === "left";
}

function memory(vram) {
  return `${vram.free_gb.toFixed(1)} / ${vram.total_gb.toFixed(1)} GB ${vram.kind}`;
}

/** What was proved of a node's speed, by whom, how long ago; what it proves now; why it is shut out. */
export function proved(poc) {
  const words = [];
  if (poc.quarantine) words.push(`in quarantine: ${poc.quarantine}`);
  if (poc.attested_tflops !== null)
    words.push(`${poc.attested_tflops} TFLOP/s or more, ${Math.round(poc.age_s / 60)} min ago, by ${poc.by.join(", ")}`);
  if (poc.phase !== "idle") words.push(poc.phase);
  return words.join("; ");
}

function fillTable(status, said) {
  const mine = status.memory.reduce((sum, device) => [sum[0] + device.free_gb, sum[1] + device.total_gb], [0, 0]);
  const kind = status.memory[0]?.kind ?? "none";
  const me = [`${status.node.name} (this node)`, role(status.node.duty), "alive", "", "",
    status.node.role === "client" ? "" : memory({ free_gb: mine[0], total_gb: mine[1], kind }), proved(status.node.poc)];
  const peers = status.peers.map((peer) => [
    peer.name, isGone(peer.state) ? "" : role(peer.duty), make("span", { class: peer.state === "alive" ? "good" : "bad" }, peer.state),
    said(peer).join(", "), peer.rtt_ms === null ? "" : `${peer.rtt_ms.toFixed(1)} ms`,
    peer.memory.length ? memory(peer.vram) : "", proved(peer.poc),
  ]);
  rows(byId("mesh-table"), [me, ...peers]);
}

function draw(status, said, linkOf) {
  const picture = byId("mesh-picture");
  const peers = status.peers.slice(0, MOST_DRAWN);
  const count = peers.length;
  const width = Math.max(LEAST_WIDTH, picture.clientWidth);
  const isNarrow = width < NARROW;
  const height = count === 0 ? 120 : count <= 2 && !isNarrow ? 160 : 420 + 25 * Math.max(0, count - MOST_LABELLED);
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.style.height = `${height}px`;
  const middle = { x: width / 2, y: (height - NAME_HEIGHT) / 2 };
  const reach = { x: Math.min(count > MOST_LABELLED ? 520 : 300, width / 2 - 60), y: middle.y - PEER_RADIUS - 4 };
  const place = (number) => {
    const angle = (2 * Math.PI * number) / count - Math.PI / 2 + (count === 2 && !isNarrow ? Math.PI / 2 : 0);
    return { x: middle.x + reach.x * Math.cos(angle), y: middle.y + reach.y * Math.sin(angle) };
  };
  const places = count === 1 && !isNarrow ? () => ({ x: middle.x + reach.x, y: middle.y }) : place;
  const lines = [];
  const circles = [node(status.node.name, status.node.duty, "alive", middle, MY_RADIUS)];
  peers.forEach((peer, number) => {
    const there = places(number);
    const link = linkOf(peer);
    if (link) lines.push(...edge(middle, there, link, said(peer).join(" · "), rtt(peer), count <= MOST_LABELLED));
    circles.push(node(peer.name, peer.duty, peer.state, there, PEER_RADIUS));
  });
  const more = status.peers.length - count;
  if (more) circles.push(makeSvg("text", { x: width - 90, y: height - 6, class: "faint" }, `and ${more} more in the table`));
  fill(picture, ...lines, ...circles);
}

function rtt(peer) {
  return peer.rtt_ms === null ? "" : `${peer.rtt_ms.toFixed(1)} ms`;
}

/** A line from circle to circle, what travels on it above, the round trip below. */
function edge(from, to, link, carriers, roundTrip, isLabelled) {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const at = (distance) => ({ x: from.x + (distance / length) * (to.x - from.x), y: from.y + (distance / length) * (to.y - from.y) });
  const [start, end] = [at(MY_RADIUS), at(length - PEER_RADIUS)];
  const [x, y] = [(start.x + end.x) / 2, (start.y + end.y) / 2];
  const line = makeSvg("line", { x1: start.x, y1: start.y, x2: end.x, y2: end.y, class: link.state },
    makeSvg("title", {}, [carriers, roundTrip].filter(Boolean).join(" · ")));
  if (!isLabelled) return [line];
  return [line, makeSvg("text", { x, y: y - 5, class: "faint" }, carriers), makeSvg("text", { x, y: y + 14, class: "faint" }, roundTrip)];
}

/** What a node does; one that is gone does nothing. */
function doing(duty, state) {
  if (isGone(state)) return state;
  return duty === "idle" ? "idle" : duty.toUpperCase();
}

function node(name, duty, state, at, radius) {
  return makeSvg("g", { class: `${duty} ${state}`, "data-node": name },
    makeSvg("circle", { cx: at.x, cy: at.y, r: radius }),
    makeSvg("text", { x: at.x, y: at.y + 5 }, doing(duty, state)),
    makeSvg("text", { x: at.x, y: at.y + radius + 18 }, state === "suspect" ? `${name} (suspect)` : name));
}
