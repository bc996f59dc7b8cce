// TokenHeat: which words a place attends to, and where a word is attended to. The maps arrive once, as bytes; all that
// follows happens here, without the kernel.

const SHOWN = "pinned active_layers when step look colours strength threshold same_scale cells place code";
const ABOUT_CANVAS = "Picture. Arrow keys move a place, Escape clears it.";

class HeatPanel {
  constructor(view, model) {
    Object.assign(this, { view, model, choice: null, picture: null, parts: [] });
    this.tools = knobs(model, view.life);
    this.show = eachFrame(() => this.refresh());
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": ABOUT_CANVAS });
    this.mark = draw("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.waiting = make("p", { class: "ctrl-dim", text: "Waiting for the maps." });
    this.main = make("div", { hidden: true });
    view.root.append(this.waiting, this.main);
    for (const name of SHOWN.split(" ")) view.watch(`change:${name}`, this.show);
    view.life.addEventListener("abort", () => this.picture?.close());
    this.listen();
  }

  async take(content, buffers) {
    const data = readHeat(content, buffers);
    if (!data) return this.view.problem({ what: "The maps did not arrive whole.", next: "Run this cell again." });
    const picture = await createImageBitmap(new Blob([buffers[0]], { type: "image/png" }));
    this.picture?.close();
    if (this.view.life.aborted) return picture.close();
    this.picture = picture;
    const longer = Math.max(picture.width, picture.height);
    const scale = clamp(longer, 512, 1024) / longer;
    [this.canvas.width, this.canvas.height] = [picture.width * scale, picture.height * scale].map(Math.round);
    this.build(new HeatChoice(data, this.tools.get));
    [this.waiting.hidden, this.main.hidden] = [true, false];
    this.show();
  }

  // Made again for every heat, whose words, layers and steps differ.
  build(choice) {
    this.choice = choice;
    this.built?.abort();
    this.built = new AbortController();
    const life = AbortSignal.any([this.view.life, this.built.signal]);
    const tools = knobs(this.model, life);
    const pointing = (at) => this.pointing(at);
    const [chips, list, bar] = [chipRows(choice, pointing), placeList(choice, pointing), colourBar(choice)];
    const [title, under] = [make("h3"), make("p", { class: "ctrl-dim" })];
    const code = make("pre", { hidden: true, tabindex: 0, "aria-label": "Python" });
    const sentences = (subject) => {
      [title.textContent, under.textContent] = choice.sentences(subject);
      code.textContent = choice.python(subject);
    };
    this.parts = [chips.show, list.show, bar.show, sentences];
    const stage = make("div", { class: "stage" }, this.canvas, this.mark);
    const note = make("p", { class: "ctrl-dim", text: choice.data.note });
    const about = make("div", { "aria-live": "polite" }, title, under);
    const left = make("div", {}, stage, bar.node, scrubber(choice, tools, life), this.files(code), note);
    const right = make("div", {}, about, list.node, lookKnobs(choice, tools), code);
    this.main.replaceChildren(chips.node, make("div", { class: "body" }, left, right));
  }

  files(code) {
    const file = (text, act) => {
      const onclick = () => act(this.choice, (context, subject) => this.paint(context, subject), this.canvas);
      return make("button", { type: "button", title: `Save as ${text}`, onclick }, icon(ICONS.save), text);
    };
    const flip = () => {
      code.hidden = !code.hidden;
      more.setAttribute("aria-expanded", !code.hidden);
    };
    const more = textButton("Show code", flip, { "aria-expanded": "false", hidden: !this.choice.data.words[0].code });
    const gif = this.choice.data.steps.length > 1 ? file("GIF", saveGif) : null;
    return make("div", { class: "ctrl-row" }, file("PNG", savePng), gif, more);
  }

  paint(context, subject) {
    const { get } = this.tools;
    const look = {
      cells: get("cells"),
      colours: get("colours"),
      strength: get("strength"),
      threshold: get("threshold"),
    };
    paintSubject(context, this.picture, subject, look);
    return context;
  }

  refresh() {
    if (!this.choice || this.view.life.aborted) return;
    const subject = this.choice.subject();
    this.paint(this.canvas.getContext("2d", { willReadFrequently: true }), subject);
    this.canvas.dataset.painted = Number(this.canvas.dataset.painted ?? 0) + 1;
    for (const show of this.parts) show(subject);
    this.showMark();
  }

  showMark() {
    const [{ place }, { clientWidth, clientHeight }] = [this.choice, this.canvas];
    const line = (stroke, width) => ({
      fill: "none",
      stroke,
      "stroke-width": width,
      "vector-effect": "non-scaling-stroke",
    });
    const shape = (style) => {
      if (place.length > 1) return draw("polygon", { points: place.join(" "), ...style });
      const [[cx, cy]] = place;
      return draw("ellipse", { cx, cy, rx: 8 / clientWidth, ry: 8 / clientHeight, ...style });
    };
    this.mark.replaceChildren(...(place.length ? [line("#000", 4), line("#fff", 2)].map(shape) : []));
  }

  // -- pointing

  // Listeners of an element for a word: hovering shows the word, a click pins it.
  pointing(at) {
    const point = (word) => () => {
      this.choice.word = word;
      this.show();
    };
    const pin = () => {
      const now = this.choice.pinned;
      this.tools.set({ pinned: now.includes(at) ? now.filter((one) => one !== at) : [...now, at].slice(-2) });
    };
    return {
      onpointerenter: point(at),
      onpointerleave: point(null),
      onfocus: point(at),
      onblur: point(null),
      onclick: pin,
    };
  }

  hover(place) {
    this.choice.hovered = place;
    this.show();
  }

  listen() {
    const { canvas, view } = this;
    const spot = (event) => {
      const box = canvas.getBoundingClientRect();
      return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)];
    };
    const on = (type, act) => canvas.addEventListener(type, act, { signal: view.life });
    on("pointermove", (event) => event.buttons || this.hover([spot(event)]));
    on("pointerleave", (event) => event.buttons || this.hover([]));
    on("keydown", (event) => this.press(event));
    const start = (event) => {
      canvas.focus({ preventScroll: true });
      return { outline: [spot(event)], x: event.clientX, y: event.clientY, far: 0 };
    };
    const move = (grip, event) => {
      grip.far = Math.max(grip.far, Math.hypot(event.clientX - grip.x, event.clientY - grip.y));
      if (grip.far < 8) return;
      grip.outline.push(spot(event));
      if (this.tools.get("place").length) this.tools.set({ place: [] });
      this.hover(grip.outline);
    };
    const end = ({ outline, far }) => {
      const thinned = outline.filter((_, at) => at % Math.ceil(outline.length / 200) === 0);
      this.keep(far < 8 || thinned.length < 3 ? outline.slice(0, 1) : thinned);
    };
    drag(canvas, { start, move, end }, view.life);
  }

  // Pin a place; a second click on its cell unpins it.
  keep(place) {
    const { w, h } = this.choice.data;
    const kept = this.tools.get("place");
    const again = place.length < 3 && kept.length === 1 && cellsOf(place, w, h)[0] === cellsOf(kept, w, h)[0];
    this.choice.hovered = [];
    this.tools.set({ place: again ? [] : place });
  }

  press(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") return this.tools.set({ place: [], pinned: [] });
    if (!move) return;
    event.preventDefault();
    const grid = [this.choice.data.w, this.choice.data.h];
    const from = this.tools.get("place")[0] ?? [0.5, 0.5];
    const cell = (value, at) => clamp(Math.floor(value * grid[at]) + move[at], 0, grid[at] - 1);
    this.tools.set({ place: [from.map((value, at) => (cell(value, at) + 0.5) / grid[at])] });
  }
}

// ---- files ----------------------------------------------------------------------------------------------------

function fileName({ maps }, end) {
  const words = maps
    .map((one) => one.label)
    .join("-")
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, 40);
  return `attention-${words || "place"}.${end}`;
}

async function savePng(choice, paint, { width, height }) {
  const subject = choice.subject();
  const range = ({ label, top, unit }) => `${label || "where the marked place attends"}: 0 to ${percent(top)} ${unit}`;
  const words = subject.painter === "decided" ? "who decided each place" : subject.maps.map(range).join("   ");
  const { canvas } = captioned(paint(blank(width, height), subject), words);
  const blob = await new Promise((done) => canvas.toBlob(done));
  const settings = choice.settings(subject, choice.steps);
  const png = pngWithText(new Uint8Array(await blob.arrayBuffer()), "ctrl-attention", settings);
  saveFile(fileName(subject, "png"), new Blob([png], { type: "image/png" }));
}

// One frame a step, all on one scale, the highest of all steps.
function saveGif(choice, paint, canvas) {
  const scale = Math.min(1, 384 / Math.max(canvas.width, canvas.height));
  const [width, height] = [canvas.width, canvas.height].map((side) => Math.round(side * scale));
  const steps = [...choice.data.steps.keys()];
  const subjects = steps.map((step) => choice.subject([step]));
  subjects[0].maps.forEach((_, at) => {
    const top = Math.max(...subjects.map(({ maps }) => maps[at].top));
    for (const { maps } of subjects) maps[at].top = top;
  });
  const frames = subjects.map((subject) => paint(blank(width, height), subject).getImageData(0, 0, width, height).data);
  const gif = animatedGif(frames, width, height, 16, choice.settings(subjects[0], steps));
  saveFile(fileName(subjects[0], "gif"), new Blob([gif], { type: "image/gif" }));
}

function render({ model, el, signal }) {
  const view = mount({ model, el, signal }, "heat", "Attention of words and places");
  const panel = new HeatPanel(view, model);
  const none = () => {
    panel.waiting.textContent = "No maps yet.";
  };
  wire(model, { heat: (content, buffers) => panel.take(content, buffers), nothing: none }, view.note, view.life);
  return view.end;
}

export default { render };
