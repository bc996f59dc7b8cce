// StyleShelf: reference pictures as cards, top first. A card's crop is what the image encoder sees.

class ShelfPanel {
  constructor(view, model) {
    this.offered = false;
    Object.assign(this, { view, model, cards: new Map(), pictures: new Map(), ...knobs(model, view.life) });
    this.list = make("ol", { "aria-label": "Style references, the first on top" });
    this.said = make("p", { class: "ctrl-unseen", "aria-live": "polite" });
    const picker = make("input", {
      type: "file",
      accept: "image/*",
      multiple: true,
      hidden: true,
      onchange: () => {
        [...picker.files].forEach((file) => this.offer(file));
        picker.value = "";
      },
    });
    this.open = make("button", { type: "button", onclick: () => picker.click() }, icon(ICONS.open), "Open pictures");
    this.full = make("span");
    this.hint = make("p", {
      class: "ctrl-dim",
      text: "The result follows the colours, strokes and layout of the pictures here. Several are mixed by weight.",
    });
    view.root.append(
      this.list,
      this.said,
      make(
        "div",
        { class: "add", tabindex: 0, role: "group", "aria-label": "Add pictures" },
        picker,
        this.open,
        this.full,
      ),
      this.hint,
    );
    takeFiles(view.root, (file) => this.offer(file), view.life);
    view.life.addEventListener("abort", () =>
      this.pictures.forEach(({ urls }) => urls.forEach((url) => URL.revokeObjectURL(url))),
    );
    this.wire = wire(model, { reference: (content, data) => this.takeReference(content, data) }, view.note, view.life);
    this.bind("items presets places", () => this.show());
  }

  get items() {
    return this.get("items");
  }
  item(id) {
    return this.items.find((one) => one.id === id);
  }
  change(id, values) {
    this.set({ items: this.items.map((one) => (one.id === id ? { ...one, ...values } : one)) });
  }

  async offer(file) {
    if (this.items.length >= this.get("limit"))
      return this.view.problem({
        what: `The shelf holds ${this.get("limit")} references at most.`,
        next: "Remove one first.",
      });
    const picture = await readPicture(file).catch(() => null);
    if (!picture)
      return this.view.problem({
        what: `${file.name || "The file"} is not a picture that this browser can read.`,
        next: "Use a PNG, JPEG or WebP.",
      });
    this.view.note(picture.shrunk ? `${file.name} was reduced to ${picture.width} × ${picture.height}.` : "");
    this.offered = true;
    this.wire.send("add", { name: (file.name || "").replace(/\.\w+$/, "") }, [await picture.blob.arrayBuffer()]);
  }

  takeReference({ id, ...facts }, data) {
    // marimo runs the cells that read a leaf only for a trait that the browser has set.
    if (this.offered && !this.pictures.has(id)) this.set({ revision: this.get("revision") + 1 });
    this.pictures.get(id)?.urls.forEach((url) => URL.revokeObjectURL(url));
    this.pictures.set(id, {
      ...facts,
      urls: data.map((part) => URL.createObjectURL(new Blob([part], { type: "image/jpeg" }))),
    });
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
    cards.forEach(({ node }, at) => {
      if (this.list.children[at] !== node) this.list.insertBefore(node, this.list.children[at] ?? null);
    });
    while (this.list.children.length > cards.length) this.list.lastChild.remove();
    cards.forEach((card, at) => card.show(this.items[at], this.pictures.get(this.items[at].id), at));
    const [count, limit] = [this.items.length, this.get("limit")];
    this.open.disabled = count >= limit;
    this.hint.hidden = count > 0;
    this.full.textContent =
      count >= limit ? `The shelf is full with ${limit} references.` : "or drop or paste them here";
  }

  card(id) {
    const parts = [
      orderPart(this, id),
      headPart(this, id),
      weightPart(this, id),
      blocksPart(this, id),
      wherePart(this, id),
      spanPart(this, id),
      cropPart(this, id),
    ];
    const [order, head, ...sliders] = parts.map(({ node }) => node);
    const node = make(
      "li",
      {},
      order,
      parts.at(-1).stage,
      make("div", { class: "side" }, head, make("div", { class: "sliders" }, ...sliders.flat())),
    );
    const show = (item, picture, at) => {
      node.toggleAttribute("data-off", !item.on);
      node.setAttribute("aria-label", item.name);
      for (const part of parts) part.show(item, picture, at);
    };
    return { node, show };
  }
}

function render({ model, el, signal }) {
  const view = mount({ model, el, signal }, "shelf", "Style references");
  new ShelfPanel(view, model);
  return view.end;
}

export default { render };
