// StyleShelf: reference pictures as cards, top first. A card's crop is what the image encoder sees.

const SHELF_CSS = `
.ctrl-shelf { padding: 10px;
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 8px; }
li { display: grid; grid-template-columns: 24px minmax(110px, 190px) minmax(0, 1fr); gap: 6px 12px; align-items: start; padding: 8px; border: 1px solid var(--c-line); border-radius: 8px; background: var(--c-bg); }
li[data-held] { border-color: var(--c-accent); box-shadow: 0 4px 14px #0003; }
li[data-off] { background: var(--c-raise); border-style: dashed; }
li[data-off] .crop { filter: grayscale(1); opacity: .5; }
.order { display: grid; gap: 2px; }
.order button { min-height: 22px; padding: 0; min-width: 22px; border-color: transparent; }
.order .grip { cursor: grab; touch-action: none; min-height: 34px; color: var(--c-dim); }
.crop { position: relative; line-height: 0; overflow: hidden; border-radius: 4px; touch-action: none; cursor: move; }
.crop img { width: 100%; height: auto; }
.crop i { position: absolute; border: 2px solid #fff; box-shadow: 0 0 0 1px #000, 0 0 0 2000px #0009; border-radius: 2px; }
.seen { display: flex; gap: 8px; align-items: center; font-size: 12px; color: var(--c-dim); line-height: 1.25; }
.seen img { width: 48px; height: 48px; object-fit: contain; border-radius: 4px; background: var(--c-raise); }
.top { display: flex; gap: 8px; align-items: center; margin-bottom: 8px; }
.top input[type=text] { flex: 1 1 60px; width: 60px; min-width: 0; font-weight: 600 !important; border-color: transparent !important; padding-left: 4px; }
.top input[type=text]:hover, .top input[type=text]:focus { border-color: var(--c-line) !important; }
.sliders { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 8px 10px; align-items: center; }
small { color: var(--c-dim); font-size: 12px; }
.sliders > div { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.ctrl-group { flex-wrap: wrap; }
input[type=range] { flex: 1 1 80px; }
.span { position: relative; flex: 1 1 100px; height: 18px; }
.span::before { content: ""; position: absolute; inset: 7px 0; border-radius: 2px; background: linear-gradient(to right, var(--c-line) var(--from), var(--c-accent) var(--from) var(--to), var(--c-line) var(--to)); }
.span input { position: absolute; inset: 0; width: 100%; height: 18px; appearance: none; background: none; pointer-events: none; }
.span input::-webkit-slider-thumb { appearance: none; pointer-events: auto; width: 14px; height: 14px; border-radius: 50%; background: var(--c-accent); cursor: ew-resize; }
.span input::-moz-range-thumb { pointer-events: auto; width: 14px; height: 14px; border: 0; border-radius: 50%; background: var(--c-accent); cursor: ew-resize; }
.add { margin-top: 8px; display: flex; flex-wrap: wrap; gap: 10px; align-items: center; justify-content: center; padding: 14px; border: 2px dashed var(--c-line); border-radius: 8px; color: var(--c-dim); }
&[data-drop] .add { border-color: var(--c-accent); background: var(--c-tint); }
@container (max-width: 480px) { li { grid-template-columns: 24px minmax(0, 1fr); } .side { grid-column: 1 / -1; } } }
`;

const PRESET_NAMES = { all: ["All", "Everything of the picture"], style: ["Style", "Colours, strokes and texture"], layout: ["Layout", "Where things are"], "style+layout": ["Both", "Style and layout, nothing else"], custom: ["As given", "The blocks this reference came with"] };

class ShelfPanel {
  constructor(view, model) {
    Object.assign(this, { view, model, cards: new Map(), pictures: new Map(), ...knobs(model, view.life) });
    this.list = make("ol", { "aria-label": "Style references, the first on top" });
    this.said = make("p", { class: "ctrl-unseen", "aria-live": "polite" });
    const picker = make("input", { type: "file", accept: "image/*", multiple: true, hidden: true, onchange: () => { [...picker.files].forEach((file) => this.offer(file)); picker.value = ""; } });
    this.open = make("button", { type: "button", onclick: () => picker.click() }, icon(ICONS.open), "Open pictures");
    this.full = make("span");
    view.root.append(this.list, this.said, make("div", { class: "add", tabindex: 0, role: "group", "aria-label": "Add pictures" }, picker, this.open, this.full));
    takeFiles(view.root, (file) => this.offer(file), view.life);
    view.life.addEventListener("abort", () => this.pictures.forEach(({ urls }) => urls.forEach((url) => URL.revokeObjectURL(url))));
    this.wire = wire(model, { reference: (content, data) => this.takeReference(content, data) }, view.note, view.life);
    this.bind("items presets", () => this.show());
  }

  get items() { return this.get("items"); }
  item(id) { return this.items.find((one) => one.id === id); }
  change(id, values) { this.set({ items: this.items.map((one) => (one.id === id ? { ...one, ...values } : one)) }); }

  async offer(file) {
    if (this.items.length >= this.get("limit")) return this.view.problem({ what: `The shelf holds ${this.get("limit")} references at most.`, next: "Remove one first." });
    const picture = await readPicture(file).catch(() => null);
    if (!picture) return this.view.problem({ what: `${file.name || "The file"} is not a picture that this browser can read.`, next: "Use a PNG, JPEG or WebP." });
    this.view.note(picture.shrunk ? `${file.name} was reduced to ${picture.width} × ${picture.height}.` : "");
    this.wire.send("add", { name: (file.name || "").replace(/\.\w+$/, "") }, [await picture.blob.arrayBuffer()]);
  }

  takeReference({ id, ...facts }, data) {
    this.pictures.get(id)?.urls.forEach((url) => URL.revokeObjectURL(url));
    this.pictures.set(id, { ...facts, urls: data.map((part) => URL.createObjectURL(new Blob([part], { type: "image/jpeg" }))) });
    this.show();
  }

  move(id, by) {
    const from = this.items.findIndex((one) => one.id === id);
    const to = clamp(from + by, 0, this.items.length - 1);
    if (to === from) return;
    const items = this.items.filter((one) => one.id !== id);
    items.splice(to, 0, this.item(id));
    this.set({ items });
    this.said.textContent = `${this.item(id).name}: place ${to + 1} of ${items.length}`;
  }

  show() {
    const cards = this.items.map(({ id }) => this.cards.get(id) ?? this.card(id));
    this.cards = new Map(this.items.map(({ id }, at) => [id, cards[at]]));
    // Only what changed place is moved, so that a field or a drag keeps its focus.
    cards.forEach(({ node }, at) => { if (this.list.children[at] !== node) this.list.insertBefore(node, this.list.children[at] ?? null); });
    while (this.list.children.length > cards.length) this.list.lastChild.remove();
    cards.forEach((card, at) => card.show(this.items[at], this.pictures.get(this.items[at].id), at));
    const [count, limit] = [this.items.length, this.get("limit")];
    this.open.disabled = count >= limit;
    this.full.textContent = count >= limit ? `The shelf is full with ${limit} references.` : "or drop or paste them here";
  }

  card(id) {
    const parts = [this.order(id), this.head(id), this.weight(id), this.blocks(id), this.span(id), this.crop(id)];
    const [order, head, ...sliders] = parts.map(({ node }) => node);
    const node = make("li", {}, order, parts.at(-1).stage, make("div", { class: "side" }, head, make("div", { class: "sliders" }, ...sliders.flat())));
    const show = (item, picture, at) => {
      node.toggleAttribute("data-off", !item.on);
      node.setAttribute("aria-label", item.name);
      for (const part of parts) part.show(item, picture, at);
    };
    return { node, show };
  }

  // The grip and two buttons that give a card another place.
  order(id) {
    const grip = iconButton("", "M6 3.5v.01M10 3.5v.01M6 8v.01M10 8v.01M6 12.5v.01M10 12.5v.01", () => {}, { class: "ctrl-icon grip" });
    const [up, down] = [iconButton("", "m4 10 4-4 4 4", () => this.move(id, -1)), iconButton("", "m4 6 4 4 4-4", () => this.move(id, 1))];
    drag(grip, {
      start: () => this.cards.get(id).node.toggleAttribute("data-held", true),
      move: (_, event) => {
        const at = this.items.findIndex((one) => one.id === id);
        const middle = (index) => { const box = this.list.children[index].getBoundingClientRect(); return box.top + box.height / 2; };
        if (at > 0 && event.clientY < middle(at - 1)) this.move(id, -1);
        else if (at < this.items.length - 1 && event.clientY > middle(at + 1)) this.move(id, 1);
      },
      end: () => this.cards.get(id)?.node.removeAttribute("data-held"),
    }, this.view.life);
    grip.addEventListener("keydown", (event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (by) { event.preventDefault(); this.move(id, by); grip.focus(); }
    });
    const show = ({ name }, _, at) => {
      [up.disabled, down.disabled] = [at === 0, at === this.items.length - 1];
      for (const [button, text] of [[grip, `Drag ${name}, or press up and down`], [up, `Move ${name} up`], [down, `Move ${name} down`]]) button.ariaLabel = button.title = text;
    };
    return { node: make("div", { class: "order" }, grip, up, down), show };
  }

  head(id) {
    const on = make("input", { type: "checkbox", onchange: () => this.change(id, { on: on.checked }) });
    const name = make("input", { type: "text", maxlength: 60, "aria-label": "Name of the reference", onchange: () => this.change(id, { name: name.value.trim() || this.item(id).name }) });
    const remove = iconButton("", ICONS.close, () => { this.set({ items: this.items.filter((one) => one.id !== id) }); this.open.focus(); });
    const show = (item) => {
      on.checked = item.on;
      on.ariaLabel = on.title = `Follow ${item.name}`;
      remove.ariaLabel = remove.title = `Remove ${item.name}`;
      if (name.getRootNode().activeElement !== name) name.value = item.name;
    };
    return { node: make("div", { class: "top" }, on, name, remove), show };
  }

  weight(id) {
    const slider = make("input", { type: "range", min: 0, max: 2, step: 0.05, oninput: () => this.change(id, { weight: slider.valueAsNumber }) });
    const field = numberField("", { min: 0, max: 10, step: 0.05, "aria-label": "Weight", onvalue: (weight) => this.change(id, { weight }) });
    const show = ({ weight, name }) => { slider.value = weight; slider.ariaLabel = `Weight of ${name}`; field.input.value = Number(weight.toFixed(3)); };
    return { node: [make("small", { text: "Weight" }), make("div", {}, slider, field.node)], show };
  }

  blocks(id) {
    const group = make("div", { class: "ctrl-group", role: "group", "aria-label": "What is followed" });
    let shown = "";
    const show = ({ blocks }) => {
      const names = [...this.get("presets"), ...(blocks === "custom" || shown.includes("custom") ? ["custom"] : [])];
      if (names.join() !== shown) {
        shown = names.join();
        group.replaceChildren(...names.map((name) => textButton(PRESET_NAMES[name]?.[0] ?? name, () => this.change(id, { blocks: name }), { title: PRESET_NAMES[name]?.[1] ?? name, "data-value": name })));
      }
      for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.value === blocks);
    };
    return { node: [make("small", { text: "Follows" }), make("div", {}, group)], show };
  }

  // When the reference acts, in parts of the run: two thumbs on one line, and two fields.
  span(id) {
    const keep = (start, until) => this.change(id, { start: clamp(start, 0, 0.99), until: clamp(until, 0.01, 1) });
    const from = (value) => keep(value / 100, Math.max(this.item(id).until, value / 100 + 0.01));
    const to = (value) => keep(Math.min(this.item(id).start, value / 100 - 0.01), value / 100);
    const range = (label, onvalue) => { const input = make("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": label, oninput: () => onvalue(input.valueAsNumber) }); return input; };
    const [first, last] = [range("Acts from, in percent of the run", from), range("Acts until, in percent of the run", to)];
    const fields = [["Acts from, typed", from], ["Acts until, typed", to]].map(([label, onvalue]) => numberField("", { min: 0, max: 100, step: 1, "aria-label": label, onvalue }));
    const line = make("div", { class: "span" }, first, last);
    const show = ({ start, until }) => {
      [start, until].forEach((part, at) => { [first, last][at].value = fields[at].input.value = Number((part * 100).toFixed(1)); });
      line.style.cssText = `--from: ${start * 100}%; --to: ${until * 100}%`;
      last.style.zIndex = start > 0.5 ? 0 : 1;
    };
    return { node: [make("small", { text: "Acts, %" }), make("div", {}, line, make("span", { class: "seen" }, fields[0].node, "to", fields[1].node))], show };
  }

  // The picture with its crop: drag to move it, and a slider for its size.
  crop(id) {
    const image = make("img", { alt: "", draggable: "false" });
    const box = make("i");
    const stage = make("div", { class: "crop", tabindex: 0, role: "application" }, image, box);
    const seen = make("img", { alt: "" });
    const words = make("span");
    const size = numberField("", { min: 10, max: 100, step: 1, unit: "%", "aria-label": "Side of the crop, of the picture's shorter side", onvalue: (value) => place(null, value / 100) });
    const whole = textButton("Whole", () => this.change(id, { crop: [] }));
    const square = () => {
      const { width, height } = this.pictures.get(id);
      const [x, y, part] = this.item(id).crop.length ? this.item(id).crop : [(width - Math.min(width, height)) / 2 / width, (height - Math.min(width, height)) / 2 / height, 1];
      const side = part * Math.min(width, height);
      return { x, y, part, w: side / width, h: side / height, shorter: [Math.min(width, height) / width, Math.min(width, height) / height] };
    };
    // Another centre (parts of the picture) or another side; both stay inside.
    const place = (centre, part = square().part) => {
      const now = square();
      const [w, h] = now.shorter.map((one) => one * part);
      const [x, y] = centre ?? [now.x + now.w / 2, now.y + now.h / 2];
      const near = (value) => Number(value.toFixed(4));
      this.change(id, { crop: [near(clamp(x - w / 2, 0, 1 - w)), near(clamp(y - h / 2, 0, 1 - h)), part] });
    };
    const spot = (event) => { const frame = image.getBoundingClientRect(); return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height]; };
    drag(stage, {
      start: (event) => {
        if (!this.pictures.has(id) || this.pictures.get(id).pictures > 1) return null;
        stage.focus({ preventScroll: true });
        const [now, [x, y]] = [square(), spot(event)];
        const inside = x > now.x && x < now.x + now.w && y > now.y && y < now.y + now.h;
        return inside ? [x - now.x - now.w / 2, y - now.y - now.h / 2] : [0, 0];
      },
      move: ([dx, dy], event) => { const [x, y] = spot(event); place([x - dx, y - dy]); },
    }, this.view.life);
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
      words.textContent = several ? `${picture.pictures} pictures, used as they are` : seen.hidden ? "" : "what the encoder sees";
    };
    return { stage, node: [make("small", { text: "Crop" }), make("div", {}, size.node, whole, make("span", { class: "seen" }, seen, words))], show };
  }
}

function render({ model, el, signal }) {
  const view = mount({ model, el, signal }, "shelf", "Style references", SHELF_CSS);
  new ShelfPanel(view, model);
  return view.end;
}

export default { render };
