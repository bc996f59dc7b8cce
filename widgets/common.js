// common.js: what every leaf shares. It is put before a leaf's own text, and both are one ES module.
// Plain DOM, no build step. Text goes in as textContent, never as HTML; nothing listens on `window`.

const BASE_CSS = `
.ctrl { color-scheme: light; container-type: inline-size; box-sizing: border-box; max-width: 100%; min-width: 0;
  --c-bg: var(--jp-layout-color1, light-dark(#ffffff, #16171b)); --c-raise: var(--jp-layout-color2, light-dark(#f3f4f6, #23252b));
  --c-line: light-dark(#d5d8de, #3b3f49); --c-edge: light-dark(#868c98, #7c828f);
  --c-text: var(--jp-ui-font-color1, light-dark(#1c1f25, #e9ebef)); --c-dim: light-dark(#565c68, #adb3bf);
  --c-accent: light-dark(#2557d0, #8db2ff); --c-on-accent: light-dark(#ffffff, #0d1730); --c-tint: light-dark(#e6edff, #222f4d);
  --c-warn: light-dark(#7d4a00, #f5bd5a); --c-warn-tint: light-dark(#fff2d9, #3a2d12);
  --c-bad: light-dark(#a8201a, #ff9a90); --c-bad-tint: light-dark(#fdeceb, #3f1b1a); --c-good: light-dark(#16693a, #7bd8a0);
  font: 13px/1.45 var(--jp-ui-font-family, system-ui, -apple-system, "Segoe UI", sans-serif); color: var(--c-text); background: var(--c-bg); }
.ctrl[data-theme="dark"] { color-scheme: dark; }
.ctrl *, .ctrl *::before, .ctrl *::after { box-sizing: border-box; }
.ctrl [hidden] { display: none !important; }
.ctrl button, .ctrl select, .ctrl input:not([type=range]):not([type=checkbox]):not([type=color]) { font: inherit; color: var(--c-text); min-height: 28px; padding: 2px 9px;
  background: var(--c-bg); border: 1px solid var(--c-line); border-radius: 6px; margin: 0; }
.ctrl button { display: inline-flex; align-items: center; justify-content: center; gap: 5px; cursor: pointer; white-space: nowrap; }
.ctrl button:hover:not(:disabled) { background: var(--c-raise); border-color: var(--c-edge); }
.ctrl button:disabled { color: var(--c-dim); cursor: default; opacity: .55; }
.ctrl button[aria-pressed="true"], .ctrl button[aria-checked="true"], .ctrl button[aria-selected="true"] { background: var(--c-tint); border-color: var(--c-accent); color: var(--c-accent); }
.ctrl button.ctrl-main { background: var(--c-accent); border-color: var(--c-accent); color: var(--c-on-accent); font-weight: 600; }
.ctrl button.ctrl-main:hover:not(:disabled) { filter: brightness(1.08); background: var(--c-accent); }
.ctrl button.ctrl-icon { padding: 2px; min-width: 28px; }
.ctrl button svg { width: 16px; height: 16px; flex: none; }
.ctrl input[type=number] { width: 5.2em; color: var(--c-text); font-variant-numeric: tabular-nums; }
.ctrl input[type=range] { accent-color: var(--c-accent); margin: 0; min-width: 0; }
.ctrl input[type=checkbox] { accent-color: var(--c-accent); margin: 0; }
.ctrl label { white-space: nowrap; display: inline-flex; align-items: center; gap: 6px; color: var(--c-dim); }
.ctrl :focus-visible { outline: 2px solid var(--c-accent); outline-offset: 1px; }
.ctrl .ctrl-row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; }
.ctrl .ctrl-gap { flex: 1; }
.ctrl .ctrl-group { display: inline-flex; }
.ctrl .ctrl-group > button { border-radius: 0; margin-left: -1px; }
.ctrl .ctrl-group > button:first-child { border-radius: 6px 0 0 6px; margin-left: 0; }
.ctrl .ctrl-group > button:last-child { border-radius: 0 6px 6px 0; }
.ctrl .ctrl-group > button[aria-pressed="true"] { z-index: 1; }
.ctrl .ctrl-dim { color: var(--c-dim); }
.ctrl .ctrl-chip { display: inline-block; padding: 0 8px; border-radius: 99px; font-size: 12px; line-height: 20px; background: var(--c-raise); color: var(--c-dim); }
.ctrl .ctrl-problem { display: flex; flex-wrap: wrap; gap: 2px 8px; align-items: start; margin: 0 0 8px; padding: 8px 10px; border: 1px solid var(--c-bad);
  border-left-width: 4px; border-radius: 6px; background: var(--c-bad-tint); overflow-wrap: anywhere; }
.ctrl .ctrl-problem > div { flex: 1 1 200px; }
.ctrl .ctrl-problem p { margin: 0; }
.ctrl .ctrl-problem p:first-child { color: var(--c-bad); font-weight: 600; }
.ctrl .ctrl-note { margin: 0 0 8px; color: var(--c-dim); overflow-wrap: anywhere; }
.ctrl .ctrl-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (pointer: coarse) { .ctrl button { min-height: 38px; } .ctrl button.ctrl-icon { min-width: 38px; } }
@media (prefers-reduced-motion: reduce) { .ctrl * { transition: none !important; animation: none !important; } }
@media (forced-colors: active) { .ctrl button[aria-pressed="true"] { outline: 2px solid Highlight; } }
`;

// ---- elements -------------------------------------------------------------------------------------------------

// make("button", { class: "x", text: "Undo", onclick: fn, "aria-label": "Undo" }, ...children)
function make(tag, props = {}, ...children) {
  return dress(document.createElement(tag), props, children);
}

function draw(tag, props = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function dress(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (["value", "checked", "disabled", "hidden"].includes(name)) node[name] = value;
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// A 16 by 16 line drawing from one path.
function icon(path) {
  return draw("svg", { viewBox: "0 0 16 16", fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round",
    "stroke-linejoin": "round", "aria-hidden": "true", focusable: "false" }, draw("path", { d: path }));
}

const ICONS = {
  undo: "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6", redo: "m10 3 3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10", close: "m4 4 8 8M12 4l-8 8",
  save: "M8 2.5v7.5M5 7.5 8 10.5l3-3M3 13.5h10", open: "M8 10.5V3M5 5.5 8 2.5l3 3M3 13.5h10", plus: "M8 3v10M3 8h10", minus: "M3 8h10",
  fit: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3", trash: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9", eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8ZM8 9.8a1.8 1.8 0 1 0 0-3.6 1.8 1.8 0 0 0 0 3.6Z",
};

// A button with an icon and a name that a screen reader says and a hover shows.
function iconButton(name, path, onclick, props = {}) {
  return make("button", { type: "button", class: "ctrl-icon", "aria-label": name, title: name, onclick, ...props }, icon(path));
}

function textButton(text, onclick, props = {}) {
  return make("button", { type: "button", text, onclick, ...props });
}

// A labelled number that can be typed; `onvalue` gets a number inside the input's limits, when Enter or Tab confirms it.
// Without visible `label`, `props` has an aria-label.
function numberField(label, { min, max, step = "any", value = "", unit = null, onvalue, ...props }) {
  const input = make("input", { type: "number", min, max, step, value, ...props });
  input.addEventListener("change", () => {
    const number = clamp(input.valueAsNumber, Number(input.min), Number(input.max));
    if (Number.isNaN(number)) return;
    input.value = number;
    onvalue(number);
  });
  return { node: make("label", {}, label || null, input, unit), input };
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// ---- a panel --------------------------------------------------------------------------------------------------

// The root of a view. Gives { root, life, watch, note, problem, end }: `life` is an AbortSignal for listeners,
// `end` is what `render` returns. `watch` follows a model event until the view ends.
function mount({ model, el, signal }, name, label, css = "") {
  const controller = new AbortController();
  const life = controller.signal;
  const alert = make("div", { role: "alert" });
  const words = make("p", { class: "ctrl-note", role: "status", hidden: true });
  const root = make("div", { class: `ctrl ctrl-${name}`, role: "group", "aria-label": label }, make("style", { text: BASE_CSS + css }), alert, words);
  const end = () => { controller.abort(); root.remove(); };
  const watch = (events, handler) => {
    for (const event of events.split(" ")) model.on(event, handler);
    life.addEventListener("abort", () => { for (const event of events.split(" ")) model.off(event, handler); });
  };
  const note = (text) => { words.textContent = text; words.hidden = !text; };
  const problem = (value) => { model.set("problem", value); model.save_changes(); };
  signal?.addEventListener("abort", end, { signal: life });
  keepKeys(root, life);
  followTheme(root, life);
  const show = () => showProblem(alert, model.get("problem") ?? {}, () => problem({}));
  watch("change:problem", show);
  el.append(root);
  show();
  return { root, life, watch, note, problem, end };
}

function showProblem(alert, problem, dismiss) {
  alert.replaceChildren();
  if (!problem.what) return;
  const lines = [problem.what, problem.why, problem.next].filter(Boolean).map((text) => make("p", { text }));
  const copy = problem.details && textButton("Copy details", () => navigator.clipboard?.writeText(problem.details));
  alert.append(make("div", { class: "ctrl-problem" }, make("div", {}, ...lines), copy || null, iconButton("Dismiss", ICONS.close, dismiss)));
}

// Keys typed here stay here. JupyterLab looks for the attribute on the focused element itself; marimo and VS Code
// listen further out, after the event has bubbled past this root.
function keepKeys(root, life) {
  root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"), { signal: life });
  for (const type of ["keydown", "keypress", "keyup"]) root.addEventListener(type, (event) => event.stopPropagation(), { signal: life });
}

function followTheme(root, life) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const jupyter = document.body.dataset.jpThemeLight;
    const marked = document.querySelector("html.dark, body.dark, body.vscode-dark, html[data-theme=dark], body[data-theme=dark], html[theme=dark]");
    const light = document.querySelector("html.light, body.light, body.vscode-light, html[data-theme=light], body[data-theme=light]");
    const dark = jupyter ? jupyter === "false" : marked ? true : light ? false : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
  };
  const observer = new MutationObserver(apply);
  for (const node of [document.documentElement, document.body]) observer.observe(node, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-theme", "theme"] });
  system.addEventListener("change", apply, { signal: life });
  life.addEventListener("abort", () => observer.disconnect());
  apply();
}

// ---- pointers and history -------------------------------------------------------------------------------------

// Dragging by pointer capture on the element itself. `start(event)` returns what `move` and `end` are given, or
// null to leave the pointer alone.
function drag(node, { start, move, end = () => {} }, life) {
  const held = new Map();
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const grip = start(event);
    if (grip === null || grip === undefined) return;
    node.setPointerCapture(event.pointerId);
    held.set(event.pointerId, grip);
    event.preventDefault();
  }, { signal: life });
  node.addEventListener("pointermove", (event) => { if (held.has(event.pointerId)) move(held.get(event.pointerId), event); }, { signal: life });
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) node.addEventListener(type, (event) => {
    if (!held.has(event.pointerId)) return;
    const grip = held.get(event.pointerId);
    held.delete(event.pointerId);
    end(grip, event);
  }, { signal: life });
}

// Undo and redo of values that are never changed in place. `push` the new one; `undo` and `redo` return one or null.
function timeline(first, limit = 200) {
  let past = [], now = first, ahead = [];
  return {
    get now() { return now; },
    get canUndo() { return past.length > 0; },
    get canRedo() { return ahead.length > 0; },
    push(value) { past = [...past, now].slice(-limit); now = value; ahead = []; },
    undo() { if (!past.length) return null; ahead.push(now); now = past.pop(); return now; },
    redo() { if (!ahead.length) return null; past.push(now); now = ahead.pop(); return now; },
  };
}

// Once a frame at most, with the latest arguments.
function eachFrame(draw) {
  let latest = null;
  return (...args) => {
    if (latest === null) requestAnimationFrame(() => { const now = latest; latest = null; draw(...now); });
    latest = args;
  };
}

// ---- files ----------------------------------------------------------------------------------------------------

function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Files by drop and by paste on an element. `onfile` gets a File.
function takeFiles(node, onfile, life) {
  node.addEventListener("dragover", (event) => { event.preventDefault(); event.stopPropagation(); node.dataset.drop = ""; }, { signal: life });
  node.addEventListener("dragleave", () => delete node.dataset.drop, { signal: life });
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    delete node.dataset.drop;
    for (const file of event.dataTransfer.files) onfile(file);
  }, { signal: life });
  node.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    event.stopPropagation();
    files.forEach(onfile);
  }, { signal: life });
}

// A picture file as { blob, width, height, shrunk }: at most `pixels`, upright, WebP where it had to be made smaller.
async function readPicture(file, pixels = 1.5e6) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  const [width, height] = [Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale))];
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, scale < 1 ? "image/webp" : "image/png", 0.92));
  return { blob, width, height, shrunk: scale < 1 };
}

// ---- messages -------------------------------------------------------------------------------------------------

const PROBE = [0, 127, 128, 255];
const PART = 512 * 1024; // bytes a message; front ends drop what is above their limit, 1 to 10 MB

const bytes = (part) => part instanceof ArrayBuffer ? new Uint8Array(part) : new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function toBase64(data) {
  let text = "";
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return btoa(text);
}

// Messages with bytes, to and from Python. One probe each way shows whether bytes arrive; where they do not, they
// travel as base64 and `onnote` says so. `handlers` is { kind: (content, buffers) }, buffers being Uint8Arrays.
function wire(model, handlers, onnote, life) {
  let asText = false, connected = false, uploads = 0;
  const post = (content, data) => {
    if (data.length && asText) model.send({ ...content, base64: data.map(toBase64) });
    else model.send(content, undefined, data);
  };
  const send = (kind, content = {}, data = []) => {
    const whole = data.map(bytes);
    if (whole.length !== 1 || whole[0].length <= PART) return post({ kind, ...content }, whole);
    const parts = Math.ceil(whole[0].length / PART), upload = `${Date.now()}-${uploads++}`;
    for (let part = 0; part < parts; part++) {
      post({ kind: "part", upload, part, parts, message: { kind, ...content } }, [whole[0].slice(part * PART, (part + 1) * PART)]);
    }
  };
  const hello = (content, data) => {
    const arrived = data.length === 1 && PROBE.every((value, i) => data[0][i] === value);
    asText = !content.heard;
    if (!arrived) model.send({ kind: "as-text" });
    if (!arrived || asText) onnote("This front end drops binary data, so pictures travel as text: a third slower, otherwise the same.");
  };
  const listen = (content, buffers) => {
    if (!connected) { connected = true; onnote(""); }
    const data = content?.base64 ? content.base64.map(fromBase64) : (buffers ?? []).map(bytes);
    if (content?.kind === "hello") hello(content, data);
    else if ((content?.count ?? 0) === data.length) handlers[content?.kind]?.(content, data);
  };
  model.on("msg:custom", listen);
  const late = setTimeout(() => {
    if (!connected) onnote("Waiting for the kernel. It is busy, or was restarted: then run this cell again.");
  }, 3000);
  life.addEventListener("abort", () => { clearTimeout(late); model.off("msg:custom", listen); });
  model.send({ kind: "ready" }, undefined, [new Uint8Array(PROBE)]);
  return { send };
}
