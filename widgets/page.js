// A page of finished pictures without a kernel: the leaves' own modules, over models that answer from the page itself.

const DATA = JSON.parse(document.getElementById("data").textContent);
const unbase = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const FILES = DATA.shots.map((shot) => unbase(shot.file)); // PNGs with their recipes
const PROBE = [new Uint8Array([0, 127, 128, 255])];

// What anywidget hands to a leaf. Each message is answered by `answer`, a function to the list of [content, buffers].
class Model {
  constructor(state, answer) {
    Object.assign(this, { state: { ...state }, answer, handlers: new Map() });
  }
  get(name) {
    return this.state[name];
  }
  set(name, value) {
    if (JSON.stringify(this.state[name]) === JSON.stringify(value)) return;
    this.state[name] = value;
    this.emit(`change:${name}`, value);
  }
  save_changes() {}
  on(event, handler) {
    this.handlers.set(event, [...(this.handlers.get(event) ?? []), handler]);
  }
  off(event, handler) {
    this.handlers.set(event, (this.handlers.get(event) ?? []).filter((other) => other !== handler));
  }
  emit(event, ...values) {
    for (const handler of this.handlers.get(event) ?? []) handler(...values);
  }
  tell(content, buffers = []) {
    this.emit("msg:custom", { ...content, count: buffers.length }, buffers);
  }
  async send(content) {
    await null; // as from a kernel: never before `send` has returned
    if (content.kind === "ready") this.tell({ kind: "hello", heard: true }, PROBE);
    const answers = content.kind === "ping" ? [[{ kind: "pong" }]] : this.answer(content);
    for (const [reply, buffers] of answers ?? []) this.tell(reply, buffers);
  }
}

async function show(kind, answer) {
  const { esm, state } = DATA.leaves[kind];
  // A data URL, since a page in a sandboxed frame may not import from a blob.
  const module = await import(`data:text/javascript;charset=utf-8,${encodeURIComponent(esm)}`);
  const leaf = typeof module.default === "function" ? await module.default() : module.default;
  const model = new Model(state, answer);
  const signal = new AbortController().signal;
  await leaf.initialize?.({ model, signal });
  await leaf.render({ model, el: document.getElementById(kind), signal });
  return model;
}

// ---- the picture, its recipe and its maps ----
const models = {};
let current = 0,
  frames = 0;

function frame() {
  const content = { ...DATA.shots[current].frame, number: ++frames };
  models.frame?.tell(content, [FILES[current]]);
}

function heat() {
  const maps = DATA.shots[current].heat;
  document.getElementById("maps").hidden = !maps;
  if (!maps || !models.heat) return;
  for (const [name, value] of Object.entries(maps.state)) models.heat.set(name, value);
  const [content, buffers] = maps.message;
  models.heat.tell(content, buffers.map(unbase));
}

function choose(index) {
  current = index;
  const shot = DATA.shots[index];
  document.title = document.querySelector("h1").textContent = shot.title;
  document.getElementById("code").textContent = shot.code;
  document.getElementById("frame").style.flexBasis = `${Math.min(Math.max(shot.frame.width, 340), 560)}px`;
  document.querySelectorAll("[data-shot]").forEach((node) => (node.hidden = Number(node.dataset.shot) !== index));
  frame();
  heat();
}

// ---- the history: key 1 is the oldest picture, the last of DATA.shots ----
const gone = [];
const entries = new Map((DATA.history?.entries ?? []).map((entry) => [entry.key, entry]));
const at = (key) => DATA.shots.length - key;
const same = () => DATA.history.same[current];
const added = (keys) => [
  { kind: "added", entries: keys.map((key) => entries.get(key)), same: same() },
  keys.map((key) => unbase(DATA.history.thumbs[at(key)])),
];

function remove(keys) {
  gone.splice(0, gone.length, ...keys);
  return [[{ kind: "removed", keys, same: same() }]];
}

function mark({ key, pinned, favourite }) {
  const entry = entries.get(key);
  Object.assign(entry, { pinned: pinned ?? entry.pinned, favourite: favourite ?? entry.favourite });
  return [[{ kind: "marked", key, pinned: entry.pinned, favourite: entry.favourite }]];
}

const GALLERY = {
  ready: () => [[{ kind: "entries", same: same() }], added([...entries.keys()])],
  diff: (content) => {
    const from = content.from ? at(content.from) : current;
    return [[{ ...content, lines: DATA.history.diffs[from][at(content.key)] }]];
  },
  full: ({ key }) => [[{ kind: "full", key }, [FILES[at(key)]]]],
  download: ({ key }) => [[{ kind: "download", name: `picture-${key}.png` }, [FILES[at(key)]]]],
  mark,
  remove: ({ key }) => remove([key]),
  clear: () => remove([...entries.values()].filter((entry) => !entry.favourite).map((entry) => entry.key)),
  "bring back": () => [added(gone.splice(0))],
  use: ({ key }) => {
    choose(at(key));
    return [[{ kind: "current", keys: same() }]];
  },
  part: () => GALLERY.file(),
  file: () => [[{ kind: "said", text: "A saved page opens no files; in Python, ctrl.Recipe.load reads a PNG." }]],
};

function problem(error) {
  const alert = document.querySelector("[role=alert]");
  alert.textContent = `This page could not be shown: ${error.message} Open it in a browser of 2024 or later.`;
  alert.hidden = false;
}

async function start() {
  const silent = () => [];
  models.frame = await show("frame", silent);
  if (DATA.leaves.heat) models.heat = await show("heat", silent);
  if (DATA.history) await show("gallery", (content) => GALLERY[content.kind]?.(content));
  document.getElementById("copy").addEventListener("click", copy);
  choose(0);
}

async function copy(event) {
  const node = document.getElementById("code");
  try {
    await navigator.clipboard.writeText(node.textContent);
    event.target.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(node); // not allowed in this frame: Ctrl+C copies the selection
    event.target.textContent = "Selected: press Ctrl+C";
  }
}

start().catch(problem);
