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

// In which of the painted regions the reference acts; not shown where there are none.
function wherePart(shelf, id) {
  const OWN = "its own mask";
  const choice = make("select", {
    "aria-label": "Where it acts",
    onchange: () => shelf.change(id, { where: choice.value }),
  });
  const [label, box] = [make("small", { text: "Where" }), make("div", {}, choice)];
  let shown = "";
  const show = ({ where }) => {
    const names = ["", ...shelf.get("places"), ...(where === OWN ? [OWN] : [])];
    label.hidden = box.hidden = names.length < 2;
    if (names.join("\n") !== shown) {
      shown = names.join("\n");
      choice.replaceChildren(...names.map((value) => make("option", { value, text: value || "everywhere" })));
    }
    choice.value = where;
  };
  return { node: [label, box], show };
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

// The square of a crop, in parts of the picture; without one the largest in the middle. `part` is its side as a part
// of the shorter side.
function cropSquare({ width, height }, crop) {
  const shorter = Math.min(width, height);
  const [x, y, part] = crop.length ? crop : [(width - shorter) / 2 / width, (height - shorter) / 2 / height, 1];
  return { x, y, part, w: (part * shorter) / width, h: (part * shorter) / height };
}

// The picture with its crop: dragged and moved by keys, and three numbers; and the part the encoder sees.
function cropPart(shelf, id) {
  const image = make("img", { alt: "", draggable: "false" });
  const box = make("i");
  const stage = make("div", { class: "crop", tabindex: 0, role: "application" }, image, box);
  const square = (crop = shelf.item(id).crop) => cropSquare(shelf.pictures.get(id), crop);
  const put = (x, y, part) => {
    const { w, h } = square([x, y, part]);
    const inside = [clamp(x, 0, 1 - w), clamp(y, 0, 1 - h)].map((value) => Number(value.toFixed(4)));
    shelf.change(id, { crop: [...inside, part] });
  };
  // Another side, around the same middle.
  const resize = (part) => {
    const [now, next] = [square(), square([0, 0, part])];
    put(now.x + (now.w - next.w) / 2, now.y + (now.h - next.h) / 2, part);
  };
  cropGestures(shelf, id, { stage, image, square, put, resize });
  const field = (label, name, onvalue, min = 0) =>
    numberField(label, { min, max: 100, step: 1, "aria-label": name, onvalue: (value) => onvalue(value / 100) });
  const left = field("left", "Left of the crop, in percent", (x) => put(x, square().y, square().part));
  const top = field("top", "Top of the crop, in percent", (y) => put(square().x, y, square().part));
  const side = field("side", "Side of the crop, in percent of the shorter side", resize, 10);
  const whole = textButton("Whole", () => shelf.change(id, { crop: [] }));
  const seen = seenPart();
  const show = (item, picture) => {
    if (!picture) return;
    if (image.src !== picture.urls[0]) image.src = picture.urls[0];
    image.alt = item.name;
    stage.ariaLabel = `Crop of ${item.name}. Arrow keys move it, plus and minus change its size.`;
    const now = square();
    box.style.cssText = `left: ${now.x * 100}%; top: ${now.y * 100}%; width: ${now.w * 100}%; height: ${now.h * 100}%`;
    [left, top, side].forEach(({ input }, at) => {
      input.value = Math.round([now.x, now.y, now.part][at] * 100);
    });
    const several = picture.pictures > 1;
    for (const node of [left.node, top.node, side.node, box]) node.hidden = several;
    whole.hidden = several || !item.crop.length;
    seen.show(picture);
  };
  const row = make("div", {}, left.node, top.node, side.node, whole, seen.node);
  return { stage, node: [make("small", { text: "Crop, %" }), row], show };
}

function cropGestures(shelf, id, { stage, image, square, put, resize }) {
  const spot = (event) => {
    const frame = image.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  };
  const single = () => shelf.pictures.get(id)?.pictures === 1;
  // Where in the square it is held; outside, its middle jumps to the pointer.
  const start = (event) => {
    if (!single()) return null;
    stage.focus({ preventScroll: true });
    const [{ x, y, w, h }, [left, top]] = [square(), spot(event)];
    const inside = left > x && left < x + w && top > y && top < y + h;
    return inside ? [left - x, top - y] : [w / 2, h / 2];
  };
  const move = ([dx, dy], event) => {
    const [left, top] = spot(event);
    put(left - dx, top - dy, square().part);
  };
  drag(stage, { start, move }, shelf.view.life);
  stage.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
    const grow = { "+": 0.05, "=": 0.05, "-": -0.05 }[event.key];
    if (!single() || !(by || grow)) return;
    event.preventDefault();
    const { x, y, part } = square();
    if (by) put(x + by[0], y + by[1], part);
    else resize(clamp(part + grow, 0.1, 1));
  });
}

function seenPart() {
  const image = make("img", { alt: "" });
  const words = make("span");
  const show = ({ urls, pictures }) => {
    image.hidden = urls.length < 2;
    if (!image.hidden && image.src !== urls[1]) image.src = urls[1];
    const seen = image.hidden ? "" : "what the encoder sees";
    words.textContent = pictures > 1 ? `${pictures} pictures, used as they are` : seen;
  };
  return { node: make("span", { class: "seen" }, image, words), show };
}
