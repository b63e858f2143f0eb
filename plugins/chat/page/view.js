// Small helpers for the document. Text goes in as text nodes alone, so nothing that people
// type can become HTML.

export const byId = (id) => document.getElementById(id);

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Fills a list again where its items have changed; who has the focus in it keeps it.
export function fill(list, items, make) {
  const shown = JSON.stringify(items);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  list.replaceChildren(...items.map((item) => element("li", {}, make(item))));
  if (focused !== undefined) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

// Shows an error beside the field it is about; an empty one takes it away.
export function showError(place, field, message) {
  place.textContent = message;
  field.setAttribute("aria-invalid", String(message !== ""));
}

// A colour of one's own for each name: the same on every screen.
export function hue(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return (hash * 137) % 360;
}

// The disc with a person's initial.
export function face(name) {
  const disc = element("span", { className: "face", ariaHidden: "true" }, [...name][0].toUpperCase());
  disc.style.setProperty("--hue", hue(name));
  return disc;
}

export const people = (count) => (count === 1 ? "1 person" : `${count} people`);
