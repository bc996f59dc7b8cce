// MapPad: a grey map (depth or a mask) and a palette of named regions, painted over a picture. Strokes are drawn here;
// when one ends, the planes that changed go to Python.

const MAP_CSS = `
.ctrl-map { padding: 10px;
.body { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px 18px; }
.body > div { display: grid; gap: 8px; align-content: start; min-width: 0; }
.stage { position: relative; line-height: 0; border-radius: 6px; overflow: hidden; background: repeating-conic-gradient(var(--c-raise) 0 25%, var(--c-bg) 0 50%) 0 0 / 16px 16px; outline: 1px solid var(--c-line); }
.stage[data-drop] { outline: 2px dashed var(--c-accent); }
.stage canvas { width: 100%; height: auto; touch-action: none; cursor: crosshair; }
.stage canvas.relief { cursor: grab; background: var(--c-bg); }
.stage svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.stage text { font: 600 12px var(--jp-ui-font-family, system-ui, sans-serif); text-anchor: middle; fill: #fff; stroke: #000a; stroke-width: 3px; paint-order: stroke; }
.knobs { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 8px 10px; align-items: center; }
small { color: var(--c-dim); font-size: 12px; }
input[type=range] { flex: 1 1 80px; }
.regions-box { grid-column: 1 / -1; display: grid; gap: 6px; justify-items: start; }
.regions { display: grid; gap: 4px; width: 100%; }
.regions > div { display: flex; gap: 6px; align-items: center; padding: 3px; border: 1px solid transparent; border-radius: 8px; }
.regions > div[data-active] { border-color: var(--c-accent); background: var(--c-tint); }
.regions input[type=color] { width: 28px; height: 28px; padding: 0; border: 0; background: none; }
.regions input[type=text] { flex: 1 1 60px; min-width: 0; width: 60px; }
.regions small { width: 3.4em; text-align: right; font-variant-numeric: tabular-nums; }
.intake { display: grid; gap: 8px; padding: 10px; border: 1px solid var(--c-accent); border-radius: 8px; background: var(--c-raise); }
.intake canvas, .intake video { max-width: 160px; max-height: 120px; border-radius: 4px; }
p { margin: 0; } }
@container (min-width: 640px) { .ctrl-map .body { grid-template-columns: minmax(0, 1.35fr) minmax(250px, 1fr); } }
`;

const TOOLS = [
  ["brush", "Brush (B)", "M13.5 2.5 7 8.8M7 8.8c-2-.4-3.6.9-3.8 3.1-.1.8-.6 1.2-1.2 1.4 1.9 1 5.8 1 6.5-1.8.3-1.3-.4-2.4-1.5-2.7Z"],
  ["eraser", "Eraser (E)", "M6 13.5h7.5M9.5 2.5l4 4L7.5 12.5H5L2.5 10 9.5 2.5ZM6 6l4 4"],
  ["lasso", "Lasso (L)", "M8 3c3.3 0 6 1.5 6 3.5S11.3 10 8 10 2 8.5 2 6.5 4.7 3 8 3ZM5 9.7c-1.5.6-1.4 2 0 2.2 1.2.2 1 1.4 0 1.9"],
  ["gradient", "Gradient (G)", "M2.5 2.5h11v11h-11zM2.5 11h11M2.5 9h11M2.5 6h11"],
  ["fill", "Fill (F)", "M6.5 2 2.7 7.4a1 1 0 0 0 .1 1.3l3.6 3.4a1 1 0 0 0 1.4 0L12 7.5 6.5 2ZM13.2 10c.8 1.1 1.2 1.8 1.2 2.4a1.2 1.2 0 0 1-2.4 0c0-.6.4-1.3 1.2-2.4Z"],
];
const SOLID = "M2.5 5 8 2l5.5 3v6L8 14l-5.5-3ZM2.5 5 8 8l5.5-3M8 8v6", CAMERA = "M2 4.5h8v7H2zM10 7.2l4-2.2v6l-4-2.2", HALF = "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11";
const SHOWN = "layer tool radius soft value value_to low high inverted veil active relief palette";
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999"];
const PADS = new WeakMap(); // what all views of one model share

class MapPanel {
  constructor(view, model) {
    if (!PADS.has(model)) PADS.set(model, { past: timeline({ planes: {}, palette: model.get("palette") }, 60), sent: {}, queue: Promise.resolve(), views: new Set(), backdrop: null, loaded: false, number: 0 });
    Object.assign(this, { view, model, pad: PADS.get(model), rows: new Map(), live: null, spot: null, pen: null, turn: [0.45, 0.12], ...knobs(model, view.life) });
    this.size = [this.get("width"), this.get("height")];
    this.pad.views.add(this);
    view.life.addEventListener("abort", () => { this.pad.views.delete(this); this.stopCamera(); });
    this.build();
    this.listen();
    this.bind(SHOWN, () => this.show());
    view.watch("change:palette", () => { if (JSON.stringify(this.get("palette")) !== JSON.stringify(this.now.palette)) this.commit(this.now.planes, this.get("palette")); });
    this.wire = wire(model, { plane: (content, data) => this.later(() => this.takePlane(content, data)), backdrop: (_, data) => this.takeBackdrop(data), opened: () => this.later(() => this.opened()), done: () => view.note("") }, view.note, view.life);
  }

  get now() { return this.pad.past.now; }
  get target() { return this.get("layer") === "map" ? "map" : this.get("active"); }
  get noun() { return this.get("subject") === "depth" ? "Depth" : "Mask"; }

  build() {
    const [width, height] = this.size;
    this.canvas = make("canvas", { width, height, tabindex: 0, role: "application", "aria-label": "Picture to paint on. Arrow keys move, Space puts the pen down and up." });
    this.solid = make("canvas", { width, height, class: "relief", hidden: true, tabindex: 0, role: "application", "aria-label": "The map in relief. Arrow keys turn it." });
    this.over = draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    this.stage = make("div", { class: "stage" }, this.canvas, this.solid, this.over);
    this.intake = make("div", { class: "intake", role: "group", "aria-label": "The picture you brought", hidden: true });
    this.said = make("p", { class: "ctrl-dim", "aria-live": "polite" });
    this.list = make("div", { class: "regions", role: "group", "aria-label": "Regions" });
    this.show = eachFrame(() => this.refresh());
    this.view.root.append(make("div", { class: "body" }, make("div", {}, this.toolbar(), this.stage, this.said), make("div", {}, this.intake, this.knobs())));
  }

  toolbar() {
    const undo = iconButton("Undo", ICONS.undo, () => this.step("undo"));
    const redo = iconButton("Redo", ICONS.redo, () => this.step("redo"));
    this.steps = () => { undo.disabled = !this.pad.past.canUndo; redo.disabled = !this.pad.past.canRedo; };
    const relief = iconButton("Look at it in relief", SOLID, () => this.set({ relief: !this.get("relief") }));
    this.bind("relief", () => relief.setAttribute("aria-pressed", this.get("relief")));
    const picker = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => { this.offer(picker.files[0]); picker.value = ""; } });
    return make("div", { class: "ctrl-row", role: "toolbar", "aria-label": "Tools" }, this.choice("tool", "Tool", TOOLS), undo, redo, iconButton("Clear", ICONS.trash, () => this.clear()),
      relief, make("span", { class: "ctrl-gap" }), picker, iconButton("Open a picture, or drop or paste one", ICONS.open, () => picker.click()), iconButton("Take a picture with the camera", CAMERA, () => this.camera()));
  }

  knobs() {
    const percent = { scale: 100, unit: "%", step: 0.01 };
    const add = textButton("Add a region", () => this.addRegion());
    const swap = iconButton("Invert", HALF, () => this.set({ inverted: !this.get("inverted") }));
    this.bind("inverted", () => swap.setAttribute("aria-pressed", this.get("inverted")));
    const rows = [
      ["Paint", () => true, this.choice("layer", "Layer", [["map", this.noun], ["regions", "Regions"]])],
      ["Value", () => this.get("layer") === "map" && this.get("tool") !== "eraser", ...this.slider("value", "Value, 0 black to 255 white", { min: 0, max: 255, step: 1 })],
      ["fades to", () => this.get("layer") === "map" && this.get("tool") === "gradient", ...this.slider("value_to", "Value at the end of a gradient", { min: 0, max: 255, step: 1 })],
      ["Size", () => ["brush", "eraser"].includes(this.get("tool")), ...this.slider("radius", "Radius of the brush in pixels", { min: 1, max: Math.round(Math.max(...this.size) / 3), step: 1, unit: "px" })],
      ["Softness", () => ["brush", "eraser", "lasso"].includes(this.get("tool")), ...this.slider("soft", "Softness of the edge", { min: 0, max: 1, ...percent })],
      ["Range from", () => this.get("layer") === "map", ...this.slider("low", "What black stands for", { min: 0, max: 255, step: 1 })],
      ["to", () => this.get("layer") === "map", ...this.slider("high", "What white stands for", { min: 0, max: 255, step: 1 }), swap],
      ["Picture", () => this.pad.backdrop, ...this.slider("veil", "How much of the picture shows", { min: 0, max: 1, ...percent })],
    ].map(([text, when, ...parts]) => ({ when, nodes: [make("small", { text }), make("div", { class: "ctrl-row" }, ...parts)] }));
    this.arrange = () => rows.forEach(({ when, nodes }) => nodes.forEach((node) => { node.hidden = !when(); }));
    const regions = make("div", { class: "regions-box" }, this.list, add);
    this.bind("layer", () => { regions.hidden = this.get("layer") !== "regions"; });
    const [paint, ...rest] = rows.map(({ nodes }) => nodes);
    return make("div", { class: "knobs" }, ...paint, regions, ...rest.flat());
  }

  // -- state

  // A new state: shown in every view, its palette a trait, its changed planes sent.
  commit(planes, palette = this.now.palette) {
    this.pad.past.push({ planes, palette });
    this.publish();
  }

  step(way) { if (this.pad.past[way]()) this.publish(); }

  publish() {
    const { palette, planes } = this.now;
    const active = palette.some(({ id }) => id === this.get("active")) ? this.get("active") : palette[0]?.id ?? "";
    this.set({ palette, active });
    for (const id of new Set([...Object.keys(planes), ...Object.keys(this.pad.sent)])) if (this.pad.sent[id] !== planes[id]) this.sendPlane(id, planes[id]);
    for (const other of this.pad.views) other.show();
  }

  sendPlane(id, plane) {
    this.pad.sent[id] = plane;
    this.later(async () => {
      const data = plane && (await deflate(plane));
      if (this.now.planes[id] === plane) this.wire.send("plane", { id }, data ? [data] : []);
    });
  }

  // One after the other, since packing and unpacking take time.
  later(act) { this.pad.queue = this.pad.queue.then(act); }

  async takePlane({ id, opening, number }, [data]) {
    if (number <= this.pad.number || (opening && this.pad.loaded)) return;
    this.pad.number = number;
    const plane = await inflate(data);
    if (plane.length !== this.size[0] * this.size[1]) return this.view.problem({ what: "The map did not arrive whole.", next: "Run this cell again." });
    this.pad.sent[id] = plane;
    this.commit({ ...this.now.planes, [id]: plane });
  }

  // What Python had when the first view opened cannot be undone.
  opened() {
    if (!this.pad.loaded) Object.assign(this.pad, { loaded: true, past: timeline(this.now, 60) });
    this.show();
  }

  async takeBackdrop([data]) {
    this.pad.backdrop = data ? await this.fitted(new Blob([data]), "stretch") : null;
    for (const other of this.pad.views) other.show();
  }

  clear() {
    const { [this.target]: _, ...rest } = this.now.planes;
    this.commit(this.get("layer") === "map" ? rest : this.now.planes.map ? { map: this.now.planes.map } : {});
  }

  addRegion() {
    const { palette, planes } = this.now;
    const free = (make_) => { let n = 1; while (palette.some((one) => Object.values(one).includes(make_(n)))) n++; return make_(n); };
    const region = { id: free((n) => `r${n}`), name: free((n) => `region ${n}`), colour: COLOURS.find((colour) => !palette.some((one) => one.colour === colour)) ?? COLOURS[palette.length % 8] };
    this.commit(planes, [...palette, region]);
    this.set({ active: region.id });
  }

  changeRegion(id, change) { this.commit(this.now.planes, this.now.palette.map((one) => (one.id === id ? { ...one, ...change } : one))); }

  // A name no other region has.
  rename(id, wanted) {
    const taken = this.now.palette.filter((one) => one.id !== id).map((one) => one.name);
    const name = wanted.trim().slice(0, 60) || "region";
    let free = name;
    for (let n = 2; taken.includes(free); n++) free = `${name} ${n}`;
    this.changeRegion(id, { name: free });
  }

  // -- what is shown

  // The planes now, with the stroke that is being drawn.
  get planes() { return this.live?.after ?? this.now.planes; }

  refresh() {
    if (this.view.life.aborted) return;
    this.paint([0, 0, ...this.size]);
    const relief = this.get("relief");
    [this.canvas.hidden, this.solid.hidden, this.over.style.display] = [relief, !relief, relief ? "none" : ""];
    if (relief) this.showRelief();
    this.arrange();
    this.steps();
    this.showRegions();
    this.showOver();
  }

  paint(box) {
    const context = this.canvas.getContext("2d");
    this.pixels ??= context.createImageData(...this.size);
    const look = { low: this.get("low"), high: this.get("high"), inverted: this.get("inverted") };
    const scene = { planes: this.planes, palette: this.now.palette, regions: this.get("layer") === "regions", backdrop: this.pad.backdrop, veil: this.get("veil"), levels: shownLevels(look) };
    compose(this.pixels.data, this.size, box, scene);
    context.putImageData(this.pixels, 0, 0, box[0], box[1], box[2] - box[0], box[3] - box[1]);
    this.canvas.dataset.painted = Number(this.canvas.dataset.painted ?? 0) + 1;
  }

  showRelief() {
    const levels = shownLevels({ low: this.get("low"), high: this.get("high"), inverted: this.get("inverted") });
    const heights = (this.planes.map ?? new Uint8Array(this.size[0] * this.size[1])).map((value) => levels[value]);
    drawRelief(this.solid.getContext("2d"), this.pixels.data, heights, this.size, ...this.turn);
  }

  // One row a region, kept while it stands, so that a field being typed in keeps its focus.
  showRegions() {
    const { palette } = this.now;
    const rows = palette.map(({ id }) => this.rows.get(id) ?? this.regionRow(id));
    this.rows = new Map(palette.map(({ id }, at) => [id, rows[at]]));
    if (rows.some((row, at) => this.list.children[at] !== row.node) || rows.length !== this.list.children.length) this.list.replaceChildren(...rows.map((row) => row.node));
    palette.forEach((region, at) => rows[at].show(region));
  }

  regionRow(id) {
    const colours = make("input", { type: "color", onchange: () => this.changeRegion(id, { colour: colours.value }) });
    const words = make("input", { type: "text", "aria-label": "Name of the region", maxlength: 60, onfocus: () => this.set({ active: id }), onchange: () => this.rename(id, words.value) });
    const pick = make("input", { type: "radio", onchange: () => this.set({ active: id }) });
    const remove = iconButton("", ICONS.close, () => { const { [id]: _, ...rest } = this.now.planes; this.commit(rest, this.now.palette.filter((one) => one.id !== id)); });
    const share = make("small");
    const node = make("div", {}, pick, colours, words, share, remove);
    const show = ({ name, colour }) => {
      const [plane, active] = [this.planes[id], id === this.get("active")];
      [colours.value, pick.checked] = [colour, active];
      if (words.getRootNode().activeElement !== words) words.value = name;
      node.toggleAttribute("data-active", active);
      for (const [one, label] of [[pick, `Paint ${name}`], [colours, `Colour of ${name}`], [remove, `Remove ${name}`]]) one.ariaLabel = one.title = label;
      share.textContent = `${plane ? Math.round((100 * average(plane)) / 255) : 0} %`;
    };
    return { node, show };
  }

  // The brush, the line of the lasso or gradient, and the names of regions.
  showOver() {
    const [brush, marks] = [["brush", "eraser"].includes(this.get("tool")), []];
    const outline = (tag, props) => { for (const [stroke, width] of [["#000", 3], ["#fff", 1.5]]) marks.push(draw(tag, { ...props, fill: "none", stroke, "stroke-width": width, "vector-effect": "non-scaling-stroke" })); };
    if (this.get("layer") === "regions" && !this.live) for (const { id, name } of this.now.palette) if (this.now.planes[id]) marks.push(this.nameOf(name, this.now.planes[id]));
    if (this.spot && brush) outline("circle", { cx: this.spot[0], cy: this.spot[1], r: this.get("radius") });
    else if (this.spot && this.pen === null) outline("circle", { cx: this.spot[0], cy: this.spot[1], r: 3 });
    if (this.outline?.length > 1) outline("polyline", { points: this.get("tool") === "gradient" ? [this.outline[0], this.outline.at(-1)].join(" ") : this.outline.join(" ") });
    const empty = !Object.keys(this.planes).length && !this.pad.backdrop && !this.live;
    if (empty) marks.push(this.words("Paint here, or drop a picture", this.size[0] / 2, this.size[1] / 2));
    this.over.replaceChildren(...marks.filter(Boolean));
  }

  nameOf(name, plane) {
    let [sum, x, y] = [0, 0, 0];
    for (let at = 0; at < plane.length; at += 5) if (plane[at] > 127) { sum++; x += at % this.size[0]; y += Math.floor(at / this.size[0]); }
    return sum ? this.words(name, x / sum, y / sum) : null;
  }

  words(text, x, y) { return draw("text", { x, y, text, style: `font-size: ${Math.round(this.size[0] / 36)}px` }); }

  // -- painting

  spotOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.size[0], ((event.clientY - box.top) / box.height) * this.size[1]];
  }

  // Begin a stroke at a place; null where there is nothing to paint on.
  begin(spot) {
    if (!this.target) { this.view.note("Add a region first, then paint it."); return null; }
    this.view.note("");
    const erase = this.get("tool") === "eraser";
    const look = { low: this.get("low"), high: this.get("high"), inverted: this.get("inverted") };
    this.stored = (value) => storedLevel(value, look);
    const value = this.get("layer") === "map" ? this.stored(erase ? 0 : this.get("value")) : erase ? 0 : 255;
    this.live = stroke(this.now.planes, this.now.palette.map(({ id }) => id), this.target, value, this.size);
    this.outline = [spot];
    return this.live;
  }

  extend(spot, pressure = 1) {
    const last = this.outline.at(-1);
    this.outline.push(spot);
    if (!["brush", "eraser"].includes(this.get("tool"))) return this.showOver();
    const box = coverLine(this.live.cover, this.size, last, spot, this.get("radius") * pressure, this.get("soft"));
    this.live.over(box);
    this.paint(box);
    this.showOver();
  }

  finish() {
    const [tool, points, { live }] = [this.get("tool"), this.outline, this];
    const fills = { lasso: () => points.length > 2 && coverOutline(this.size, points, this.get("soft") * this.get("radius")), fill: () => this.alike(points[0]), gradient: () => points.length > 1 && coverGradient(this.size, points[0], points.at(-1)) };
    const cover = fills[tool]?.();
    if (cover) {
      live.cover.set(cover);
      live.over();
      if (tool === "gradient" && this.target === "map") this.blend(live.after.map, cover);
    }
    [this.live, this.outline] = [null, null];
    if (cover !== false) this.commit(live.after);
    this.show();
  }

  // A gradient replaces the map: from one value to another.
  blend(map, cover) {
    const [from, to] = [this.get("value"), this.get("value_to")].map(this.stored);
    for (let at = 0; at < map.length; at++) map[at] = Math.round(to + ((from - to) * cover[at]) / 255);
  }

  // What joins a place: of the map the same grey, of regions the same region, and of the picture below the same colour.
  alike(spot) {
    const { map } = this.now.planes, { backdrop } = this.pad;
    const regions = this.now.palette.map(({ id }) => this.now.planes[id]).filter(Boolean);
    const picture = (at) => (backdrop ? [backdrop[at * 4], backdrop[at * 4 + 1], backdrop[at * 4 + 2]] : []);
    const level = this.get("layer") === "map" ? (at) => [map?.[at] ?? 0, ...(map ? [] : picture(at))] : (at) => [...regions.map((plane) => plane[at]), ...(backdrop ? picture(at) : [map?.[at] ?? 0])];
    return coverAlike(this.size, level, spot, 24);
  }

  listen() {
    const { canvas, solid, view: { life } } = this;
    const at = (event) => { this.spot = this.spotOf(event); this.showOver(); };
    canvas.addEventListener("pointermove", (event) => { if (!this.live) at(event); }, { signal: life });
    canvas.addEventListener("pointerleave", () => { this.spot = null; if (!this.live) this.showOver(); }, { signal: life });
    canvas.addEventListener("keydown", (event) => this.press(event), { signal: life });
    const pressure = (event) => (event.pointerType === "pen" ? Math.max(0.15, event.pressure) : 1);
    drag(canvas, {
      start: (event) => {
        canvas.focus({ preventScroll: true });
        if (this.live || !this.begin(this.spotOf(event))) return null;
        if (["brush", "eraser"].includes(this.get("tool"))) this.extend(this.spotOf(event), pressure(event));
        return this.live;
      },
      move: (_, event) => {
        const path = event.getCoalescedEvents?.() ?? [];
        for (const one of path.length ? path : [event]) { this.spot = this.spotOf(one); this.extend(this.spot, pressure(one)); }
      },
      end: () => this.finish(),
    }, life);
    const turn = (x, y) => { this.turn = [clamp(this.turn[0] + x, -1.1, 1.1), clamp(this.turn[1] + y, -0.9, 1.1)]; this.show(); };
    drag(solid, { start: (event) => ({ x: event.clientX, y: event.clientY }), move: (from, event) => { turn((event.clientX - from.x) / 150, (event.clientY - from.y) / 150); [from.x, from.y] = [event.clientX, event.clientY]; } }, life);
    solid.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (by) { event.preventDefault(); turn(...by); }
    }, { signal: life });
    this.view.root.addEventListener("keydown", (event) => {
      if (event.target.tagName === "INPUT" || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      this.step(event.shiftKey ? "redo" : "undo");
    }, { signal: life });
    takeFiles(this.view.root, (file) => this.offer(file), life);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const tool = TOOLS.find(([name]) => name[0] === event.key.toLowerCase());
    const resize = { "[": 0.8, "]": 1.25 }[event.key];
    if (by) this.moveTo((this.spot ?? this.size.map((side) => side / 2)).map((value, axis) => clamp(value + by[axis] * (event.shiftKey ? 1 : this.size[axis] / 32), 0, this.size[axis])));
    else if (event.key === " ") this.penDown();
    else if (event.key === "Escape" && this.pen) this.penDown();
    else if (tool) this.set({ tool: tool[0] });
    else if (resize) this.set({ radius: clamp(Math.round(this.get("radius") * resize) + (resize > 1 ? 1 : 0), 1, Math.max(...this.size) / 3) });
    else return;
    event.preventDefault();
  }

  moveTo(spot) {
    this.spot = spot;
    if (this.pen) this.extend(spot);
    this.tell();
    this.showOver();
  }

  penDown() {
    this.spot ??= this.size.map((side) => side / 2);
    if (this.pen) { this.pen = null; this.finish(); }
    else if (this.begin(this.spot)) {
      if (this.get("tool") === "fill") this.finish();
      else { this.pen = this.live; this.extend(this.spot); }
    }
    this.tell();
  }

  tell() { this.said.textContent = `${this.get("tool")} at ${this.spot.map(Math.round).join(", ")}, pen ${this.pen ? "down" : "up"}`; }

  // -- pictures

  // A picture as RGBA at the size of the map: stretched, or cut or padded to its proportions.
  async fitted(source, fit) {
    const bitmap = source instanceof Blob ? await createImageBitmap(source) : source;
    const [w, h] = this.size;
    const context = make("canvas", { width: w, height: h }).getContext("2d", { willReadFrequently: true });
    const scale = (fit === "cut" ? Math.max : Math.min)(w / bitmap.width, h / bitmap.height);
    const [width, height] = fit === "stretch" ? [w, h] : [bitmap.width * scale, bitmap.height * scale];
    context.fillRect(0, 0, w, h);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (w - width) / 2, (h - height) / 2, width, height);
    return context.getImageData(0, 0, w, h).data;
  }

  async offer(file) {
    this.stopCamera();
    const picture = await readPicture(file).catch(() => null);
    if (!picture) return this.view.problem({ what: `${file.name || "The file"} is not a picture that this browser can read.`, next: "Use a PNG, JPEG or WebP." });
    this.ask(picture.blob, picture.shrunk ? `It was reduced to ${picture.width} × ${picture.height}.` : "");
  }

  // What a picture is for.
  async ask(blob, note) {
    const bitmap = await createImageBitmap(blob);
    const small = make("canvas", { width: 160, height: Math.round((160 * bitmap.height) / bitmap.width) });
    small.getContext("2d").drawImage(bitmap, 0, 0, small.width, small.height);
    const fit = make("select", { "aria-label": "Fit" }, ...["cut", "pad", "stretch"].map((text) => make("option", { text })));
    const close = () => { bitmap.close(); this.intake.hidden = true; };
    const use = (text, act, props = {}) => textButton(text, async () => { const pixels = await this.fitted(bitmap, fit.value); close(); act(pixels); }, props);
    const active = this.now.palette.find(({ id }) => id === this.get("active"));
    const able = this.get("can_detect");
    const alike = bitmap.width * this.size[1] === bitmap.height * this.size[0];
    this.intake.replaceChildren(small, make("p", { text: note || "What is this picture?" }), make("div", { class: "ctrl-row" },
      use(`The ${this.noun.toLowerCase()} map`, (pixels) => this.asPlane(pixels, "map"), { class: "ctrl-main" }),
      use("Something to paint over", (pixels) => this.asBackdrop(pixels)),
      use(`Detect its ${this.noun.toLowerCase()}`, (pixels) => this.detect(pixels), { disabled: !able, title: able ? "" : "Needs MapPad(detect=…), a function from picture to map" }),
      active && this.get("layer") === "regions" ? use(`The region “${active.name}”`, (pixels) => this.asPlane(pixels, active.id)) : null,
      alike ? null : fit, textButton("Cancel", close)));
    this.intake.hidden = false;
    this.intake.querySelector("button").focus();
  }

  asPlane(pixels, id) {
    const look = { low: this.get("low"), high: this.get("high"), inverted: this.get("inverted") };
    const grey = Uint8Array.from({ length: pixels.length / 4 }, (_, at) => Math.round(0.299 * pixels[at * 4] + 0.587 * pixels[at * 4 + 1] + 0.114 * pixels[at * 4 + 2]));
    if (id === "map") return this.commit({ ...this.now.planes, map: grey.map((value) => storedLevel(value, look)) });
    const live = stroke(this.now.planes, this.now.palette.map((one) => one.id), id, 255, this.size);
    live.cover.set(grey);
    live.over();
    this.commit(live.after);
  }

  async encoded(pixels) {
    const canvas = make("canvas", { width: this.size[0], height: this.size[1] });
    canvas.getContext("2d").putImageData(new ImageData(pixels, ...this.size), 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/webp", 0.92));
    return new Uint8Array(await blob.arrayBuffer());
  }

  async asBackdrop(pixels) {
    this.pad.backdrop = pixels;
    for (const other of this.pad.views) other.show();
    this.wire.send("backdrop", {}, [await this.encoded(pixels)]);
  }

  async detect(pixels) {
    this.view.note(`Detecting the ${this.noun.toLowerCase()}…`);
    await this.asBackdrop(pixels);
    this.wire.send("detect");
  }

  async camera() {
    if (this.stream) return this.stopCamera();
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1024 } });
    } catch (error) {
      return this.view.problem({ what: "The camera is not available.", why: error?.message ?? String(error), next: "Allow the camera for this page; it needs https or localhost. Or open, drop or paste a picture." });
    }
    const video = make("video", { autoplay: true, playsinline: true, "aria-label": "Camera" });
    video.muted = true;
    video.srcObject = this.stream;
    const take = async () => {
      const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      this.stopCamera();
      this.ask(await new Promise((done) => canvas.toBlob(done)), "");
    };
    this.intake.replaceChildren(video, make("div", { class: "ctrl-row" }, textButton("Take the picture", take, { class: "ctrl-main" }), textButton("Cancel", () => this.stopCamera())));
    this.intake.hidden = false;
  }

  stopCamera() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.intake.hidden = true;
  }
}

const average = (plane) => plane.reduce((sum, value) => sum + value, 0) / plane.length;

function render({ model, el, signal }) {
  const view = mount({ model, el, signal }, "map", "Map and regions", MAP_CSS);
  new MapPanel(view, model);
  return view.end;
}

export default { render };
