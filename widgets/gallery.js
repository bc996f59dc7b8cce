// Gallery: the pictures so far. Search, marks, what would change, comparison, files.

const plain = (text) => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");

// Every word must be there; -word must not.
function matches(words, query) {
  const text = plain(words);
  return plain(query)
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => (word.length > 1 && word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word)));
}

function renderGallery(context) {
  const { model } = context;
  const panel = mount(context, "gallery", "Gallery");
  const { life, root } = panel;
  const state = {
    entries: new Map(),
    same: new Set(),
    query: "",
    starred: false,
    chosen: 0,
    hover: 0,
    diffs: new Map(),
    compared: [...model.get("compared")],
  };
  const shelf = make("ul", { class: "shelf", role: "listbox", "aria-label": "Pictures, newest first" });
  const empty = make("p", { class: "empty" });
  const link = wire(model, { entries, added, marked, removed, current, diff, full, download, said }, panel.note, life);
  const details = galleryDetails(state, link, compare);
  const versus = galleryVersus(state, link, life);
  const tools = galleryTools(state, link, { paint, take });
  root.append(tools.node, empty, shelf, details.node, versus.node);
  const nodes = new Map();

  const shown = () =>
    [...state.entries.values()]
      .filter((entry) => (!state.starred || entry.favourite) && matches(entry.words, state.query))
      .sort((a, b) => b.pinned - a.pinned || b.key - a.key);

  // ---- messages ----
  function entries(content) {
    for (const node of nodes.values()) drop(node);
    nodes.clear();
    state.entries.clear();
    current({ keys: content.same });
  }
  function added(content, data) {
    content.entries.forEach((entry, i) => {
      state.entries.set(entry.key, entry);
      nodes.set(entry.key, item(entry, new Blob([data[i]], { type: "image/jpeg" })));
    });
    if (content.same) current({ keys: content.same });
    paint();
  }
  function marked({ key, pinned, favourite }) {
    Object.assign(state.entries.get(key) ?? {}, { pinned, favourite });
    paint();
  }
  function removed({ keys, same }) {
    for (const key of keys) {
      drop(nodes.get(key));
      nodes.delete(key);
      state.entries.delete(key);
    }
    if (!state.entries.has(state.chosen)) state.chosen = 0;
    if (!state.entries.has(state.hover)) state.hover = 0;
    compareThese(state.compared.filter((key) => state.entries.has(key)));
    tools.offerBack(keys.length);
    current({ keys: same });
  }
  function current({ keys }) {
    state.same = new Set(keys);
    state.diffs.clear();
    paint();
  }
  function diff(content) {
    state.diffs.set(`${content.from ?? ""}/${content.key}`, content.lines);
    paint();
  }
  function full({ key }, [data]) {
    versus.full(key, data);
  }
  function download({ name }, [data]) {
    saveFile(name, new Blob([data], { type: "image/png" }));
  }
  function said({ text }) {
    tools.say(text);
  }

  // ---- pictures ----
  function item(entry, blob) {
    const url = URL.createObjectURL(blob);
    const node = make(
      "li",
      { class: "item", role: "option", tabindex: -1, "data-key": entry.key },
      make("img", { src: url, alt: "", draggable: "false", loading: "lazy" }),
      make("span", { class: "marks" }),
      make("span", { class: "badge" }),
    );
    node.url = url;
    return node;
  }
  function drop(node) {
    if (node) {
      URL.revokeObjectURL(node.url);
      node.remove();
    }
  }

  function paint() {
    if (life.aborted) return;
    const list = shown(),
      focus = list.some((entry) => entry.key === state.chosen) ? state.chosen : list[0]?.key;
    const order = list.map((entry) => nodes.get(entry.key));
    if (order.length !== shelf.children.length || order.some((node, i) => shelf.children[i] !== node)) {
      const held = shelf.contains(root.getRootNode().activeElement) ? root.getRootNode().activeElement : null;
      shelf.replaceChildren(...order);
      held?.focus({ preventScroll: true });
    }
    for (const entry of list) paintItem(nodes.get(entry.key), entry, entry.key === focus);
    shelf.hidden = !list.length;
    empty.hidden = Boolean(list.length);
    empty.textContent = state.entries.size
      ? "No picture fits the search."
      : "No pictures yet. Drop a PNG here to get its recipe back, or a session file to open it.";
    tools.draw(list.length);
    details.draw();
    versus.draw();
  }

  function paintItem(node, entry, focusable) {
    dress(
      node,
      {
        tabindex: focusable ? 0 : -1,
        "aria-selected": String(entry.key === state.chosen),
        title: entry.title,
        "aria-label": [
          entry.title,
          entry.facts[0],
          entry.favourite && "favourite",
          entry.pinned && "pinned",
          state.same.has(entry.key) && "current settings",
        ]
          .filter(Boolean)
          .join(", "),
      },
      [],
    );
    const [, marks, badge] = node.children;
    const wanted = [entry.pinned && PINNED, entry.favourite && STAR].filter(Boolean);
    if (marks.dataset.is !== wanted.join()) {
      marks.replaceChildren(...wanted.map((path) => make("span", { class: "mark" }, icon(path))));
      marks.dataset.is = wanted.join();
    }
    const place = state.compared.indexOf(entry.key);
    badge.textContent = place >= 0 ? (place ? "B" : "A") : state.same.has(entry.key) ? "current" : "";
    badge.hidden = !badge.textContent;
  }

  // ---- choosing and comparing ----
  const keyOf = (event) => Number(event.target.closest?.(".item")?.dataset.key ?? 0);
  function choose(key, focus) {
    state.chosen = key;
    state.hover = 0;
    paint();
    if (focus) nodes.get(key)?.focus();
  }
  function compare(key) {
    compareThese(
      state.compared.includes(key)
        ? state.compared.filter((other) => other !== key)
        : [...state.compared.slice(-1), key],
    );
  }
  function compareThese(keys) {
    state.compared = keys;
    model.set("compared", keys);
    model.save_changes();
    paint();
  }
  panel.watch("change:compared", () => {
    state.compared = [...model.get("compared")];
    paint();
  });
  shelf.addEventListener(
    "pointerover",
    (event) => {
      if (event.pointerType !== "touch") {
        state.hover = keyOf(event);
        paint();
      }
    },
    { signal: life },
  );
  shelf.addEventListener(
    "pointerleave",
    () => {
      state.hover = 0;
      paint();
    },
    { signal: life },
  );
  shelf.addEventListener(
    "click",
    (event) => {
      const key = keyOf(event);
      if (key) event.ctrlKey || event.metaKey ? compare(key) : choose(key, true);
    },
    { signal: life },
  );
  shelf.addEventListener(
    "focusin",
    (event) => {
      const key = keyOf(event);
      if (key && key !== state.chosen) choose(key);
    },
    { signal: life },
  );
  shelf.addEventListener(
    "keydown",
    (event) => {
      const list = shown().map((entry) => entry.key),
        at = list.indexOf(state.chosen),
        entry = state.entries.get(state.chosen);
      if (event.ctrlKey || event.metaKey || event.altKey || !entry) return;
      const columns = getComputedStyle(shelf).gridTemplateColumns.split(" ").length;
      const step = {
        ArrowLeft: -1,
        ArrowRight: 1,
        ArrowUp: -columns,
        ArrowDown: columns,
        Home: -at,
        End: list.length - 1 - at,
      }[event.key];
      const does =
        step !== undefined
          ? () => choose(list[clamp(at + step, 0, list.length - 1)], true)
          : {
              Enter: () => link.send("use", { key: entry.key }),
              f: () => link.send("mark", { key: entry.key, favourite: !entry.favourite }),
              p: () => link.send("mark", { key: entry.key, pinned: !entry.pinned }),
              c: () => compare(entry.key),
              Delete: () => link.send("remove", { key: entry.key }),
            }[event.key];
      if (!does) return;
      event.preventDefault();
      does();
    },
    { signal: life },
  );

  async function take(file) {
    link.send("file", { name: file.name }, [new Uint8Array(await file.arrayBuffer())]);
  }
  takeFiles(root, take, life);
  life.addEventListener("abort", () => {
    for (const node of nodes.values()) drop(node);
    versus.end();
  });
  paint();
  return panel.end;
}

export default { render: renderGallery };
