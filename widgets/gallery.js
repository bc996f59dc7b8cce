// Gallery: the pictures so far. Search, marks, what would change, comparison, files.

const GALLERY_CSS = `
.ctrl-gallery .tools { padding-bottom: 8px; }
.ctrl-gallery .tools input[type=search] { flex: 1 1 160px; min-width: 0; }
.ctrl-gallery .shelf { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: 8px; max-height: 420px; overflow-y: auto; padding: 3px; margin: 0 -3px; list-style: none; }
.ctrl-gallery[data-drop], .ctrl-gallery .shelf[data-drop] { outline: 3px dashed var(--c-accent); outline-offset: 2px; border-radius: 8px; }
.ctrl-gallery .item { position: relative; aspect-ratio: 1; border-radius: 8px; overflow: hidden; background: var(--c-raise); cursor: pointer; content-visibility: auto; contain-intrinsic-size: 120px; }
.ctrl-gallery .item img { width: 100%; height: 100%; object-fit: cover; display: block; }
.ctrl-gallery .item::after { content: ""; position: absolute; inset: 0; border-radius: 8px; box-shadow: inset 0 0 0 1px rgb(128 128 128 / .35); pointer-events: none; }
.ctrl-gallery .item[aria-selected="true"]::after { box-shadow: inset 0 0 0 3px var(--c-accent), inset 0 0 0 4px var(--c-bg); }
.ctrl-gallery .item .marks { position: absolute; top: 5px; right: 5px; display: flex; gap: 3px; }
.ctrl-gallery .item .mark { width: 22px; height: 22px; border-radius: 50%; background: rgb(12 14 18 / .78); color: #ffd36b; display: grid; place-items: center; }
.ctrl-gallery .mark svg { width: 13px; height: 13px; }
.ctrl-gallery .item .badge { position: absolute; left: 5px; bottom: 5px; padding: 0 7px; border-radius: 99px; font-size: 11px; background: rgb(12 14 18 / .78); color: #fff; }
.ctrl-gallery .filled { fill: currentColor; }
.ctrl-gallery .empty { display: grid; place-items: center; text-align: center; min-height: 130px; margin: 0; padding: 20px; border: 1px dashed var(--c-edge); border-radius: 8px; color: var(--c-dim); }
.ctrl-gallery .details { display: grid; gap: 6px 14px; grid-template-columns: minmax(0, 1fr); margin-top: 10px; padding: 10px 12px; border: 1px solid var(--c-line); border-radius: 8px; }
@container (min-width: 620px) { .ctrl-gallery .details { grid-template-columns: minmax(0, 5fr) minmax(0, 4fr); } .ctrl-gallery .details .ctrl-row { grid-column: 1 / -1; } }
.ctrl-gallery h3 { font: inherit; font-weight: 600; margin: 0 0 4px; overflow-wrap: anywhere; }
.ctrl-gallery .facts { display: flex; flex-wrap: wrap; gap: 4px; }
.ctrl-gallery .diff { margin: 0; padding: 0; list-style: none; min-height: 4.4em; color: var(--c-text); }
.ctrl-gallery .diff li { padding-left: 14px; position: relative; overflow-wrap: anywhere; }
.ctrl-gallery .diff li::before { content: "→"; position: absolute; left: 0; color: var(--c-accent); }
.ctrl-gallery .diff li.plain { padding-left: 0; color: var(--c-dim); } .ctrl-gallery .diff li.plain::before { content: none; }
.ctrl-gallery .versus { margin-top: 10px; max-width: 640px; }
.ctrl-gallery .stack { position: relative; border-radius: 8px; overflow: hidden; background: var(--c-raise); cursor: pointer; }
.ctrl-gallery .stack { touch-action: pan-y; user-select: none; }
.ctrl-gallery .stack .cut { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 0 1px rgb(0 0 0 / .3); cursor: ew-resize; }
.ctrl-gallery .stack img { pointer-events: none; display: block; width: 100%; height: 100%; object-fit: contain; }
.ctrl-gallery .stack img.over { position: absolute; inset: 0; }
.ctrl-gallery .stack .tag { position: absolute; top: 8px; padding: 1px 8px; border-radius: 99px; font-size: 12px; background: rgb(12 14 18 / .78); color: #fff; }
.ctrl-gallery .versus .ctrl-row { padding: 6px 0; } .ctrl-gallery .versus input[type=range] { flex: 1; }
`;
const STAR = "m8 1.8 1.9 3.9 4.3.6-3.1 3 .7 4.3L8 11.6l-3.8 2 .7-4.3-3.1-3 4.3-.6Z";
const PINNED = "M6 2.5h4M6.5 2.5v4L4.5 9h7l-2-2.5v-4M8 9v4.5";
const plain = (text) => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");

// Every word must be there; -word must not.
function matches(words, query) {
  const text = plain(words);
  return plain(query).split(/\s+/).filter(Boolean).every((word) => (word.length > 1 && word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word)));
}

function renderGallery(context) {
  const { model } = context;
  const panel = mount(context, "gallery", "Gallery", GALLERY_CSS);
  const { life, root } = panel;
  const state = { entries: new Map(), same: new Set(), query: "", starred: false, chosen: 0, hover: 0, diffs: new Map(), compared: [...model.get("compared")] };
  const shelf = make("ul", { class: "shelf", role: "listbox", "aria-label": "Pictures, newest first" });
  const empty = make("p", { class: "empty" });
  const link = wire(model, { entries, added, marked, removed, current, diff, full, download, said }, panel.note, life);
  const details = galleryDetails(state, link, compare);
  const versus = galleryVersus(state, link, life);
  const tools = galleryTools(state, link, { paint, take });
  root.append(tools.node, empty, shelf, details.node, versus.node);
  const nodes = new Map();

  const shown = () => [...state.entries.values()].filter((entry) => (!state.starred || entry.favourite) && matches(entry.words, state.query)).sort((a, b) => b.pinned - a.pinned || b.key - a.key);

  // ---- messages ----
  function entries(content) { for (const node of nodes.values()) drop(node); nodes.clear(); state.entries.clear(); current({ keys: content.same }); }
  function added(content, data) {
    content.entries.forEach((entry, i) => { state.entries.set(entry.key, entry); nodes.set(entry.key, item(entry, new Blob([data[i]], { type: "image/jpeg" }))); });
    if (content.same) current({ keys: content.same });
    paint();
  }
  function marked({ key, pinned, favourite }) { Object.assign(state.entries.get(key) ?? {}, { pinned, favourite }); paint(); }
  function removed({ keys, same }) {
    for (const key of keys) { drop(nodes.get(key)); nodes.delete(key); state.entries.delete(key); }
    if (!state.entries.has(state.chosen)) state.chosen = 0;
    if (!state.entries.has(state.hover)) state.hover = 0;
    compareThese(state.compared.filter((key) => state.entries.has(key)));
    tools.offerBack(keys.length);
    current({ keys: same });
  }
  function current({ keys }) { state.same = new Set(keys); state.diffs.clear(); paint(); }
  function diff(content) { state.diffs.set(`${content.from ?? ""}/${content.key}`, content.lines); paint(); }
  function full({ key }, [data]) { versus.full(key, data); }
  function download({ name }, [data]) { saveFile(name, new Blob([data], { type: "image/png" })); }
  function said({ text }) { tools.say(text); }

  // ---- pictures ----
  function item(entry, blob) {
    const url = URL.createObjectURL(blob);
    const node = make("li", { class: "item", role: "option", tabindex: -1, "data-key": entry.key }, make("img", { src: url, alt: "", draggable: "false", loading: "lazy" }), make("span", { class: "marks" }), make("span", { class: "badge" }));
    node.url = url;
    return node;
  }
  function drop(node) { if (node) { URL.revokeObjectURL(node.url); node.remove(); } }

  function paint() {
    if (life.aborted) return;
    const list = shown(), focus = list.some((entry) => entry.key === state.chosen) ? state.chosen : list[0]?.key;
    const order = list.map((entry) => nodes.get(entry.key));
    if (order.length !== shelf.children.length || order.some((node, i) => shelf.children[i] !== node)) {
      const held = shelf.contains(root.getRootNode().activeElement) ? root.getRootNode().activeElement : null;
      shelf.replaceChildren(...order);
      held?.focus({ preventScroll: true });
    }
    for (const entry of list) paintItem(nodes.get(entry.key), entry, entry.key === focus);
    shelf.hidden = !list.length;
    empty.hidden = Boolean(list.length);
    empty.textContent = state.entries.size ? "No picture fits the search." : "No pictures yet. Drop a PNG here to get its recipe back, or a session file to open it.";
    tools.draw(list.length);
    details.draw();
    versus.draw();
  }

  function paintItem(node, entry, focusable) {
    dress(node, { tabindex: focusable ? 0 : -1, "aria-selected": String(entry.key === state.chosen), title: entry.title,
      "aria-label": [entry.title, entry.facts[0], entry.favourite && "favourite", entry.pinned && "pinned", state.same.has(entry.key) && "current settings"].filter(Boolean).join(", ") }, []);
    const [, marks, badge] = node.children;
    const wanted = [entry.pinned && PINNED, entry.favourite && STAR].filter(Boolean);
    if (marks.dataset.is !== wanted.join()) { marks.replaceChildren(...wanted.map((path) => make("span", { class: "mark" }, icon(path)))); marks.dataset.is = wanted.join(); }
    const place = state.compared.indexOf(entry.key);
    badge.textContent = place >= 0 ? (place ? "B" : "A") : state.same.has(entry.key) ? "current" : "";
    badge.hidden = !badge.textContent;
  }

  // ---- choosing and comparing ----
  const keyOf = (event) => Number(event.target.closest?.(".item")?.dataset.key ?? 0);
  function choose(key, focus) { state.chosen = key; state.hover = 0; paint(); if (focus) nodes.get(key)?.focus(); }
  function compare(key) { compareThese(state.compared.includes(key) ? state.compared.filter((other) => other !== key) : [...state.compared.slice(-1), key]); }
  function compareThese(keys) {
    state.compared = keys;
    model.set("compared", keys);
    model.save_changes();
    paint();
  }
  panel.watch("change:compared", () => { state.compared = [...model.get("compared")]; paint(); });
  shelf.addEventListener("pointerover", (event) => { if (event.pointerType !== "touch") { state.hover = keyOf(event); paint(); } }, { signal: life });
  shelf.addEventListener("pointerleave", () => { state.hover = 0; paint(); }, { signal: life });
  shelf.addEventListener("click", (event) => { const key = keyOf(event); if (key) event.ctrlKey || event.metaKey ? compare(key) : choose(key, true); }, { signal: life });
  shelf.addEventListener("focusin", (event) => { const key = keyOf(event); if (key && key !== state.chosen) choose(key); }, { signal: life });
  shelf.addEventListener("keydown", (event) => {
    const list = shown().map((entry) => entry.key), at = list.indexOf(state.chosen), entry = state.entries.get(state.chosen);
    if (event.ctrlKey || event.metaKey || event.altKey || !entry) return;
    const columns = getComputedStyle(shelf).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: list.length - 1 - at }[event.key];
    const does = step !== undefined ? () => choose(list[clamp(at + step, 0, list.length - 1)], true) : {
      Enter: () => link.send("use", { key: entry.key }), f: () => link.send("mark", { key: entry.key, favourite: !entry.favourite }),
      p: () => link.send("mark", { key: entry.key, pinned: !entry.pinned }), c: () => compare(entry.key), Delete: () => link.send("remove", { key: entry.key }),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }, { signal: life });

  async function take(file) { link.send("file", { name: file.name }, [new Uint8Array(await file.arrayBuffer())]); }
  takeFiles(root, take, life);
  life.addEventListener("abort", () => { for (const node of nodes.values()) drop(node); versus.end(); });
  paint();
  return panel.end;
}

// ---- the parts ------------------------------------------------------------------------------------------------

function galleryTools(state, link, { paint, take }) {
  const search = make("input", { type: "search", placeholder: "Search words, seeds, -without", "aria-label": "Search the pictures by words", oninput: () => { state.query = search.value; paint(); } });
  const star = make("button", { type: "button", "aria-pressed": "false", onclick: () => { state.starred = !state.starred; paint(); } }, icon(STAR), make("span", { text: "Favourites" }));
  const clear = textButton("Clear", () => link.send("clear"), { title: "Removes all pictures but the favourites" });
  const files = make("input", { type: "file", accept: "image/png,.zip", hidden: true, "aria-label": "PNG or session file", onchange: () => { if (files.files[0]) take(files.files[0]); files.value = ""; } });
  const path = make("input", { type: "text", value: "session.ctrl.zip", "aria-label": "Session file", size: 16 });
  const save = make("span", { class: "ctrl-row", hidden: true }, path, textButton("Save", () => link.send("save", { path: path.value }), { class: "ctrl-main" }));
  const opener = iconButton("Open a PNG or a session", ICONS.open, () => files.click());
  const saver = iconButton("Save the session", ICONS.save, () => { save.hidden = !save.hidden; if (!save.hidden) path.select(); });
  const count = make("span", { class: "ctrl-dim", role: "status" });
  const told = make("p", { class: "ctrl-note", role: "status", hidden: true });
  return {
    node: make("div", { class: "tools" }, make("div", { class: "ctrl-row" }, search, star, count, make("span", { class: "ctrl-gap" }), clear, files, opener, saver, save), told),
    draw(found) {
      star.setAttribute("aria-pressed", String(state.starred));
      count.textContent = found === state.entries.size ? `${found}` : `${found} of ${state.entries.size}`;
      clear.disabled = ![...state.entries.values()].some((entry) => !entry.favourite);
    },
    say(text) { told.replaceChildren(text); told.hidden = !text; },
    offerBack(removed) {
      if (!removed) return;
      told.replaceChildren(`${removed === 1 ? "One picture" : `${removed} pictures`} removed. `, textButton("Bring back", () => { link.send("bring back"); told.hidden = true; }));
      told.hidden = false;
    },
  };
}

function diffLines(lines, same) {
  const line = (text, props) => make("li", { text, ...props });
  if (lines === undefined) return [line("…", { class: "plain" })];
  if (lines === null) return [line("One of them came without a recipe.", { class: "plain" })];
  return lines.length ? lines.map((text) => line(text)) : [line(same, { class: "plain" })];
}

function galleryDetails(state, link, compare) {
  const title = make("h3"), facts = make("div", { class: "facts" }), note = make("p", { class: "ctrl-dim", style: "margin: 4px 0 0" });
  const heading = make("h3"), diff = make("ul", { class: "diff" });
  const send = (kind, extra) => () => link.send(kind, { key: state.chosen, ...extra?.(state.entries.get(state.chosen)) });
  const use = textButton("Use these settings", send("use"), { class: "ctrl-main" });
  const favourite = make("button", { type: "button", onclick: send("mark", (entry) => ({ favourite: !entry.favourite })) }, icon(STAR), make("span", { text: "Favourite" }));
  const pin = make("button", { type: "button", onclick: send("mark", (entry) => ({ pinned: !entry.pinned })) }, icon(PINNED), make("span", { text: "Pin" }));
  const versus = textButton("Compare", () => compare(state.chosen));
  const row = make("div", { class: "ctrl-row" }, use, favourite, pin, versus, make("span", { class: "ctrl-gap" }), iconButton("Save the picture with its recipe", ICONS.save, send("download")), iconButton("Remove", ICONS.trash, send("remove")));
  const node = make("div", { class: "details" }, make("div", {}, title, facts, note), make("div", {}, heading, diff), row);
  let waiting = 0;
  return {
    node,
    draw() {
      const entry = state.entries.get(state.hover || state.chosen), chosen = state.entries.get(state.chosen);
      node.hidden = !entry;
      if (!entry) return;
      title.textContent = entry.title;
      facts.replaceChildren(...entry.facts.map((text) => make("span", { class: "ctrl-chip", text })));
      note.textContent = [entry.note, `${entry.width} × ${entry.height}`, entry.when.replace("T", " ").slice(0, 16)].filter(Boolean).join(" · ");
      heading.textContent = state.same.has(entry.key) ? "The current settings" : "What would change";
      const lines = state.diffs.get(`/${entry.key}`);
      if (lines === undefined && waiting !== entry.key) { waiting = entry.key; link.send("diff", { key: entry.key }); }
      if (lines !== undefined) waiting = 0;
      diff.replaceChildren(...diffLines(lines, "Nothing: these settings are the current ones."));
      row.inert = !chosen || entry !== chosen;
      row.style.opacity = row.inert ? 0.45 : 1;
      use.disabled = !chosen?.recipe;
      favourite.setAttribute("aria-pressed", String(Boolean(chosen?.favourite)));
      pin.setAttribute("aria-pressed", String(Boolean(chosen?.pinned)));
      versus.setAttribute("aria-pressed", String(state.compared.includes(state.chosen)));
      versus.title = state.compared.length === 1 && !state.compared.includes(state.chosen) ? "With the one marked A" : "Choose two pictures";
    },
  };
}

// Two pictures, A under B: by divider, dragged or typed, by tapping to flip, and what changes from one to the other.
function galleryVersus(state, link, life) {
  const under = make("img", { alt: "picture A" }), over = make("img", { class: "over", alt: "picture B" });
  const line = make("div", { class: "cut" });
  const tags = [make("span", { class: "tag", text: "A", style: "left: 8px" }), make("span", { class: "tag", text: "B", style: "right: 8px" })];
  const range = make("input", { type: "range", min: 0, max: 100, value: 50, step: "any", "aria-label": "Divider", oninput: () => split(range.valueAsNumber) });
  const number = numberField("", { min: 0, max: 100, value: 50, unit: "%", "aria-label": "Divider in percent", onvalue: (value) => split(value) });
  const flip = () => split(at > 50 ? 0 : 100);
  const stack = make("div", { class: "stack", title: "Drag the divider, tap to flip" }, under, over, line, ...tags);
  const hint = make("p", { class: "ctrl-note", text: "One picture is marked A. Choose another and press Compare." });
  const diff = make("ul", { class: "diff" }), body = make("div", {}, stack, make("div", { class: "ctrl-row" }, textButton("Flip", flip), range, number.node), diff);
  const node = make("div", { class: "versus" }, hint, body), urls = new Map();
  let at = 50, pair = "";

  function split(value) {
    at = value;
    range.value = value;
    number.input.value = Math.round(value);
    over.style.clipPath = `inset(0 0 0 ${value}%)`;
    line.style.left = `${value}%`;
    tags[0].style.visibility = value > 0 ? "visible" : "hidden";
    tags[1].style.visibility = value < 100 ? "visible" : "hidden";
  }

  drag(stack, {
    start: (event) => ({ x: event.clientX, box: stack.getBoundingClientRect(), moved: false }),
    move(hold, event) {
      hold.moved ||= Math.abs(event.clientX - hold.x) > 4;
      if (hold.moved) split(clamp(((event.clientX - hold.box.left) / hold.box.width) * 100, 0, 100));
    },
    end: (hold, event) => { if (!hold.moved && event.type === "pointerup") flip(); },
  }, life);

  function show() {
    const [a, b] = state.compared, size = state.entries.get(a);
    stack.style.aspectRatio = `${size.width} / ${size.height}`;
    node.style.maxWidth = `${Math.max(size.width, 400)}px`;
    for (const [image, key] of [[under, a], [over, b]]) if (urls.has(key)) image.src = urls.get(key); else { image.removeAttribute("src"); link.send("full", { key }); }
  }

  return {
    node,
    full(key, data) {
      URL.revokeObjectURL(urls.get(key));
      urls.set(key, URL.createObjectURL(new Blob([data], { type: "image/png" })));
      if (state.compared[0] === key) under.src = urls.get(key);
      if (state.compared[1] === key) over.src = urls.get(key);
    },
    draw() {
      const [a, b] = state.compared, two = state.entries.has(a) && state.entries.has(b);
      node.hidden = !state.entries.has(a);
      hint.hidden = two;
      body.hidden = !two;
      if (!two) { pair = ""; return; }
      if (pair !== `${a}/${b}`) { pair = `${a}/${b}`; this.end(); split(50); show(); }
      const lines = state.diffs.get(pair);
      if (lines === undefined && !state.diffs.has(`asked ${pair}`)) { state.diffs.set(`asked ${pair}`, null); link.send("diff", { from: a, key: b }); }
      diff.replaceChildren(...diffLines(lines, "Nothing: the same settings."));
    },
    end() { for (const url of urls.values()) URL.revokeObjectURL(url); urls.clear(); },
  };
}

export default { render: renderGallery };
