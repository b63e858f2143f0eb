// The chat page. The protocol is in the plugin's README.md.
//
// The socket opens first and entering is a message, so that a name that is taken is an answer
// we can show: a refused handshake looks to a page like a network that is down.

import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Log } from "./log.js";
import { Side } from "./side.js";
import { byId, element, fill, people, showError } from "./view.js";

const ROOMS_EVERY_MS = 10_000;
const ANSWER_WITHIN_MS = 8_000;
const NO_CONNECTION = "There is no connection.";

// Who we are or want to be, with a room; null at the door. Kept over a reload of the page.
let me = remembered();
// By this the plugin knows that we are the one who had the name before.
const key = rememberedKey();
// Whether the plugin has let this connection in.
let entered = false;
let unread = 0;
// Which messages of the room are in the log: what is said while we come in may come twice.
const read = new Set();
const READ_MAX = 500;
let askedAt = null;

const composer = new Composer({
  send: (text, to) => entered && connection.send(to === null ? { do: "say", text } : { do: "tell", to, text }),
});
const log = new Log({ pick: (name) => composer.writeTo(name) });
const side = new Side({ pick: (name) => composer.writeTo(name), move });
const connection = new Connection(socketUrl(), {
  opened() {
    showConnection("");
    if (me !== null) enter();
    askRooms();
  },
  heard(event) {
    askedAt = null;
    heard[event.event]?.(event);
  },
  waiting() {
    connectionLost();
    showConnection("No connection. Trying again…", "Try now", () => connection.hurry());
  },
  replaced() {
    connectionLost();
    showConnection("This chat goes on in another window.", "Use it here", () => connection.open());
  },
});

// ── What the plugin says ──

const heard = {
  entered({ name, room }) {
    const shown = byId("chat").hidden ? null : me.room;
    if (shown === room && !entered) log.note("Connected again.");
    if (shown !== room) read.clear();
    if (shown !== null && shown !== room) log.note(`You are in ${room} now.`);
    entered = true;
    setMe({ name, room });
    showChat();
  },
  people({ room, names, total }) {
    if (room === me?.room) side.setPeople(names, total);
  },
  came({ name, room }) {
    if (room === me?.room && side.add(name) && name !== me.name) log.note(`${name} came in.`);
  },
  left({ name, room }) {
    if (room === me?.room && side.remove(name) && name !== me.name) log.note(`${name} left.`);
  },
  renamed({ from, to }) {
    if (from === me.name) {
      setMe({ ...me, name: to });
      byId("rename-dialog").close();
    }
    if (side.remove(from)) side.add(to);
    composer.renamed(from, to);
    log.note(`${from} is called ${to} now.`);
  },
  earlier({ room, said }) {
    if (room !== me?.room) return;
    for (const one of said.filter(isNew)) log.message(one, one.from === me.name);
  },
  said: (event) => isNew(event) && message(event),
  told: message,
  rooms({ rooms }) {
    side.setRooms(rooms);
    showOpenRooms(rooms);
  },
  error({ do: asked, code, message }) {
    (failed[asked] ?? ((text) => composer.showError(text)))(message, code);
  },
};

// Where the answer to a request that was not done belongs.
const failed = {
  enter(message, code) {
    // Two clicks on one button.
    if (code !== "already-entered") backToDoor(message);
  },
  move: (message) => side.showMoveError(message),
  rename: (message) => showError(byId("rename-error"), byId("rename-name"), message),
  say: (message) => composer.refused(message),
  tell: (message) => composer.refused(message),
};

function message(said) {
  const mine = said.from === me.name;
  if (mine) composer.arrived();
  log.message(said, mine);
  if (!mine && !document.hasFocus()) {
    unread += 1;
    showTitle();
  }
}

// Whether a message is not in the log yet, where it will be from now on.
function isNew({ number, at }) {
  if (number === undefined) return true;
  const id = `${number} ${at}`;
  if (read.has(id)) return false;
  read.add(id);
  if (read.size > READ_MAX) read.delete(read.values().next().value);
  return true;
}

function connectionLost() {
  entered = false;
  askedAt = null;
  composer.connectionLost();
}

// ── What we ask for ──

function enter() {
  return connection.send({ do: "enter", ...me, key });
}

// Answers an error, or "".
function move(room) {
  return entered && connection.send({ do: "move", room }) ? "" : NO_CONNECTION;
}

function askRooms() {
  if (connection.send({ do: "rooms" })) askedAt ??= performance.now();
}

// The question also finds out a connection that has died without a word.
setInterval(() => {
  if (document.hidden) return;
  if (askedAt !== null && performance.now() - askedAt > ANSWER_WITHIN_MS) return connection.abandon();
  askRooms();
}, ROOMS_EVERY_MS);

// ── The door ──

byId("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  me = { name: byId("door-name").value, room: byId("door-room").value };
  showDoorError(enter() ? "" : `${NO_CONNECTION} You enter as soon as there is one.`);
});

for (const id of ["door-name", "door-room"]) {
  byId(id).addEventListener("input", () => showDoorError(""));
}

function backToDoor(message) {
  entered = false;
  setMe(null);
  byId("chat").hidden = true;
  byId("door").hidden = false;
  showTitle();
  showDoorError(message);
  byId("door-name").select();
}

function showDoorError(message) {
  showError(byId("door-error"), byId("door-name"), message);
}

function showOpenRooms(rooms) {
  byId("door-open").hidden = rooms.length === 0;
  fill(byId("door-rooms"), rooms, ({ name, people: count }) => {
    const button = element("button", { type: "button", title: people(count) }, `${name} · ${count}`);
    button.dataset.key = name;
    button.addEventListener("click", () => {
      byId("door-room").value = name;
      byId("door-name").focus();
    });
    return button;
  });
}

// ── The room ──

function showChat() {
  byId("door").hidden = true;
  byId("chat").hidden = false;
  byId("room-name").textContent = me.room;
  history.replaceState(null, "", `#${encodeURIComponent(me.room)}`);
  showTitle();
  askRooms();
  side.close();
  // On a touch screen the field would bring up the keyboard, over the room.
  if (matchMedia("(hover: hover)").matches) composer.focus();
  else byId("room-name").focus();
}

function showTitle() {
  const badge = unread > 0 ? `(${unread}) ` : "";
  document.title = badge + (byId("chat").hidden ? "Chat" : `${me.room} · Chat`);
}

function showConnection(text, action = "", act = null) {
  byId("connection").hidden = text === "";
  byId("connection-text").textContent = text;
  byId("connection-act").textContent = action;
  byId("connection-act").onclick = act;
}

addEventListener("focus", () => {
  unread = 0;
  showTitle();
});

addEventListener("hashchange", () => {
  const room = roomInAddress();
  if (entered && room !== "" && room !== me.room) side.showMoveError(move(room));
});

// ── Another name ──

byId("rename").addEventListener("click", () => {
  showError(byId("rename-error"), byId("rename-name"), "");
  byId("rename-name").value = me.name;
  byId("rename-dialog").showModal();
  byId("rename-name").select();
});

byId("rename-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const sent = entered && connection.send({ do: "rename", name: byId("rename-name").value });
  showError(byId("rename-error"), byId("rename-name"), sent ? "" : NO_CONNECTION);
});

byId("rename-cancel").addEventListener("click", () => byId("rename-dialog").close());

// ── What outlives the page ──

function setMe(now) {
  me = now;
  sessionStorage.setItem("me", JSON.stringify(now));
  if (now !== null) side.setMe(now);
}

function remembered() {
  const saved = JSON.parse(sessionStorage.getItem("me"));
  return saved && { name: saved.name, room: roomInAddress() || saved.room };
}

function rememberedKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const kept = sessionStorage.getItem("key") ?? fresh;
  sessionStorage.setItem("key", kept);
  return kept;
}

function roomInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

// The page is at /chat/, its socket at /chat.
function socketUrl() {
  const url = new URL(".", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.pathname = url.pathname.replace(/\/$/, "");
  return url;
}

byId("door-room").value = roomInAddress() || me?.room || "lobby";
byId("door-name").value = me?.name ?? "";
byId("door-name").focus();
connection.open();
