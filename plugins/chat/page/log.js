// The messages of a room, newest at the bottom.
//
// It stays at the bottom while the reader is there; a reader who has scrolled up is left alone
// and told how much has come. Whatever people wrote is put in as text, never as HTML. The
// oldest entries go when there are too many.

import { byId, element, face, hue } from "./view.js";

const MAX_ENTRIES = 500;
const NEAR_BOTTOM_PX = 48;
// Messages of one person within this time stand under one name.
const TOGETHER_MS = 5 * 60_000;

export class Log {
  #frame = byId("log");
  #entries = byId("log-entries");
  #down = byId("log-down");
  #last = null;
  #below = 0;
  #atBottom = true;
  #pick;

  // `pick(name)`: write to this person.
  constructor({ pick }) {
    this.#pick = pick;
    this.#frame.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#down.addEventListener("click", () => this.#goDown());
    // A keyboard that opens on a phone, a turned screen: the bottom stays the bottom.
    new ResizeObserver(() => this.#atBottom && this.#goDown()).observe(this.#frame);
  }

  // What is not a message: somebody came, you are in another room.
  note(text) {
    this.#last = null;
    this.#add(element("li", { className: "note" }, text), false);
  }

  // `message`: from, to (a private one), text, at; `mine` says whose it is.
  message(message, mine) {
    const together = this.#followsOn(message);
    this.#last = message;
    const item = element("li", { className: "message" });
    item.classList.toggle("mine", mine);
    item.classList.toggle("private", message.to !== undefined);
    item.classList.toggle("together", together);
    item.append(
      face(message.from),
      element("div", { className: "bubble" }, this.#head(message, mine), element("p", { className: "text" }, message.text)),
    );
    this.#add(item, mine);
  }

  #head(message, mine) {
    const from = mine ? element("span", {}, "You") : this.#name(message.from);
    const head = element("p", { className: "head" }, from);
    if (message.to !== undefined) {
      head.append(" to ", mine ? this.#name(message.to) : "you", element("span", { className: "tag" }, "private"));
    }
    const at = new Date(message.at);
    const short = at.toLocaleTimeString([], { hour: "numeric", minute: "2-digit" });
    head.append(element("time", { dateTime: at.toISOString(), title: at.toLocaleString() }, short));
    return head;
  }

  #name(name) {
    const button = element("button", { type: "button", className: "name", title: `Write to ${name} privately` }, name);
    button.style.setProperty("--hue", hue(name));
    button.addEventListener("click", () => this.#pick(name));
    return button;
  }

  #followsOn({ from, to, at }) {
    const last = this.#last;
    return last !== null && last.from === from && last.to === to && at - last.at < TOGETHER_MS;
  }

  #add(item, mine) {
    byId("log-empty").hidden = true;
    this.#entries.append(item);
    while (this.#entries.childElementCount > MAX_ENTRIES) this.#entries.firstElementChild.remove();
    if (this.#atBottom || mine) return this.#goDown();
    if (item.classList.contains("message")) this.#below += 1;
    this.#showBelow();
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#frame;
    this.#atBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    if (this.#atBottom) this.#below = 0;
    this.#showBelow();
  }

  #goDown() {
    this.#frame.scrollTop = this.#frame.scrollHeight;
    this.#atBottom = true;
    this.#below = 0;
    this.#showBelow();
  }

  #showBelow() {
    this.#down.hidden = this.#atBottom;
    this.#down.textContent = this.#below === 0 ? "↓ Newest" : `↓ ${this.#below} new`;
  }
}
