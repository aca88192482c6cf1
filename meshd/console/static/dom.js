// Making elements. Text is always set as text: nothing that a node says becomes markup.

export function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes, handlers (`onclick`), a class (`class`) and children: nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Replace an element's children only where they differ, so that focus and selection stay. */
export function fill(element, ...children) {
  const next = make(element.tagName, {}, ...children);
  if (element.innerHTML !== next.innerHTML) element.replaceChildren(...children);
}

/** Fill a table's body. Each cell bears its column's name, for narrow screens, where a row is a list. */
export function rows(table, lists) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const cells = (list) => list.map((cell, column) => make("td", { "data-label": names[column] }, cell || null));
  const body = table.tBodies[0];
  lists.map((list) => make("tr", {}, ...cells(list))).forEach((row, place) => {
    if (place >= body.rows.length) body.append(row);
    else if (body.rows[place].outerHTML !== row.outerHTML) change(body.rows[place], row);
  });
  while (body.rows.length > lists.length) body.lastElementChild.remove();
}

/** Put a row in another's place; who stood on one of its buttons with the keyboard stands there still. */
function change(before, row) {
  const place = [...before.querySelectorAll("button")].indexOf(document.activeElement);
  before.replaceWith(row);
  row.querySelectorAll("button")[place]?.focus();
}

export function role(duty) {
  return make("span", { class: `role ${duty}` }, duty === "idle" ? "idle" : duty.toUpperCase());
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

export function complain(message) {
  const place = byId("error");
  place.textContent = message;
  place.hidden = !message;
}
