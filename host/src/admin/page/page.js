// The page of a node: what `jackfield status`, `plugins`, `clients`, `trace` and `deploy` show, over
// the same API. It keeps nothing but the token, in this tab.

const POLL_MS = 2000;
const POINTS = 120;
const LINES = 200;
const CLIENTS = 100;

const byId = (id) => document.getElementById(id);
const TOKEN = "jackfield-token";
let token = sessionStorage.getItem(TOKEN);
let scopes = [];
let cluster = null;

// Elements.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Brings the rows of a table up to date. A row stays the same element as long as its key is there, so
// that what is clicked or focused does not go away.
function updateRows(body, items, keyOf, cellsOf) {
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const keys = new Set(items.map(keyOf));
  // First those that are gone: the others need not be moved then, and keep the focus.
  for (const [key, row] of known) if (!keys.has(key)) row.remove();
  let place = body.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = known.get(key);
    if (!row) {
      row = make("tr");
      row.dataset.key = key;
    }
    row.item = item;
    cellsOf(item, row).forEach((content, index) => {
      const { text, className = "", build } = typeof content === "object" ? content : { text: content };
      let cell = row.cells[index];
      cell ??= row.insertCell();
      if (!build) setText(cell, text ?? "–");
      else if (!cell.firstElementChild) cell.replaceChildren(...build(row));
      if (cell.className !== className) cell.className = className;
    });
    if (row !== place) body.insertBefore(row, place);
    place = row.nextElementSibling;
  }
}

function notice(text, isError) {
  const element = byId("notice");
  element.hidden = !text;
  element.classList.toggle("error", Boolean(isError));
  setText(element, text);
}

// Numbers.

const short = (digest) => digest?.slice(0, 12);
const count = (number) => Number(number ?? 0).toLocaleString("en");

function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - Number(ms)) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function duration(seconds) {
  if (seconds === undefined) return "–";
  if (!Number.isFinite(seconds)) return "> 60 s";
  if (seconds < 1e-3) return `${+(seconds * 1e6).toPrecision(3)} µs`;
  if (seconds < 1) return `${+(seconds * 1e3).toPrecision(3)} ms`;
  return `${+seconds.toPrecision(3)} s`;
}

// The API.

class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// A node that does not answer must not look as if it were live.
const TIMEOUT_MS = 10000;

async function request(method, path, { body, signal } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["content-type"] = "application/json";
  const sent = body && !isForm ? JSON.stringify(body) : body;
  const response = await fetch(path, { method, headers, body: sent, signal });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(response.status, problem.detail ?? `${path}: status ${response.status}`);
}

const read = (path) => request("GET", path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
const getJson = async (path) => (await read(path)).json();
const of = (plugin, what) => `/v1/plugins/${encodeURIComponent(plugin)}/${what}`;
const call = async (plugin, name, body) => (await request("POST", of(plugin, name), { body })).json();

// Does what somebody has asked for, and says how it went.
async function act(what, done) {
  notice("");
  try {
    notice(await done());
  } catch (error) {
    notice(`${what}: ${error.message}`, true);
  }
  await poll();
}

// Server-sent events. EventSource cannot send a token.
async function listen(path, signal, hear) {
  const response = await request("GET", path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      // The other comments only show that the stream is alive.
      if (lines[0] === ": watching") hear(null);
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field("data")) hear(field("event"), JSON.parse(field("data")));
    }
  }
}

function addLine(list, ms, text) {
  list.prepend(make("li", {}, make("time", {}, new Date(ms).toLocaleTimeString()), text));
  while (list.childElementCount > LINES) list.lastElementChild.remove();
}

// Metrics: https://prometheus.io/docs/instrumenting/exposition_formats/

function parseMetrics(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

const total = (samples, name) =>
  samples.filter((sample) => sample.name === name).reduce((sum, sample) => sum + sample.value, 0);

// The events of each generation, how many failed, and the p99 of how long they took.
function eventsOf(samples) {
  const generations = new Map();
  for (const { name, labels, value } of samples) {
    const what = /^jackfield_event_duration_seconds_(bucket|count)$/.exec(name)?.[1];
    if (!what) continue;
    const key = `${labels.plugin}/${labels.generation}`;
    if (!generations.has(key)) generations.set(key, { events: 0, failed: 0, buckets: new Map() });
    const generation = generations.get(key);
    if (what === "bucket") {
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      generation.buckets.set(bound, (generation.buckets.get(bound) ?? 0) + value);
    } else {
      generation.events += value;
      if (labels.outcome !== "ok" && labels.outcome !== "cancelled") generation.failed += value;
    }
  }
  for (const generation of generations.values()) {
    const bounds = [...generation.buckets.keys()].sort((one, other) => one - other);
    const enough = generation.events * 0.99;
    if (generation.events) generation.p99 = bounds.find((bound) => generation.buckets.get(bound) >= enough);
  }
  return generations;
}

// Charts.

const curves = { clients: [], messages: [], p99: [], traps: [], memory: [] };

function draw(name, value, shown) {
  const points = curves[name];
  points.push(value);
  if (points.length > POINTS) points.shift();
  setText(byId(`${name}-now`), shown);
  const most = Math.max(...points, 1);
  // A page that was just opened has few points.
  const step = 240 / (Math.max(points.length, POINTS / 4) - 1);
  const start = 240 - (points.length - 1) * step;
  const path = points.map((point, index) => `${(start + index * step).toFixed(1)},${(46 - (point / most) * 44).toFixed(1)}`);
  const svg = byId(`${name}-chart`);
  let curve = svg.firstElementChild;
  if (!curve) {
    curve = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    curve.setAttribute("class", "curve");
    svg.append(curve);
  }
  curve.setAttribute("points", path.join(" "));
}

let before = null;

// How often messages took how long, on this node, by the upper bound in seconds.
function messageTimes(samples) {
  const times = new Map();
  for (const { name, labels, value } of samples) {
    if (name !== "jackfield_event_duration_seconds_bucket" || labels.function !== "on-message") continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    times.set(bound, (times.get(bound) ?? 0) + value);
  }
  return times;
}

// The p99 of the messages between two looks, or nothing if there were none.
function p99Between(former, now) {
  const since = [...now].map(([bound, times]) => [bound, Math.max(0, times - (former.get(bound) ?? 0))]);
  since.sort(([one], [other]) => one - other);
  const all = since.at(-1)?.[1];
  return all ? since.find(([, times]) => times >= all * 0.99)?.[0] : undefined;
}

function drawMetrics(samples) {
  const now = {
    at: performance.now() / 1000,
    times: messageTimes(samples),
    messages: total(samples, "jackfield_messages_in_total"),
    traps: samples.filter(({ name }) => /^jackfield_traps_\w+_total$/.test(name)).reduce((sum, one) => sum + one.value, 0),
  };
  const clients = total(samples, "jackfield_clients") + total(samples, "jackfield_peer_clients");
  draw("clients", clients, count(clients));
  if (before) {
    const seconds = Math.max(now.at - before.at, 0.001);
    // A node that has begun anew counts anew.
    const rate = (name) => Math.max(0, now[name] - before[name]) / seconds;
    draw("messages", rate("messages"), count(Math.round(rate("messages"))));
    const p99 = p99Between(before.times, now.times);
    draw("p99", Number.isFinite(p99) ? p99 * 1e6 : 0, p99 === undefined ? "–" : `≤ ${duration(p99)}`);
    draw("traps", rate("traps") * 60, count(Math.round(rate("traps") * 60)));
  }
  before = now;
  const memory = total(samples, "process_resident_memory_bytes");
  draw("memory", memory, `${(memory / 2 ** 20).toFixed(0)} MiB`);
}

// The links of this node: itself in the middle, and the others around it. What waits makes a link wide.
function drawLinks(own, peers) {
  const svg = byId("links");
  svg.parentElement.hidden = peers.length === 0;
  const draw = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    return element;
  };
  const node = (one, x, y) => [
    draw("circle", { cx: x, cy: y, r: 7, class: `node ${STATES[one.state] ?? ""}` }),
    draw("text", { x, y: y + 20, "text-anchor": "middle" }, `${one.incarnation.slice(0, 6)}… ${count(one.clients)}`),
  ];
  const parts = peers.flatMap((peer, index) => {
    const angle = (2 * Math.PI * index) / peers.length;
    const [x, y] = [200 + 150 * Math.cos(angle), 100 + 70 * Math.sin(angle)];
    const width = 1.5 + Math.min(6, Math.log2(1 + peer.waiting_frames));
    const line = draw("line", { x1: 200, y1: 100, x2: x, y2: y, "stroke-width": width, class: `link ${peer.dropped > 0 ? "bad" : STATES[peer.state] ?? ""}` });
    line.append(draw("title", {}, `${peer.incarnation}: ${peer.state}, ${count(peer.waiting_frames)} frames wait, ${count(peer.dropped)} dropped`));
    return [line, ...node(peer, x, y)];
  });
  svg.replaceChildren(...parts, ...node(own, 200, 100));
}

// The cluster.

const STATES = { running: "good", alive: "good", ready: "good", probation: "warn", suspect: "warn", paused: "bad", stopped: "bad", draining: "warn" };

function showCluster(nodes, events) {
  cluster = nodes;
  const { node, peers, caller } = nodes;
  scopes = caller.scopes;
  setText(byId("node"), node.incarnation);
  const stage = byId("stage");
  setText(stage, node.stage);
  stage.className = `badge ${STATES[node.stage] ?? ""}`;
  setText(byId("caller"), caller.name ? `as ${caller.name}` : "");
  byId("deploy").hidden = !scopes.includes("operate");

  const sum = (key) => node.plugins.reduce((all, plugin) => all + plugin[key], 0);
  const own = { ...node, state: node.stage, clients: sum("clients"), uids: sum("uids"), groups: sum("groups"), isOwn: true };
  updateRows(byId("nodes").tBodies[0], [own, ...peers], (one) => one.incarnation, (one) => [
    { text: one.isOwn ? `${one.incarnation} (this)` : one.incarnation, className: "mono" },
    { text: one.mesh ?? "–", className: "mono" },
    { text: one.state, className: STATES[one.state] ?? "" },
    count(one.clients), count(one.uids), count(one.groups),
    one.isOwn ? "–" : count(one.waiting_frames),
    one.isOwn ? "–" : count(one.dropped),
  ]);

  // A canary has a row of its own, below that of the build of the other clients.
  const withCanary = (plugin, node) => [
    { ...plugin, node },
    ...(plugin.canary ? [{ name: plugin.name, node, isCanary: true, state: `canary ${plugin.canary.percent} %`, build: plugin.canary.build }] : []),
  ];
  drawLinks(own, peers);

  const rows = [own, ...peers].flatMap((one) => one.plugins.flatMap((plugin) => withCanary(plugin, one)));
  rows.sort((one, other) => one.name.localeCompare(other.name));
  updateRows(byId("plugins").tBodies[0], rows, (row) => `${row.name}@${row.node.incarnation}${row.isCanary ? "/canary" : ""}`, (row) => {
    const build = row.build;
    const seen = row.node.isOwn && build ? events.get(`${row.name}/${build.generation}`) : undefined;
    return [
      row.name,
      { text: row.node.incarnation, className: "mono" },
      { text: row.state, className: row.isCanary ? "warn" : STATES[row.state] ?? "" },
      build ? String(build.generation) : "–",
      { text: short(build?.digest) ?? "–", className: "mono" },
      build?.source ?? "–",
      build ? ago(build.loaded_at_ms) : "–",
      seen ? count(seen.events) : "–",
      { text: seen ? count(seen.failed) : "–", className: seen?.failed ? "bad" : "" },
      duration(seen?.p99),
      { text: row.failure ?? "–", className: row.failure ? "text bad" : "text" },
      row.isCanary
        ? { build: (element) => [make("button", { type: "button", textContent: "Canary", onclick: () => showCanary(element.item.name) })] }
        : row.node.isOwn && build
        ? { build: (element) => [make("button", { type: "button", textContent: "Builds", onclick: () => showBuilds(element.item.name) })] }
        : "",
    ];
  });

  const plugins = [...new Set(rows.map((row) => row.name))];
  const select = byId("filter-plugin");
  if (plugins.join() !== [...select.options].map((option) => option.value).join()) {
    const chosen = select.value;
    select.replaceChildren(...plugins.map((name) => make("option", { value: name, textContent: name })));
    if (plugins.includes(chosen)) select.value = chosen;
  }
}

// Clients.

let filter = null;

async function listClients() {
  const asked = filter;
  const plugin = filter?.plugin ?? byId("filter-plugin").value;
  if (!plugin) return updateRows(byId("clients").tBodies[0], [], String, () => []);
  const { kind = "all", value = "" } = filter ?? {};
  let ids = [], next;
  if (kind === "client") {
    ids = [value];
  } else {
    const [name, extra] = {
      all: ["get-all-client-ids", {}],
      address: ["get-all-client-ids", { address: value }],
      uid: ["get-client-ids-by-uid", { uid: value }],
      group: ["get-client-ids-by-group", { group: value }],
    }[kind];
    const isThere = kind !== "uid" || (await call(plugin, "is-uid-online", { uid: value })).online;
    if (isThere) ({ items: ids = [], next } = await call(plugin, name, { ...extra, limit: CLIENTS }));
  }
  const operations = ids.map((client) => ({ get_client: { plugin, client } }));
  const { outcomes = [] } = operations.length ? await (await request("POST", "/v1/batch", { body: { operations } })).json() : {};
  // Somebody has asked for others meanwhile.
  if (asked !== filter) return;
  const clients = outcomes.flatMap((outcome) => (outcome.client ? [{ ...outcome.client, plugin }] : []));
  updateRows(byId("clients").tBodies[0], clients, (client) => client.client, (client) => [
    { className: "mono", build: (row) => [make("button", { type: "button", className: "plain", textContent: row.item.client, onclick: () => showClient(row.item) })] },
    client.uid ?? "–",
    (client.groups ?? []).join(", ") || "–",
    { text: client.address, className: "mono" },
    ago(client.connected_at_ms), ago(client.heard_at_ms),
    count(client.received_messages), count(client.sent_frames), count(client.queued_frames),
  ]);
  const more = byId("clients-more");
  setText(more, next ? `Only the first ${CLIENTS} are shown: look for a uid, a group or an address.` : clients.length ? "" : "There are none.");
}

byId("filter-kind").onchange = ({ target }) => {
  byId("filter-value").disabled = target.value === "all";
  if (target.value === "all") byId("filter-value").value = "";
};
byId("filter").onsubmit = (event) => {
  event.preventDefault();
  filter = { plugin: byId("filter-plugin").value, kind: byId("filter-kind").value, value: byId("filter-value").value };
  act("The clients cannot be listed", async () => {
    await listClients();
    return "";
  });
};

// One client.

let tracing = null;

function showClient(client) {
  const dialog = byId("client");
  setText(byId("client-title"), client.client);
  byId("steps").replaceChildren();
  byId("kick").hidden = !scopes.includes("manage");
  byId("payloads-label").hidden = !scopes.includes("inspect");
  byId("payloads").checked = false;
  const facts = {
    plugin: client.plugin, node: client.node, address: client.address, uid: client.uid ?? "–",
    groups: (client.groups ?? []).join(", ") || "–",
    info: Object.entries(client.info ?? {}).map(([key, value]) => `${key}=${value}`).join(", ") || "–",
    connected: `${new Date(Number(client.connected_at_ms)).toLocaleString()} (${ago(client.connected_at_ms)} ago)`,
    received: `${count(client.received_messages)} messages, ${count(client.received_bytes)} bytes`,
    sent: `${count(client.sent_frames)} frames, ${count(client.sent_bytes)} bytes`,
    queued: `${count(client.queued_frames)} frames, ${count(client.queued_bytes)} bytes`,
  };
  const shown = Object.entries(facts).flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]);
  byId("client-facts").replaceChildren(...shown);
  setTracing(null);
  dialog.client = client;
  dialog.showModal();
}

function setTracing(controller) {
  tracing?.abort();
  tracing = controller;
  setText(byId("trace"), controller ? "Stop the trace" : "Trace");
}

function describeField({ is_text }, key, value) {
  if (key === "payload" && is_text) {
    const bytes = Uint8Array.from(atob(value), (char) => char.charCodeAt(0));
    return JSON.stringify(new TextDecoder().decode(bytes));
  }
  return typeof value === "object" ? JSON.stringify(value) : value;
}

function describeStep(step) {
  const { at_us, node, client, ...rest } = step;
  const [kind] = Object.keys(rest);
  const value = rest[kind];
  const detail = typeof value === "object"
    ? Object.entries(value).map(([key, one]) => `${key}=${describeField(value, key, one)}`).join(" ")
    : value;
  return `${kind} ${detail}`;
}

byId("trace").onclick = async () => {
  if (tracing) return setTracing(null);
  const { client, plugin } = byId("client").client;
  const controller = new AbortController();
  setTracing(controller);
  const payloads = byId("payloads").checked;
  const steps = byId("steps");
  try {
    await listen(of(plugin, `trace?client=${encodeURIComponent(client)}&payloads=${payloads}`), controller.signal, (_, step) => {
      if (step) addLine(steps, Number(step.at_us) / 1000, describeStep(step));
      else addLine(steps, Date.now(), "watching");
    });
    addLine(steps, Date.now(), "the trace has ended");
  } catch (error) {
    if (!controller.signal.aborted) addLine(steps, Date.now(), error.message);
  }
  if (tracing === controller) setTracing(null);
};
byId("kick").onclick = () => {
  const dialog = byId("client");
  const { client, plugin } = dialog.client;
  if (!confirm(`Close the client ${client}?`)) return;
  dialog.close();
  act("The client is not closed", async () => {
    await call(plugin, "close-client", { client, reason: "closed by an operator" });
    await listClients();
    return `The client ${client} is closed.`;
  });
};
byId("client").onclose = () => setTracing(null);

// Builds.

async function showBuilds(plugin) {
  const dialog = byId("builds");
  const mayChange = scopes.includes("operate");
  try {
    const [{ builds = [] }, { deployments }] = await Promise.all([
      getJson(of(plugin, "get-builds")),
      getJson("/v1/deployments"),
    ]);
    const deployment = deployments.find((one) => one.plugin === plugin);
    setText(byId("builds-title"), deployment ? `Builds of ${plugin}, deployed from ${deployment.origin || "somewhere"}` : `Builds of ${plugin}`);
    updateRows(dialog.querySelector("tbody"), builds, (build) => `${plugin}/${build.digest}/${build.generation ?? ""}`, (build) => [
      { text: short(build.digest), className: "mono" },
      new Date(Number(build.loaded_at_ms)).toLocaleString(),
      count(build.bytes),
      { text: build.taken_back ?? "–", className: "text" },
      build.generation ? { text: `runs as ${build.generation}`, className: "good" }
        : mayChange ? { build: (row) => [make("button", { type: "button", textContent: "Run this one", onclick: () => goTo(plugin, row.item.digest) })] }
        : "",
    ]);
    const undeploy = byId("undeploy");
    undeploy.hidden = !deployment || !mayChange;
    undeploy.onclick = () => {
      dialog.close();
      act("The deployment is not withdrawn", async () => {
        await request("DELETE", of(plugin, "deployment"));
        return `${plugin} is not deployed any more: each node runs what its folder has.`;
      });
    };
    byId("builds-everywhere").parentElement.hidden = !mayChange;
    byId("builds-everywhere").checked = false;
    dialog.showModal();
  } catch (error) {
    notice(`The builds of ${plugin} cannot be listed: ${error.message}`, true);
  }
}

function goTo(plugin, digest) {
  const isEverywhere = byId("builds-everywhere").checked;
  byId("builds").close();
  act("The build does not run", async () => {
    if (isEverywhere) return deployed(await request("PUT", of(plugin, `deployment?build=${digest}`)));
    const { generation } = await call(plugin, "rollback", { digest });
    return `${plugin} runs the build ${short(digest)} as generation ${generation}.`;
  });
}

// A canary.

async function showCanary(plugin, isAgain = false) {
  const dialog = byId("canary");
  let canary;
  try {
    canary = await call(plugin, "get-canary", {});
  } catch (error) {
    dialog.close();
    return notice(`The canary of ${plugin} cannot be shown: ${error.message}`, true);
  }
  // It was closed meanwhile.
  if (isAgain && !dialog.open) return;
  dialog.plugin = plugin;
  setText(byId("canary-title"), `Canary of ${plugin}: ${short(canary.digest)} for ${canary.percent ?? 0} % of the clients`);
  const uids = canary.uids ?? [];
  const after = canary.promote_after_ms ? `, for all after ${ago(Date.now() - canary.promote_after_ms)}` : "";
  setText(byId("canary-rest"), `${uids.length ? `and for ${uids.join(", ")}` : "and for no chosen uids"}${after}`);
  const rows = (canary.nodes ?? []).flatMap((node) => {
    const taken = Number(node.canary_clients ?? 0);
    return [
      { node, what: "stable", clients: Number(node.clients ?? 0) - taken, build: node.stable },
      { node, what: "canary", clients: taken, build: node.canary },
    ];
  });
  updateRows(dialog.querySelector("tbody"), rows, (row) => `${plugin}/${row.node.node}/${row.what}`, ({ node, what, clients, build }) => [
    { text: node.node, className: "mono" },
    { text: what, className: what === "canary" ? "warn" : "" },
    build ? String(build.generation) : "–",
    { text: short(build?.digest) ?? "–", className: "mono" },
    count(clients),
    build ? count(build.events) : "–",
    { text: build ? count(build.failures) : "–", className: Number(build?.failures) ? "bad" : "" },
    build?.p99_us ? duration(build.p99_us / 1e6) : "–",
    node.since_ms ? ago(node.since_ms) : "–",
  ]);
  byId("canary-change").hidden = !scopes.includes("operate");
  if (dialog.open) return;
  byId("canary-percent").value = canary.percent ?? 0;
  dialog.showModal();
}

function changeCanary(what, name, body, done) {
  const { plugin } = byId("canary");
  byId("canary").close();
  act(what, async () => {
    await call(plugin, name, body);
    return done(plugin);
  });
}

byId("canary-promote").onclick = () =>
  changeCanary("The canary is not promoted", "promote-canary", {}, (plugin) => `The canary of ${plugin} is for all clients now.`);
byId("canary-withdraw").onclick = () =>
  changeCanary("The canary is not withdrawn", "withdraw-canary", {}, (plugin) => `The canary of ${plugin} has ended.`);
byId("canary-change").onsubmit = (event) => {
  event.preventDefault();
  const percent = Number(byId("canary-percent").value);
  changeCanary("The share is not changed", "set-canary", { percent }, (plugin) => `The canary of ${plugin} is for ${percent} % of the clients.`);
};

async function deployed(response) {
  byId("deploy").reset();
  const { plugin, digest, nodes } = await response.json();
  const failed = nodes.filter((node) => node.failure);
  const where = `${plugin} ${short(digest)} runs on ${nodes.length - failed.length} of ${nodes.length} nodes.`;
  return [where, ...failed.map((node) => `${node.node}: ${node.failure}.`)].join(" ");
}

byId("deploy-component").onchange = ({ target }) => {
  const name = byId("deploy-name");
  // Neither the manifest nor the name of another one.
  byId("deploy-manifest").value = "";
  name.value = target.files[0]?.name.replace(/\.wasm$/, "") ?? "";
};
byId("deploy").onsubmit = (event) => {
  event.preventDefault();
  const [component] = byId("deploy-component").files;
  const [manifest] = byId("deploy-manifest").files;
  const form = new FormData();
  if (manifest) form.append("manifest", manifest);
  form.append("component", component);
  const button = event.submitter;
  button.disabled = true;
  const origin = encodeURIComponent(component.name);
  const share = byId("deploy-percent").value;
  const canary = share ? `&canary_percent=${share}` : "";
  act("Nothing is deployed", async () => deployed(await request("PUT", of(byId("deploy-name").value, `deployment?origin=${origin}${canary}`), { body: form })))
    .finally(() => { button.disabled = false; });
};

for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();

// Life.

function setLive(text, className) {
  const live = byId("live");
  setText(live, text);
  live.className = `badge ${className}`;
}

let polling = null;

// Asks for everything once. Several who ask at the same time share the answer.
function poll() {
  polling ??= readAll().finally(() => { polling = null; });
  return polling;
}

async function readAll() {
  try {
    const [nodes, metrics] = await Promise.all([
      getJson("/v1/nodes"),
      read("/metrics").then((response) => response.text()),
    ]);
    const samples = parseMetrics(metrics);
    showCluster(nodes, eventsOf(samples));
    drawMetrics(samples);
    if (byId("canary").open) showCanary(byId("canary").plugin, true);
    await listClients().catch((error) => {
      updateRows(byId("clients").tBodies[0], [], String, () => []);
      setText(byId("clients-more"), error.message);
    });
    byId("main").hidden = false;
    byId("login").hidden = true;
    byId("forget").hidden = !token;
    return true;
  } catch (error) {
    if (error.status === 401 || error.status === 403) askForToken(token ? error.message : "");
    else setLive("no answer", "bad");
    return false;
  }
}

function askForToken(why) {
  if (byId("login").hidden) {
    byId("login").hidden = false;
    byId("main").hidden = true;
    byId("token").focus();
  }
  setText(byId("login-error"), why);
  setLive("no token", "warn");
}

byId("login").onsubmit = (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  sessionStorage.setItem(TOKEN, token);
  begin();
};
byId("forget").onclick = () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
};

function describeEvent(kind, event) {
  const { plugin, at_us, node, ...rest } = event;
  const [value] = Object.values(rest);
  const detail = Object.entries(value ?? {}).map(([key, one]) => `${key}=${one}`).join(" ");
  return `${plugin} ${kind} ${detail}`;
}

let watching = false;

// What has changed is read when something happens, and not before the next poll.
async function watchEvents() {
  if (watching) return;
  watching = true;
  try {
    await listen("/v1/events", undefined, (kind, event) => {
      setLive("live", "good");
      if (!kind) return;
      addLine(byId("events"), Date.now(), describeEvent(kind, event));
      if (kind.startsWith("plugin-")) poll();
    });
  } catch {
    // The poll says what is wrong.
  }
  watching = false;
  setLive("connecting", "");
}

async function begin() {
  if (await poll()) watchEvents();
}

async function start() {
  const { needs_token } = await getJson("/page.json").catch(() => ({}));
  if (needs_token && !token) return askForToken("");
  await begin();
}

setInterval(() => {
  if (!document.hidden && byId("login").hidden) begin();
}, POLL_MS);
start();
