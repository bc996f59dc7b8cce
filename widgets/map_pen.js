// The pen of MapPad: strokes by pointer and by keyboard, with five tools.

const TOOLS = [
  [
    "brush",
    "Brush (B)",
    "M13.5 2.5 7 8.8M7 8.8c-2-.4-3.6.9-3.8 3.1-.1.8-.6 1.2-1.2 1.4 1.9 1 5.8 1 6.5-1.8.3-1.3-.4-2.4-1.5-2.7Z",
  ],
  ["eraser", "Eraser (E)", "M6 13.5h7.5M9.5 2.5l4 4L7.5 12.5H5L2.5 10 9.5 2.5ZM6 6l4 4"],
  [
    "lasso",
    "Lasso (L)",
    "M8 3c3.3 0 6 1.5 6 3.5S11.3 10 8 10 2 8.5 2 6.5 4.7 3 8 3ZM5 9.7c-1.5.6-1.4 2 0 2.2 1.2.2 1 1.4 0 1.9",
  ],
  ["gradient", "Gradient (G)", "M2.5 2.5h11v11h-11zM2.5 11h11M2.5 9h11M2.5 6h11"],
  [
    "fill",
    "Fill (F)",
    "M6.5 2 2.7 7.4a1 1 0 0 0 .1 1.3l3.6 3.4a1 1 0 0 0 1.4 0L12 7.5 6.5 2ZM13.2 10c.8 1.1 1.2 1.8 1.2 2.4a1.2 1.2 0 0 1-2.4 0c0-.6.4-1.3 1.2-2.4Z",
  ],
];
const ALIKE = 24; // levels by which what a fill joins may differ

class Pen {
  // `panel` has store, size, get, canvas, paint(box), showOver() and view.
  constructor(panel, said) {
    Object.assign(this, { panel, said, store: panel.store, size: panel.size, get: panel.get, set: panel.set });
    Object.assign(this, { stroke: null, outline: null, spot: null, down: false });
    this.listen();
  }

  get tool() {
    return this.get("tool");
  }

  get brushes() {
    return ["brush", "eraser"].includes(this.tool);
  }

  get target() {
    return this.get("layer") === "map" ? "map" : this.get("active");
  }

  // Begin a stroke; false where there is nothing to paint on.
  begin(spot) {
    this.panel.view.note(this.target ? "" : "Add a region first, then paint it.", "pen");
    if (!this.target) return false;
    const erase = this.tool === "eraser";
    const shown = erase ? 0 : this.get("value");
    const value = this.target === "map" ? storedLevel(shown, this.panel.range) : erase ? 0 : 255;
    const { planes, palette } = this.store.now;
    const ids = palette.map(({ id }) => id);
    this.stroke = stroke(planes, ids, this.target, value, this.size);
    this.outline = [spot];
    return true;
  }

  extend(spot, pressure = 1) {
    const last = this.outline.at(-1);
    this.outline.push(spot);
    if (this.brushes) {
      const radius = this.get("radius") * pressure;
      const box = coverLine(this.stroke.cover, this.size, last, spot, radius, this.get("soft"));
      this.stroke.over(box);
      this.panel.paint(box);
    }
    this.panel.showOver();
  }

  finish() {
    const { stroke: made } = this;
    const cover = this.brushes ? null : this.area();
    if (cover) {
      made.cover.set(cover);
      made.over();
      if (this.tool === "gradient" && this.target === "map") this.blend(made.after.map, cover);
    }
    [this.stroke, this.outline] = [null, null];
    if (this.brushes || cover) this.store.commit(made.after);
    this.panel.show();
  }

  // What a lasso, gradient or fill covers; null for too little of a movement.
  area() {
    const { outline, size } = this;
    if (this.tool === "fill") return this.alike(outline[0]);
    if (this.tool === "gradient") return outline.length > 1 ? coverGradient(size, outline[0], outline.at(-1)) : null;
    return outline.length > 2 ? coverOutline(size, outline, this.get("soft") * this.get("radius")) : null;
  }

  // A gradient replaces the map: from one value to another.
  blend(map, cover) {
    const [from, to] = [this.get("value"), this.get("value_to")].map((shown) => storedLevel(shown, this.panel.range));
    for (let at = 0; at < map.length; at++) map[at] = Math.round(to + ((from - to) * cover[at]) / 255);
  }

  // What joins a place: of the map the same grey, of regions the same region and what the picture shows there.
  alike(spot) {
    const { planes, palette } = this.store.now;
    const { backdrop } = this.store;
    const grey = (at) => [planes.map?.[at] ?? 0];
    const picture = (at) => [backdrop[at * 4], backdrop[at * 4 + 1], backdrop[at * 4 + 2]];
    const painted = palette.map(({ id }) => planes[id]).filter(Boolean);
    const below = backdrop ? picture : grey;
    const onMap = planes.map ? grey : below;
    const level = this.target === "map" ? onMap : (at) => [...painted.map((plane) => plane[at]), ...below(at)];
    return coverAlike(this.size, level, spot, ALIKE);
  }

  // -- pointer

  spotOf(event) {
    const box = this.panel.canvas.getBoundingClientRect();
    const parts = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return parts.map((part, axis) => part * this.size[axis]);
  }

  listen() {
    const { canvas, view } = this.panel;
    const on = (type, act) => canvas.addEventListener(type, act, { signal: view.life });
    const hover = (spot) => {
      if (this.stroke) return;
      this.spot = spot;
      this.panel.showOver();
    };
    on("pointermove", (event) => hover(this.spotOf(event)));
    on("pointerleave", () => hover(null));
    on("keydown", (event) => this.press(event));
    const pressure = (event) => (event.pointerType === "pen" ? Math.max(0.15, event.pressure) : 1);
    const start = (event) => {
      canvas.focus({ preventScroll: true });
      if (this.stroke || !this.begin(this.spotOf(event))) return null;
      if (this.brushes) this.extend(this.spotOf(event), pressure(event));
      return this.stroke;
    };
    const move = (_, event) => {
      const path = event.getCoalescedEvents?.() ?? [];
      for (const one of path.length ? path : [event]) {
        this.spot = this.spotOf(one);
        this.extend(this.spot, pressure(one));
      }
    };
    drag(canvas, { start, move, end: () => this.finish() }, view.life);
  }

  // -- keyboard

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const tool = TOOLS.find(([name]) => name[0] === event.key.toLowerCase());
    const resize = { "[": 0.8, "]": 1.25 }[event.key];
    if (by) this.moveBy(by, event.shiftKey);
    else if (event.key === " " || (event.key === "Escape" && this.down)) this.lower();
    else if (tool) this.set({ tool: tool[0] });
    else if (resize) this.resize(resize);
    else return;
    event.preventDefault();
  }

  resize(factor) {
    const radius = Math.round(this.get("radius") * factor) + (factor > 1 ? 1 : 0);
    this.set({ radius: clamp(radius, 1, Math.max(...this.size) / 3) });
  }

  // By a pixel, or by a 32nd of the side.
  moveBy(by, fine) {
    const from = this.spot ?? this.size.map((side) => side / 2);
    this.spot = from.map((value, axis) => {
      const side = this.size[axis];
      return clamp(value + by[axis] * (fine ? 1 : side / 32), 0, side);
    });
    if (this.down) this.extend(this.spot);
    else this.panel.showOver();
    this.tell();
  }

  // Put the pen down, or up.
  lower() {
    this.spot ??= this.size.map((side) => side / 2);
    if (this.down) {
      this.down = false;
      this.finish();
    } else if (this.begin(this.spot)) {
      this.down = this.tool !== "fill";
      if (this.down) this.extend(this.spot);
      else this.finish();
    }
    this.tell();
  }

  tell() {
    this.said.textContent = `${this.tool} at ${this.spot.map(Math.round).join(", ")}, pen ${this.down ? "down" : "up"}`;
  }
}
