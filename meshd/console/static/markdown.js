// Markdown as models write it, made into elements: paragraphs, headings, lists, code, emphasis, links. No HTML passes.

import { make } from "./dom.js";

const FENCE = /^```(\S*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^\s*(?:[-*+]|\d+[.)])\s+(.*)$/;
const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;

/** Elements for `text`, which may still be growing: an open fence is closed at its end. */
export function markdown(text) {
  const lines = text.split("\n");
  const made = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    if (FENCE.test(line)) {
      const end = lines.findIndex((other, number) => number > at && FENCE.test(other));
      const stop = end < 0 ? lines.length : end;
      made.push(make("pre", {}, make("code", {}, lines.slice(at + 1, stop).join("\n"))));
      at = stop + 1;
    } else if (HEADING.test(line)) {
      const [, marks, words] = HEADING.exec(line);
      made.push(make(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(words)));
      at += 1;
    } else if (ITEM.test(line)) {
      const items = take(lines, at, (other) => ITEM.test(other));
      const tag = /^\s*\d/.test(line) ? "ol" : "ul";
      made.push(make(tag, {}, ...items.map((item) => make("li", {}, ...inline(ITEM.exec(item)[1])))));
      at += items.length;
    } else if (!line.trim()) {
      at += 1;
    } else {
      const words = take(lines, at, (other) => other.trim() && !FENCE.test(other) && !HEADING.test(other) && !ITEM.test(other));
      made.push(make("p", {}, ...inline(words.join("\n"))));
      at += words.length;
    }
  }
  return made;
}

function take(lines, from, belongs) {
  let to = from;
  while (to < lines.length && belongs(lines[to])) to += 1;
  return lines.slice(from, to);
}

function inline(text) {
  const made = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    made.push(text.slice(at, match.index));
    const [whole, , code, strong, emphasis, words, target] = match;
    if (code !== undefined) made.push(make("code", {}, code));
    else if (strong !== undefined) made.push(make("strong", {}, ...inline(strong)));
    else if (emphasis !== undefined) made.push(make("em", {}, ...inline(emphasis)));
    else made.push(make("a", { href: target, rel: "noreferrer noopener", target: "_blank" }, words));
    at = match.index + whole.length;
  }
  made.push(text.slice(at));
  return made;
}
