// Gallery: the row of tools, the details of a picture, the comparison of two.

const STAR = "m8 1.8 1.9 3.9 4.3.6-3.1 3 .7 4.3L8 11.6l-3.8 2 .7-4.3-3.1-3 4.3-.6Z";
const PINNED = "M6 2.5h4M6.5 2.5v4L4.5 9h7l-2-2.5v-4M8 9v4.5";

function galleryTools(state, link, { paint, take }) {
  const search = make("input", {
    type: "search",
    placeholder: "Search words, seeds, -without",
    "aria-label": "Search the pictures by words",
    oninput: () => {
      state.query = search.value;
      paint();
    },
  });
  const star = make(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => {
        state.starred = !state.starred;
        paint();
      },
    },
    icon(STAR),
    make("span", { text: "Favourites" }),
  );
  const clear = textButton("Clear", () => link.send("clear"), { title: "Removes all pictures but the favourites" });
  const files = make("input", {
    type: "file",
    accept: "image/png,.zip",
    hidden: true,
    "aria-label": "PNG or session file",
    onchange: () => {
      if (files.files[0]) take(files.files[0]);
      files.value = "";
    },
  });
  const path = make("input", { type: "text", value: "session.ctrl.zip", "aria-label": "Session file", size: 16 });
  const save = make(
    "span",
    { class: "ctrl-row", hidden: true },
    path,
    textButton("Save", () => link.send("save", { path: path.value }), { class: "ctrl-main" }),
  );
  const opener = iconButton("Open a PNG or a session", ICONS.open, () => files.click());
  const saver = iconButton("Save the session", ICONS.save, () => {
    save.hidden = !save.hidden;
    if (!save.hidden) path.select();
  });
  const count = make("span", { class: "ctrl-dim", role: "status" });
  const notice = make("p", { class: "ctrl-note", role: "status", hidden: true });
  return {
    node: make(
      "div",
      { class: "tools" },
      make(
        "div",
        { class: "ctrl-row" },
        search,
        star,
        count,
        make("span", { class: "ctrl-gap" }),
        clear,
        files,
        opener,
        saver,
        save,
      ),
      notice,
    ),
    draw(found) {
      star.setAttribute("aria-pressed", String(state.starred));
      count.textContent = found === state.entries.size ? `${found}` : `${found} of ${state.entries.size}`;
      clear.disabled = ![...state.entries.values()].some((entry) => !entry.favourite);
    },
    say(text) {
      notice.replaceChildren(text);
      notice.hidden = !text;
    },
    offerBack(removed) {
      if (!removed) return;
      notice.replaceChildren(
        `${removed === 1 ? "One picture" : `${removed} pictures`} removed. `,
        textButton("Bring back", () => {
          link.send("bring back");
          notice.hidden = true;
        }),
      );
      notice.hidden = false;
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
  const title = make("h3"),
    facts = make("div", { class: "facts" }),
    note = make("p", { class: "ctrl-dim", style: "margin: 4px 0 0" });
  const heading = make("h3"),
    diff = make("ul", { class: "diff" });
  const send = (kind, extra) => () =>
    link.send(kind, { key: state.chosen, ...extra?.(state.entries.get(state.chosen)) });
  const use = textButton("Use these settings", send("use"), { class: "ctrl-main" });
  const favourite = make(
    "button",
    { type: "button", onclick: send("mark", (entry) => ({ favourite: !entry.favourite })) },
    icon(STAR),
    make("span", { text: "Favourite" }),
  );
  const pin = make(
    "button",
    { type: "button", onclick: send("mark", (entry) => ({ pinned: !entry.pinned })) },
    icon(PINNED),
    make("span", { text: "Pin" }),
  );
  const versus = textButton("Compare", () => compare(state.chosen));
  const row = make(
    "div",
    { class: "ctrl-row" },
    use,
    favourite,
    pin,
    versus,
    make("span", { class: "ctrl-gap" }),
    iconButton("Save the picture with its recipe", ICONS.save, send("download")),
    iconButton("Remove", ICONS.trash, send("remove")),
  );
  const node = make(
    "div",
    { class: "details" },
    make("div", {}, title, facts, note),
    make("div", {}, heading, diff),
    row,
  );
  let waiting = 0;
  return {
    node,
    draw() {
      const entry = state.entries.get(state.hover || state.chosen),
        chosen = state.entries.get(state.chosen);
      node.hidden = !entry;
      if (!entry) return;
      title.textContent = entry.title;
      facts.replaceChildren(...entry.facts.map((text) => make("span", { class: "ctrl-chip", text })));
      note.textContent = [entry.note, `${entry.width} × ${entry.height}`, entry.when.replace("T", " ").slice(0, 16)]
        .filter(Boolean)
        .join(" · ");
      heading.textContent = state.same.has(entry.key) ? "The current settings" : "What would change";
      const lines = state.diffs.get(`/${entry.key}`);
      if (lines === undefined && waiting !== entry.key) {
        waiting = entry.key;
        link.send("diff", { key: entry.key });
      }
      if (lines !== undefined) waiting = 0;
      diff.replaceChildren(...diffLines(lines, "Nothing: these settings are the current ones."));
      row.inert = !chosen || entry !== chosen;
      row.style.opacity = row.inert ? 0.45 : 1;
      use.disabled = !chosen?.recipe;
      favourite.setAttribute("aria-pressed", String(Boolean(chosen?.favourite)));
      pin.setAttribute("aria-pressed", String(Boolean(chosen?.pinned)));
      versus.setAttribute("aria-pressed", String(state.compared.includes(state.chosen)));
      versus.title =
        state.compared.length === 1 && !state.compared.includes(state.chosen)
          ? "With the one marked A"
          : "Choose two pictures";
    },
  };
}

// Two pictures, A under B: by divider, dragged or typed, by tapping to flip, and what changes from one to the other.
function galleryVersus(state, link, life) {
  const under = make("img", { alt: "picture A" }),
    over = make("img", { class: "over", alt: "picture B" });
  const line = make("div", { class: "cut" });
  const tags = [
    make("span", { class: "tag", text: "A", style: "left: 8px" }),
    make("span", { class: "tag", text: "B", style: "right: 8px" }),
  ];
  const range = make("input", {
    type: "range",
    min: 0,
    max: 100,
    value: 50,
    step: "any",
    "aria-label": "Divider",
    oninput: () => split(range.valueAsNumber),
  });
  const number = numberField("", {
    min: 0,
    max: 100,
    value: 50,
    unit: "%",
    "aria-label": "Divider in percent",
    onvalue: (value) => split(value),
  });
  const flip = () => split(at > 50 ? 0 : 100);
  const stack = make("div", { class: "stack", title: "Drag the divider, tap to flip" }, under, over, line, ...tags);
  const hint = make("p", { class: "ctrl-note", text: "One picture is marked A. Choose another and press Compare." });
  const diff = make("ul", { class: "diff" }),
    body = make(
      "div",
      {},
      stack,
      make("div", { class: "ctrl-row" }, textButton("Flip", flip), range, number.node),
      diff,
    );
  const node = make("div", { class: "versus" }, hint, body),
    urls = new Map();
  let at = 50,
    pair = "";

  function split(value) {
    at = value;
    range.value = value;
    number.input.value = Math.round(value);
    over.style.clipPath = `inset(0 0 0 ${value}%)`;
    line.style.left = `${value}%`;
    tags[0].style.visibility = value > 0 ? "visible" : "hidden";
    tags[1].style.visibility = value < 100 ? "visible" : "hidden";
  }

  drag(
    stack,
    {
      start: (event) => ({ x: event.clientX, box: stack.getBoundingClientRect(), moved: false }),
      move(hold, event) {
        hold.moved ||= Math.abs(event.clientX - hold.x) > 4;
        if (hold.moved) split(clamp(((event.clientX - hold.box.left) / hold.box.width) * 100, 0, 100));
      },
      end: (hold, event) => {
        if (!hold.moved && event.type === "pointerup") flip();
      },
    },
    life,
  );

  function show() {
    const [a, b] = state.compared,
      size = state.entries.get(a);
    stack.style.aspectRatio = `${size.width} / ${size.height}`;
    node.style.maxWidth = `${Math.max(size.width, 400)}px`;
    for (const [image, key] of [
      [under, a],
      [over, b],
    ])
      if (urls.has(key)) image.src = urls.get(key);
      else {
        image.removeAttribute("src");
        link.send("full", { key });
      }
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
      const [a, b] = state.compared,
        two = state.entries.has(a) && state.entries.has(b);
      node.hidden = !state.entries.has(a);
      hint.hidden = two;
      body.hidden = !two;
      if (!two) {
        pair = "";
        return;
      }
      if (pair !== `${a}/${b}`) {
        pair = `${a}/${b}`;
        this.end();
        split(50);
        show();
      }
      const lines = state.diffs.get(pair);
      if (lines === undefined && !state.diffs.has(`asked ${pair}`)) {
        state.diffs.set(`asked ${pair}`, null);
        link.send("diff", { from: a, key: b });
      }
      diff.replaceChildren(...diffLines(lines, "Nothing: the same settings."));
    },
    end() {
      for (const url of urls.values()) URL.revokeObjectURL(url);
      urls.clear();
    },
  };
}
