// MapPad: a grey map (depth or a mask) and a palette of named regions, painted over a picture. Strokes are drawn here;
// when one ends, the planes that changed go to Python.

const SHOWN = "layer tool radius soft value value_to low high inverted veil active relief palette shape";
const ABOUT_CANVAS = "Picture to paint on. Arrow keys move, Space puts the pen down and up.";
const ABOUT_RELIEF = "The map in relief. Arrow keys turn it.";

class MapPanel {
  constructor(view, model, store) {
    Object.assign(this, { view, store, size: store.size, turn: [0.45, 0.12], ...knobs(model, view.life) });
    this.show = eachFrame(() => this.refresh());
    this.build();
    store.views.add(this);
    view.life.addEventListener("abort", () => store.views.delete(this));
    this.bind(SHOWN, () => this.show());
    view.watch("change:palette", () => store.takePalette());
    const handlers = {
      plane: (content, data) => store.takePlane(content, data, view.problem),
      backdrop: (_, data) => store.takeBackdrop(data),
      opened: () => store.opened(),
      done: () => {
        view.note("", "detect");
        store.count();
      },
    };
    store.send = wire(model, handlers, view.note, view.life).send;
  }

  build() {
    const [width, height] = this.size;
    const canvas = { width, height, tabindex: 0, role: "application" };
    this.canvas = make("canvas", { ...canvas, "aria-label": ABOUT_CANVAS });
    this.solid = make("canvas", { ...canvas, class: "relief", hidden: true, "aria-label": ABOUT_RELIEF });
    this.over = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const said = make("p", { class: "ctrl-dim", "aria-live": "polite" });
    const intake = new Intake(this.view, this.store, () => this.uses());
    this.pen = new Pen(this, said);
    this.bar = toolbar(this.store, this, intake.buttons());
    this.regions = regionList(this.store, this);
    this.knobs = mapKnobs(this.store, this, this.regions.node);
    const stage = make("div", { class: "stage" }, this.canvas, this.solid, this.over);
    const left = make("div", {}, this.bar.node, stage, said);
    this.view.root.append(make("div", { class: "body" }, left, make("div", {}, intake.node, this.knobs.node)));
    this.listen();
  }

  get range() {
    return { low: this.get("low"), high: this.get("high"), inverted: this.get("inverted") };
  }

  // The planes, with the stroke that is being drawn.
  get planes() {
    return this.pen.stroke?.after ?? this.store.now.planes;
  }

  // -- what is shown

  refresh() {
    if (this.view.life.aborted) return;
    this.paint([0, 0, ...this.size]);
    for (const one of [this.canvas, this.solid]) one.style.aspectRatio = this.store.wide;
    const relief = this.get("relief");
    [this.canvas.hidden, this.solid.hidden, this.over.style.display] = [relief, !relief, relief ? "none" : ""];
    if (relief) this.showRelief();
    this.bar.show();
    this.knobs.show();
    this.regions.show(this.planes);
    this.showOver();
  }

  paint(box) {
    const context = this.canvas.getContext("2d");
    this.pixels ??= context.createImageData(...this.size);
    const { palette } = this.store.now;
    compose(this.pixels.data, this.size, box, {
      planes: this.planes,
      palette,
      regions: this.get("layer") === "regions",
      backdrop: this.store.backdrop,
      veil: this.get("veil"),
      levels: shownLevels(this.range),
    });
    context.putImageData(this.pixels, 0, 0, box[0], box[1], box[2] - box[0], box[3] - box[1]);
    this.canvas.dataset.painted = Number(this.canvas.dataset.painted ?? 0) + 1;
  }

  showRelief() {
    const levels = shownLevels(this.range);
    const map = this.planes.map ?? new Uint8Array(this.size[0] * this.size[1]);
    const heights = map.map((value) => levels[value]);
    drawRelief(this.solid.getContext("2d"), this.pixels.data, heights, this.size, ...this.turn);
  }

  // The brush, the line of the lasso or gradient, and the names of regions.
  showOver() {
    const { stroke: drawing, spot, outline, brushes, tool } = this.pen;
    const marks = [];
    const line = (tag, props) => {
      for (const [stroke, width] of [
        ["#000", 3],
        ["#fff", 1.5],
      ]) {
        marks.push(
          draw(tag, { ...props, fill: "none", stroke, "stroke-width": width, "vector-effect": "non-scaling-stroke" }),
        );
      }
    };
    if (!drawing) marks.push(...this.names());
    if (spot) line("circle", { cx: spot[0], cy: spot[1], r: brushes ? this.get("radius") : 3 });
    if (outline?.length > 1 && !brushes) {
      line("polyline", { points: (tool === "gradient" ? [outline[0], outline.at(-1)] : outline).join(" ") });
    }
    this.over.replaceChildren(...marks);
  }

  // The names of regions where they are, or what to do with an empty pad.
  names() {
    const [width, height] = this.size;
    const { planes, palette } = this.store.now;
    const style = `font-size: ${Math.round(width / 36)}px`;
    const empty = !Object.keys(planes).length && !this.store.backdrop;
    if (empty) return [draw("text", { x: width / 2, y: height / 2, text: "Paint here, or drop a picture", style })];
    if (this.get("layer") === "map") return [];
    return palette.flatMap(({ id, name }) => {
      const middle = planes[id] && middleOf(planes[id], width);
      return middle ? [draw("text", { x: middle[0], y: middle[1], text: name, style })] : [];
    });
  }

  // -- turning and undoing

  listen() {
    const { solid, view } = this;
    const turn = (yaw, pitch) => {
      this.turn = [clamp(this.turn[0] + yaw, -1.1, 1.1), clamp(this.turn[1] + pitch, -0.9, 1.1)];
      this.show();
    };
    const move = (from, event) => {
      turn((event.clientX - from.x) / 150, (event.clientY - from.y) / 150);
      [from.x, from.y] = [event.clientX, event.clientY];
    };
    drag(solid, { start: (event) => ({ x: event.clientX, y: event.clientY }), move }, view.life);
    const press = (event) => {
      const by = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (!by) return;
      event.preventDefault();
      turn(...by);
    };
    solid.addEventListener("keydown", press, { signal: view.life });
    const undo = (event) => {
      const typing = event.target.tagName === "INPUT";
      if (typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      this.store.step(event.shiftKey ? "redo" : "undo");
    };
    view.root.addEventListener("keydown", undo, { signal: view.life });
  }

  // -- pictures

  // What a picture that was brought may be for.
  uses() {
    const noun = this.get("subject");
    const able = this.get("can_detect");
    const region = this.store.now.palette.find(({ id }) => id === this.get("active"));
    const why = able ? "" : "Needs MapPad(detect=…), a function from picture to map";
    const uses = [
      [`The ${noun} map`, (pixels) => this.asPlane(pixels, "map"), { class: "ctrl-main" }],
      ["Something to paint over", (pixels) => this.asBackdrop(pixels)],
      [`Detect its ${noun}`, (pixels) => this.detect(pixels), { disabled: !able, title: why }],
    ];
    const paints = region && this.get("layer") === "regions";
    return paints ? [...uses, [`The region “${region.name}”`, (pixels) => this.asPlane(pixels, region.id)]] : uses;
  }

  asPlane(pixels, id) {
    const { planes, palette } = this.store.now;
    const ids = palette.map((one) => one.id);
    const grey = greyOf(pixels);
    if (id === "map") return this.store.commit({ ...planes, map: grey.map((level) => storedLevel(level, this.range)) });
    const made = stroke(planes, ids, id, 255, this.size);
    made.cover.set(grey);
    made.over();
    this.store.commit(made.after);
  }

  async asBackdrop(pixels) {
    this.store.backdrop = pixels;
    this.store.show();
    const canvas = make("canvas", { width: this.size[0], height: this.size[1] });
    canvas.getContext("2d").putImageData(new ImageData(pixels, ...this.size), 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/webp", 0.92));
    this.store.send("backdrop", {}, [await blob.arrayBuffer()]);
  }

  async detect(pixels) {
    this.view.note(`Detecting the ${this.get("subject")}…`, "detect");
    await this.asBackdrop(pixels);
    this.store.send("detect");
  }
}

// The centre of mass of what is inside a plane, or null.
function middleOf(plane, width) {
  let [sum, x, y] = [0, 0, 0];
  for (let at = 0; at < plane.length; at += 5) {
    if (plane[at] < 128) continue;
    sum++;
    x += at % width;
    y += Math.floor(at / width);
  }
  return sum ? [x / sum, y / sum] : null;
}

// The luma of RGBA pixels, as PIL's "L".
function greyOf(pixels) {
  const luma = (at) => 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
  return Uint8Array.from({ length: pixels.length / 4 }, (_, at) => Math.round(luma(at * 4)));
}

// One store for all views of a model: each view is given the model in a wrapper of its own.
export default () => {
  let store;
  return {
    initialize: ({ model }) => void (store = new MapStore(model)),
    render({ model, el, signal }) {
      const view = mount({ model, el, signal }, "map", "Map and regions");
      new MapPanel(view, model, store);
      return view.end;
    },
  };
};
