// Where a message is written, to the room or to one person.
//
// No text is lost: what was refused, or was under way when the connection broke, comes back
// into the field, and the person decides.

import { byId, showError } from "./view.js";

const MESSAGE_CHARS = 2_000;
const SHOW_LEFT_BELOW = 200;

export class Composer {
  #field = byId("text");
  #to = null;
  // What was sent and is not answered yet, oldest first; answers come in that order.
  #unanswered = [];
  #send;

  // `send(text, to)` answers whether it went on its way; `to` is null for the room.
  constructor({ send }) {
    this.#send = send;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("keydown", (event) => this.#pressed(event));
    this.#field.addEventListener("input", () => this.#changed());
    byId("private-end").addEventListener("click", () => this.writeTo(null));
    this.#showRecipient();
  }

  // The next messages go to this person, or to the room again.
  writeTo(name) {
    this.#to = name;
    this.#showRecipient();
    this.focus();
  }

  // A person has another name now.
  renamed(from, to) {
    if (this.#to !== from) return;
    this.#to = to;
    this.#showRecipient();
  }

  focus() {
    this.#field.focus();
  }

  // The oldest of our messages has come back from the server.
  arrived() {
    this.#unanswered.shift();
  }

  // The oldest of our messages was refused.
  refused(message) {
    this.#takeBack(this.#unanswered.splice(0, 1));
    this.showError(message);
  }

  // What was under way may or may not have arrived.
  connectionLost() {
    if (this.#unanswered.length === 0) return;
    this.#takeBack(this.#unanswered.splice(0));
    this.showError("The connection broke. This may not have arrived.");
  }

  showError(message) {
    showError(byId("text-error"), this.#field, message);
  }

  #submit() {
    const text = this.#field.value;
    if (text.trim() === "") return;
    if (!this.#send(text, this.#to)) return this.showError("There is no connection. Your text stays here.");
    this.#unanswered.push(text);
    this.#field.value = "";
    this.#changed();
    this.focus();
  }

  #pressed(event) {
    // While an input method composes, Enter chooses a word.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("composer").requestSubmit();
    } else if (event.key === "Escape" && this.#to !== null) {
      this.writeTo(null);
    }
  }

  #takeBack(texts) {
    this.#field.value = [...texts, this.#field.value].filter((text) => text !== "").join("\n").slice(0, MESSAGE_CHARS);
    this.#changed();
  }

  // The field grows with its text, and says when the end is near.
  #changed() {
    const field = this.#field;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
    const left = MESSAGE_CHARS - field.value.length;
    byId("text-left").textContent = left < SHOW_LEFT_BELOW ? `${left} left` : "";
    this.showError("");
  }

  #showRecipient() {
    const toOne = this.#to !== null;
    byId("composer").classList.toggle("to-one", toOne);
    byId("private").hidden = !toOne;
    byId("private-to").textContent = this.#to ?? "";
    byId("text-label").textContent = toOne ? `Private message to ${this.#to}` : "Message";
    this.#field.placeholder = toOne ? `Only ${this.#to} will see this` : "Say something";
  }
}
