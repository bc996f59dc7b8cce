// common.js: what every leaf shares. It is put before a leaf's own text, and both are one ES module.
// Plain DOM, no build step. Text goes in as textContent, never as HTML; nothing listens on `window`. Shared styles are
// in common.css, which anywidget adds to the page once a kind of leaf.

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
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// A 16 by 16 line drawing from one path.
function icon(path) {
  return draw(
    "svg",
    {
      viewBox: "0 0 16 16",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.5,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
      focusable: "false",
    },
    draw("path", { d: path }),
  );
}

const ICONS = {
  undo: "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  redo: "m10 3 3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10",
  close: "m4 4 8 8M12 4l-8 8",
  save: "M8 2.5v7.5M5 7.5 8 10.5l3-3M3 13.5h10",
  open: "M8 10.5V3M5 5.5 8 2.5l3 3M3 13.5h10",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
  trash: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8ZM8 9.8a1.8 1.8 0 1 0 0-3.6 1.8 1.8 0 0 0 0 3.6Z",
};

// A button with an icon and a name that a screen reader says and a hover shows.
function iconButton(name, path, onclick, props = {}) {
  return make(
    "button",
    { type: "button", class: "ctrl-icon", "aria-label": name, title: name, onclick, ...props },
    icon(path),
  );
}

function textButton(text, onclick, props = {}) {
  return make("button", { type: "button", text, onclick, ...props });
}

// A button that copies the text that `read` returns, and says so.
function copyButton(text, read) {
  const button = textButton(text, async () => {
    button.textContent = (await copied(read(), button)) ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = text), 1500);
  });
  return button;
}

// Whether a text is on the clipboard, which a page without https lends to the old command only.
async function copied(text, beside) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text, class: "ctrl-unseen" });
    beside.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    beside.focus();
    return done;
  }
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
  const root = make(
    "div",
    { class: `ctrl ctrl-${name}`, role: "group", "aria-label": label, tabindex: -1 }, // a click between knobs lands here
    make("style", { text: css }),
    alert,
    words,
  );
  const end = () => {
    controller.abort();
    root.remove();
  };
  const watch = (events, handler) => {
    for (const event of events.split(" ")) model.on(event, handler);
    life.addEventListener("abort", () => {
      for (const event of events.split(" ")) model.off(event, handler);
    });
  };
  const notes = new Map();
  const note = (text, about = "link") => {
    notes.set(about, text);
    words.textContent = [...notes.values()].filter(Boolean).join(" ");
    words.hidden = !words.textContent;
  };
  const problem = (value) => {
    model.set("problem", value);
    model.save_changes();
  };
  signal?.addEventListener("abort", end, { signal: life });
  keepKeys(root, life);
  followTheme(root, life);
  followKernel(model, root, note, life);
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
  const copy = problem.details && copyButton("Copy details", () => problem.details);
  alert.append(
    make(
      "div",
      { class: "ctrl-problem" },
      make("div", {}, ...lines),
      copy || null,
      iconButton("Dismiss", ICONS.close, dismiss),
    ),
  );
}

// Keys typed here stay here. JupyterLab looks for the attribute on the focused element itself; marimo and VS Code
// listen further out, after the event has bubbled past this root.
function keepKeys(root, life) {
  root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"), {
    signal: life,
  });
  for (const type of ["keydown", "keypress", "keyup"])
    root.addEventListener(type, (event) => event.stopPropagation(), { signal: life });
}

// A click or key in the panel asks whether the kernel answers, at most once in four seconds; a note says if it does not.
function followKernel(model, root, note, life) {
  let asked = 0,
    patience = 0;
  const heard = () => {
    clearTimeout(patience);
    patience = 0;
    note("", "kernel");
  };
  const ask = () => {
    if (patience || Date.now() - asked < 4000) return;
    asked = Date.now();
    patience = setTimeout(
      () =>
        note(
          "The kernel does not answer: it is busy, or was restarted. What you do here waits; after a restart, run this cell again.",
          "kernel",
        ),
      1500,
    );
    model.send({ kind: "ping" });
  };
  for (const type of ["pointerdown", "keydown"]) root.addEventListener(type, ask, { signal: life, capture: true });
  model.on("msg:custom", heard);
  life.addEventListener("abort", () => {
    clearTimeout(patience);
    model.off("msg:custom", heard);
  });
}

function followTheme(root, life) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const jupyter = document.body.dataset.jpThemeLight;
    const marked = document.querySelector(
      "html.dark, body.dark, body.vscode-dark, html[data-theme=dark], body[data-theme=dark], html[theme=dark]",
    );
    const light = document.querySelector(
      "html.light, body.light, body.vscode-light, html[data-theme=light], body[data-theme=light]",
    );
    const dark = jupyter ? jupyter === "false" : marked ? true : light ? false : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
  };
  const observer = new MutationObserver(apply);
  for (const node of [document.documentElement, document.body])
    observer.observe(node, {
      attributes: true,
      attributeFilter: ["class", "data-jp-theme-light", "data-theme", "theme"],
    });
  system.addEventListener("change", apply, { signal: life });
  life.addEventListener("abort", () => observer.disconnect());
  apply();
}
