// The parts of a card of StyleShelf, each { node, show }; `shelf` is its ShelfPanel.

const PRESET_NAMES = {
  all: ["All", "Everything of the picture"],
  style: ["Style", "Colours, strokes and texture"],
  layout: ["Layout", "Where things are"],
  "style+layout": ["Both", "Style and layout, nothing else"],
  custom: ["As given", "The blocks this reference came with"],
};

// The grip and two buttons that give a card another place.
function orderPart(shelf, id) {
  const grip = iconButton("", "M6 3.5v.01M10 3.5v.01M6 8v.01M10 8v.01M6 12.5v.01M10 12.5v.01", () => {}, {
    class: "ctrl-icon grip",
  });
  const [up, down] = [
    iconButton("", "m4 10 4-4 4 4", () => shelf.move(id, -1)),
    iconButton("", "m4 6 4 4 4-4", () => shelf.move(id, 1)),
  ];
  drag(
    grip,
    {
      start: () => shelf.cards.get(id).node.toggleAttribute("data-held", true),
      move: (_, event) => {
        const at = shelf.items.findIndex((one) => one.id === id);
        const middle = (index) => {
          const box = shelf.list.children[index].getBoundingClientRect();
          return box.top + box.height / 2;
        };
        if (at > 0 && event.clientY < middle(at - 1)) shelf.move(id, -1);
        else if (at < shelf.items.length - 1 && event.clientY > middle(at + 1)) shelf.move(id, 1);
      },
      end: () => shelf.cards.get(id)?.node.removeAttribute("data-held"),
    },
    shelf.view.life,
  );
  grip.addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (by) {
      event.preventDefault();
      shelf.move(id, by);
      grip.focus();
    }
  });
  const show = ({ name }, _, at) => {
    [up.disabled, down.disabled] = [at === 0, at === shelf.items.length - 1];
    for (const [button, text] of [
      [grip, `Drag ${name}, or press up and down`],
      [up, `Move ${name} up`],
      [down, `Move ${name} down`],
    ])
      button.ariaLabel = button.title = text;
  };
  return { node: make("div", { class: "order" }, grip, up, down), show };
}

function headPart(shelf, id) {
  const on = make("input", { type: "checkbox", onchange: () => shelf.change(id, { on: on.checked }) });
  const name = make("input", {
    type: "text",
    maxlength: 60,
    "aria-label": "Name of the reference",
    onchange: () => shelf.change(id, { name: name.value.trim() || shelf.item(id).name }),
  });
  const remove = iconButton("", ICONS.close, () => {
    shelf.set({ items: shelf.items.filter((one) => one.id !== id) });
    shelf.open.focus();
  });
  const show = (item) => {
    on.checked = item.on;
    on.ariaLabel = on.title = `Follow ${item.name}`;
    remove.ariaLabel = remove.title = `Remove ${item.name}`;
    if (name.getRootNode().activeElement !== name) name.value = item.name;
  };
  return { node: make("div", { class: "top" }, on, name, remove), show };
}

function weightPart(shelf, id) {
  const slider = make("input", {
    type: "range",
    min: 0,
    max: 2,
    step: 0.05,
    oninput: () => shelf.change(id, { weight: slider.valueAsNumber }),
  });
  const field = numberField("", {
    min: 0,
    max: 10,
    step: 0.05,
    "aria-label": "Weight",
    onvalue: (weight) => shelf.change(id, { weight }),
  });
  const show = ({ weight, name }) => {
    slider.value = weight;
    slider.ariaLabel = `Weight of ${name}`;
    field.input.value = Number(weight.toFixed(3));
  };
  return { node: [make("small", { text: "Weight" }), make("div", {}, slider, field.node)], show };
}

function blocksPart(shelf, id) {
  const group = make("div", { class: "ctrl-group", role: "group", "aria-label": "What is followed" });
  let shown = "";
  const show = ({ blocks }) => {
    const names = [...shelf.get("presets"), ...(blocks === "custom" || shown.includes("custom") ? ["custom"] : [])];
    if (names.join() !== shown) {
      shown = names.join();
      group.replaceChildren(
        ...names.map((name) =>
          textButton(PRESET_NAMES[name]?.[0] ?? name, () => shelf.change(id, { blocks: name }), {
            title: PRESET_NAMES[name]?.[1] ?? name,
            "data-value": name,
          }),
        ),
      );
    }
    for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.value === blocks);
  };
  return { node: [make("small", { text: "Follows" }), make("div", {}, group)], show };
}

// When the reference acts, in parts of the run: two thumbs on one line, and two fields.
function spanPart(shelf, id) {
  const keep = (start, until) => shelf.change(id, { start: clamp(start, 0, 0.99), until: clamp(until, 0.01, 1) });
  const from = (value) => keep(value / 100, Math.max(shelf.item(id).until, value / 100 + 0.01));
  const to = (value) => keep(Math.min(shelf.item(id).start, value / 100 - 0.01), value / 100);
  const range = (label, onvalue) => {
    const input = make("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 1,
      "aria-label": label,
      oninput: () => onvalue(input.valueAsNumber),
    });
    return input;
  };
  const [first, last] = [
    range("Acts from, in percent of the run", from),
    range("Acts until, in percent of the run", to),
  ];
  const fields = [
    ["Acts from, typed", from],
    ["Acts until, typed", to],
  ].map(([label, onvalue]) => numberField("", { min: 0, max: 100, step: 1, "aria-label": label, onvalue }));
  const line = make("div", { class: "span" }, first, last);
  const show = ({ start, until }) => {
    [start, until].forEach((part, at) => {
      [first, last][at].value = fields[at].input.value = Number((part * 100).toFixed(1));
    });
    line.style.cssText = `--from: ${start * 100}%; --to: ${until * 100}%`;
    last.style.zIndex = start > 0.5 ? 0 : 1;
  };
  return {
    node: [
      make("small", { text: "Acts, %" }),
      make("div", {}, line, make("span", { class: "seen" }, fields[0].node, "to", fields[1].node)),
    ],
    show,
  };
}

// The picture with its crop: drag to move it, and a slider for its size.
function cropPart(shelf, id) {
  const image = make("img", { alt: "", draggable: "false" });
  const box = make("i");
  const stage = make("div", { class: "crop", tabindex: 0, role: "application" }, image, box);
  const seen = make("img", { alt: "" });
  const words = make("span");
  const size = numberField("", {
    min: 10,
    max: 100,
    step: 1,
    unit: "%",
    "aria-label": "Side of the crop, of the picture's shorter side",
    onvalue: (value) => place(null, value / 100),
  });
  const whole = textButton("Whole", () => shelf.change(id, { crop: [] }));
  const square = () => {
    const { width, height } = shelf.pictures.get(id);
    const [x, y, part] = shelf.item(id).crop.length
      ? shelf.item(id).crop
      : [(width - Math.min(width, height)) / 2 / width, (height - Math.min(width, height)) / 2 / height, 1];
    const side = part * Math.min(width, height);
    return {
      x,
      y,
      part,
      w: side / width,
      h: side / height,
      shorter: [Math.min(width, height) / width, Math.min(width, height) / height],
    };
  };
  // Another centre (parts of the picture) or another side; both stay inside.
  const place = (centre, part = square().part) => {
    const now = square();
    const [w, h] = now.shorter.map((one) => one * part);
    const [x, y] = centre ?? [now.x + now.w / 2, now.y + now.h / 2];
    const near = (value) => Number(value.toFixed(4));
    shelf.change(id, { crop: [near(clamp(x - w / 2, 0, 1 - w)), near(clamp(y - h / 2, 0, 1 - h)), part] });
  };
  const spot = (event) => {
    const frame = image.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  };
  drag(
    stage,
    {
      start: (event) => {
        if (!shelf.pictures.has(id) || shelf.pictures.get(id).pictures > 1) return null;
        stage.focus({ preventScroll: true });
        const [now, [x, y]] = [square(), spot(event)];
        const inside = x > now.x && x < now.x + now.w && y > now.y && y < now.y + now.h;
        return inside ? [x - now.x - now.w / 2, y - now.y - now.h / 2] : [0, 0];
      },
      move: ([dx, dy], event) => {
        const [x, y] = spot(event);
        place([x - dx, y - dy]);
      },
    },
    shelf.view.life,
  );
  stage.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
    const grow = { "+": 0.05, "=": 0.05, "-": -0.05 }[event.key];
    if (!by && !grow) return;
    event.preventDefault();
    const now = square();
    if (by) place([now.x + now.w / 2 + by[0], now.y + now.h / 2 + by[1]]);
    else place(null, clamp(now.part + grow, 0.1, 1));
  });
  const show = (item, picture) => {
    if (!picture) return;
    if (image.src !== picture.urls[0]) image.src = picture.urls[0];
    image.alt = item.name;
    stage.ariaLabel = `Crop of ${item.name}. Arrow keys move it, plus and minus change its size.`;
    const now = square();
    box.style.cssText = `left: ${now.x * 100}%; top: ${now.y * 100}%; width: ${now.w * 100}%; height: ${now.h * 100}%`;
    size.input.value = Math.round(now.part * 100);
    const several = picture.pictures > 1;
    size.node.hidden = box.hidden = several;
    whole.hidden = several || !item.crop.length;
    seen.hidden = picture.urls.length < 2;
    if (!seen.hidden && seen.src !== picture.urls[1]) seen.src = picture.urls[1];
    words.textContent = several
      ? `${picture.pictures} pictures, used as they are`
      : seen.hidden
        ? ""
        : "what the encoder sees";
  };
  return {
    stage,
    node: [
      make("small", { text: "Crop" }),
      make("div", {}, size.node, whole, make("span", { class: "seen" }, seen, words)),
    ],
    show,
  };
}
