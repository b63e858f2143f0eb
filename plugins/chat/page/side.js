// Beside the talk: who is here, which rooms there are, and who we are.
//
// On a narrow screen it is a drawer over the talk, which can't be used meanwhile; a wide
// screen always shows it.

import { byId, element, face, fill, people, showError } from "./view.js";

export class Side {
  #names = new Set();
  #total = 0;
  #rooms = [];
  #me;
  #pick;
  #move;

  // `pick(name)`: write to this person. `move(room)`: go there; it answers an error, or "".
  constructor({ pick, move }) {
    this.#pick = (name) => {
      this.close();
      pick(name);
    };
    this.#move = (room) => this.showMoveError(move(room));
    byId("move-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#move(byId("move-room").value);
    });
    byId("side-open").addEventListener("click", () => this.#open());
    byId("side-close").addEventListener("click", () => this.close());
    byId("veil").addEventListener("click", () => this.close());
    byId("side").addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    matchMedia("(min-width: 48rem)").addEventListener("change", () => this.close());
  }

  // We are in this room now, or have this name now.
  setMe(me) {
    this.#me = me;
    byId("me").textContent = me.name;
    byId("move-form").reset();
    this.showMoveError("");
    this.#show();
  }

  setPeople(names, total) {
    this.#names = new Set(names);
    this.#total = total;
    this.#show();
  }

  setRooms(rooms) {
    this.#rooms = rooms;
    this.#show();
  }

  // Says whether that is news.
  add(name) {
    if (this.#names.has(name)) return false;
    this.#names.add(name);
    this.#total += 1;
    this.#show();
    return true;
  }

  // Says whether that is news.
  remove(name) {
    if (!this.#names.delete(name)) return false;
    this.#total -= 1;
    this.#show();
    return true;
  }

  showMoveError(message) {
    showError(byId("move-error"), byId("move-room"), message);
  }

  close() {
    if (!byId("chat").classList.contains("side-open")) return;
    this.#setOpen(false);
    byId("side-open").focus();
  }

  #open() {
    this.#setOpen(true);
    byId("side-close").focus();
  }

  #setOpen(open) {
    byId("chat").classList.toggle("side-open", open);
    byId("side-open").setAttribute("aria-expanded", String(open));
    byId("room").inert = open;
  }

  #show() {
    if (this.#me === undefined) return;
    this.#showPeople();
    this.#showRooms();
  }

  #showPeople() {
    const { name: mine } = this.#me;
    const names = [...this.#names].sort((a, b) => (b === mine) - (a === mine) || a.localeCompare(b));
    const rows = names.map((name) => ({ name, mine: name === mine }));
    fill(byId("people"), rows, (row) => this.#personRow(row));
    byId("people-alone").hidden = this.#total > 1;
    byId("people-more").hidden = this.#total <= names.length;
    byId("people-more").textContent = `and ${this.#total - names.length} more`;
    byId("room-count").textContent = `${people(this.#total)} here`;
  }

  #personRow({ name, mine }) {
    const label = element("span", { className: "label" }, name);
    if (mine) return element("div", { className: "row" }, face(name), label, element("span", { className: "quiet" }, "you"));
    const button = element("button", { type: "button", className: "row", title: `Write to ${name} privately` }, face(name), label);
    button.dataset.key = name;
    button.addEventListener("click", () => this.#pick(name));
    return button;
  }

  // Of our own room we know more than the last list of rooms did.
  #showRooms() {
    const others = this.#rooms.filter(({ name }) => name !== this.#me.room);
    const rows = [{ name: this.#me.room, people: this.#total, ours: true }, ...others];
    fill(byId("rooms"), rows, (row) => this.#roomRow(row));
  }

  #roomRow({ name, people: count, ours }) {
    const button = element(
      "button",
      { type: "button", className: "row" },
      element("span", { className: "label" }, name),
      element("span", { className: "count", title: people(count) }, String(count)),
    );
    button.dataset.key = name;
    if (ours) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => (ours ? this.close() : this.#move(name)));
    return button;
  }
}
