// TokenHeat: which words a place attends to, and where a word is attended to. The maps arrive once, as bytes; all that
// follows happens here, without the kernel.

const HEAT_CSS = `
.ctrl-heat { padding: 10px;
.chips, .knobs { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 10px; align-items: center; }
small { color: var(--c-dim); font-size: 12px; }
.words { display: flex; flex-wrap: wrap; gap: 4px 3px; }
.words button { position: relative; overflow: hidden; min-height: 27px; padding: 1px 7px; font-size: 14px; border-color: transparent; background: var(--c-raise); }
.words button::after { content: ""; position: absolute; inset: auto 0 0; height: 3px; background: var(--hue); transform: scaleX(var(--share, 0)); transform-origin: left; }
.words button[data-pause] { margin-left: 9px; }
.words button[aria-pressed=true] { color: inherit; font-weight: 600; border-color: var(--hue); background: var(--c-tint); }
.words img { height: 34px; border-radius: 3px; }
.body { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px 18px; margin-top: 12px; }
.body > div { display: grid; gap: 10px; align-content: start; min-width: 0; }
.stage { position: relative; line-height: 0; }
canvas { width: 100%; height: auto; border-radius: 4px; cursor: crosshair; touch-action: none; }
.stage svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; overflow: visible; }
.bar { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content; gap: 2px 8px; align-items: center; min-height: 18px; font-variant-numeric: tabular-nums; }
.bar i { height: 10px; border-radius: 3px; border: 1px solid var(--c-line); }
h3, p { margin: 0; font-size: 13px; overflow-wrap: anywhere; }
h3 { font-size: 15px; }
.ranked { display: grid; gap: 1px; }
.ranked button { display: grid; grid-template-columns: minmax(56px, 30%) minmax(0, 1fr) 4.4em; gap: 8px; min-height: 24px; padding: 0 6px; border-color: transparent; text-align: left; }
.ranked b { font-weight: 500; overflow: hidden; text-overflow: ellipsis; }
.ranked i { align-self: center; height: 8px; border-radius: 2px; background: var(--hue); min-width: 1px; }
.ranked span { text-align: right; font-variant-numeric: tabular-nums; color: var(--c-dim); }
.strip { display: flex; height: 14px; border-radius: 4px; overflow: hidden; margin: 6px 0 4px; }
.knobs { border-top: 1px solid var(--c-line); padding-top: 10px; }
input[type=range] { flex: 1 1 80px; }
.line { display: flex; flex: 1 1 200px; gap: 6px; align-items: center; }
.bar i, .ranked i, .strip i, button::after { forced-color-adjust: none; }
pre { margin: 0; padding: 8px 10px; border-radius: 6px; background: var(--c-raise); white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.5 var(--jp-code-font-family, ui-monospace, monospace); }
@container (min-width: 620px) { .body { grid-template-columns: minmax(0, 1.15fr) minmax(270px, 1fr); } }
@container (max-width: 440px) { .chips, .knobs { grid-template-columns: minmax(0, 1fr); gap: 4px; } }
}
`;

const INFLUENCE = "influence"; // the source whose shares say who decided a place
const LOOKS = { heat: "Heat", spotlight: "Spotlight", outline: "Outline", decided: "Who decided" };
const WHEN = { all: "All steps", last: "Last three", one: "One step" };
const SHOWN = ["pinned", "active_layers", "when", "step", "look", "colours", "strength", "threshold", "same_scale", "cells", "place", "code"];
const PERCENT = { step: 0.05, scale: 100, unit: "%" };
const ROWS = { [INFLUENCE]: 0, prompt: 7 }; // how many words of a source are ranked, else 3

class HeatPanel {
  constructor(view, model) {
    Object.assign(this, { view, model, data: null, word: null, hovered: [], chips: new Map(), rows: new Map(), ...knobs(model, view.life) });
    this.show = eachFrame(() => this.refresh());
    this.waiting = make("p", { class: "ctrl-dim", text: "Waiting for the maps." });
    this.chipRows = make("div", { class: "chips" });
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "Picture. Arrow keys move a place, Escape clears it." });
    this.mark = draw("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.title = make("h3");
    for (const name of ["bar", "scrub", "files", "ranked", "strip", "knobs"]) this[name] = make("div", { class: name });
    for (const name of ["under", "where", "leader", "receipt"]) this[name] = make("p", { class: "ctrl-dim" });
    this.code = make("pre", { hidden: true, tabindex: 0, "aria-label": "Python" });
    const left = make("div", {}, make("div", { class: "stage" }, this.canvas, this.mark), this.bar, this.scrub, this.files, this.receipt);
    const about = make("div", { "aria-live": "polite" }, this.title, this.under);
    const body = make("div", { class: "body" }, left, make("div", {}, about, make("div", {}, this.where, this.ranked, this.strip, this.leader), this.knobs, this.code));
    this.main = make("div", { hidden: true }, this.chipRows, body);
    view.root.append(this.waiting, this.main);
    for (const name of SHOWN) view.watch(`change:${name}`, this.show);
    this.listen();
  }

  async take(content, buffers) {
    const data = readHeat(content, buffers);
    if (!data) return this.view.problem({ what: "The maps did not arrive whole.", next: "Run this cell again." });
    const picture = await createImageBitmap(new Blob([buffers[0]], { type: "image/png" }));
    this.picture?.close();
    if (this.view.life.aborted) return picture.close();
    Object.assign(this, { data, picture, word: null, hovered: [] });
    const longer = Math.max(picture.width, picture.height);
    [this.canvas.width, this.canvas.height] = [picture.width, picture.height].map((side) => Math.round((side / longer) * clamp(longer, 512, 1024)));
    this.buildChips();
    this.buildKnobs();
    [this.waiting.hidden, this.main.hidden] = [true, false];
    this.show();
  }

  // -- what is chosen

  get layers() { const on = this.get("active_layers").filter((at) => at < this.data.layers.length); return on.length ? on : [...this.data.layers.keys()]; }
  get step() { return Math.min(this.get("step"), this.data.steps.length - 1); }
  get steps() { const all = [...this.data.steps.keys()]; return { all, last: all.slice(-3), one: [this.step] }[this.get("when")]; }
  get place() { return this.get("place").length ? this.get("place") : this.hovered; }
  get pinned() { return this.get("pinned").filter((at) => at < this.data.words.length); }
  of(source) { return [...this.data.words.keys()].filter((at) => this.data.words[at].source === source); }
  map(word, when = this.steps) { return this.data.mean(word, this.layers, when); }

  label(at) {
    const { text, source } = this.data.words[at];
    const alike = this.of(source).filter((other) => this.data.words[other].text === text);
    return alike.length > 1 ? `${text} (${alike.indexOf(at) + 1} of ${alike.length})` : text;
  }

  hue(at) {
    const party = this.of(INFLUENCE).indexOf(at);
    const pair = this.pinned.length === 2 ? this.pinned.indexOf(at) : -1;
    return party < 0 && pair < 0 ? "var(--c-accent)" : `#${HUES[Math.max(party, pair) % HUES.length]}`;
  }

  // What the strongest colour stands for: the map's own maximum, or that of all words of its source.
  top(map, word, when) {
    const alike = this.get("same_scale") && word !== undefined ? this.of(this.data.words[word].source).map((at) => this.map(at, when)) : [map];
    return Math.max(...alike.map(highest)) || 1;
  }

  one(word, when) {
    const map = this.map(word, when);
    const unit = this.data.words[word].source === INFLUENCE ? "of what was added" : this.data.unit;
    return { label: this.label(word), map, w: this.data.w, h: this.data.h, unit, top: this.top(map, word, when) };
  }

  // The maps to show and how: a hovered word before pinned words before a place.
  subject(when = this.steps) {
    const [look, parties] = [this.get("look"), this.of(INFLUENCE)];
    if (look === "decided" && parties.length && this.word === null) return { painter: look, maps: parties.map((at) => ({ ...this.one(at, when), top: 1 })) };
    const words = this.word === null ? this.pinned : [this.word];
    const maps = words.map((at) => this.one(at, when));
    if (!maps.length && this.place.length && this.data.hasPlaces) {
      const found = this.data.attention(this.place);
      maps.push({ ...found, label: "", unit: this.data.unit, top: this.top(found.map) });
    }
    return { painter: maps.length > 1 ? "pair" : look === "decided" ? "heat" : look, maps };
  }

  // -- what is shown

  paint(context, subject) {
    const names = ["cells", "colours", "strength", "threshold"];
    paintSubject(context, this.picture, subject, Object.fromEntries(names.map((name) => [name, this.get(name)])));
    return context;
  }

  refresh() {
    if (!this.data || this.view.life.aborted) return;
    const subject = this.subject();
    this.paint(this.canvas.getContext("2d", { willReadFrequently: true }), subject);
    this.canvas.dataset.painted = Number(this.canvas.dataset.painted ?? 0) + 1;
    this.showBar(subject);
    [this.title.textContent, this.under.textContent] = this.sentences(subject);
    this.showPlace();
    this.showMark();
    this.code.textContent = this.python(subject);
  }

  showBar({ painter, maps }) {
    const limit = this.get("threshold");
    const edge = `${limit * 100}%`;
    const stops = { spotlight: "#000, #fff", outline: `var(--c-raise) ${edge}, var(--c-accent) ${edge}` }[painter] ?? COLOUR_MAPS[this.get("colours")].split(" ").map((stop) => `#${stop}`).join(", ");
    this.bar.replaceChildren(...(painter === "decided" ? [] : maps).flatMap((one, at) => {
      const colours = painter === "pair" ? `#0000, #${HUES[at]}` : stops;
      const low = { pair: `${one.label} 0 %`, outline: `outlined from ${percent(one.top * limit)}` }[painter] ?? "0 %";
      return [make("small", { text: low }), make("i", { style: `background: linear-gradient(to right, ${colours})` }), make("small", { text: percent(one.top) })];
    }));
  }

  sentences({ painter, maps }) {
    const layers = this.layers.length === this.data.layers.length ? "all layers" : this.layers.map((at) => this.data.layers[at]).join(", ");
    const chosen = `${layers}, ${this.get("when") === "one" ? `step ${this.step + 1} of ${this.data.steps.length}` : WHEN[this.get("when")].toLowerCase()}`;
    if (painter === "decided") return ["Who decided each place", `The party with the largest share of what was added; ${chosen}.`];
    if (!maps.length) return ["Point at a word or at the picture", "Click to keep it. Draw around an area to ask about all of it."];
    const most = maps.map((one) => percent(highest(one.map))).join(" and ");
    if (maps.length > 1) return [maps.map((one) => `“${one.label}”`).join(" and "), `Up to ${most} ${maps[0].unit}; ${chosen}.`];
    if (maps[0].label) return [`“${maps[0].label}”`, `Up to ${most} ${maps[0].unit}, ${percent(average(maps[0].map))} on average; ${chosen}.`];
    return [`Where this ${this.place.length > 2 ? "area" : "place"} attends`, `Up to ${most} ${maps[0].unit} in one cell; evenly spread it would be ${percent(1 / maps[0].map.length)}.`];
  }

  // The words and the parties of the place, or of the whole picture.
  showPlace() {
    const cells = this.place.length ? cellsOf(this.place, this.data.w, this.data.h) : null;
    const share = this.data.words.map((_, at) => average(this.map(at), cells));
    this.where.textContent = !cells ? "Over the whole picture" : this.place.length > 2 ? `In this area of ${cells.length} cells` : "At this place";
    this.ranked.replaceChildren(...this.sources.flatMap((source) => {
      const order = this.of(source).sort((a, b) => share[b] - share[a]).slice(0, ROWS[source] ?? 3);
      const heading = this.sources.length > 1 && order.length ? [make("small", { text: titled(source) })] : [];
      return [...heading, ...order.map((at) => this.rank(at, share[at], share[order[0]]))];
    }));
    for (const [at, chip] of this.chips) {
      const most = this.data.words[at].source === INFLUENCE ? 1 : Math.max(...this.of(this.data.words[at].source).map((other) => share[other]));
      chip.style.cssText = `--hue: ${this.hue(at)}; --share: ${share[at] / (most || 1)}`;
      chip.setAttribute("aria-pressed", this.pinned.includes(at));
    }
    this.showParties(share);
  }

  // One row a word, kept when the order changes, so that the focused row stays focused.
  rank(at, share, most) {
    if (!this.rows.has(at)) this.rows.set(at, make("button", { type: "button", ...this.pointing(at) }, make("b", { text: this.label(at) }), make("i"), make("span")));
    const row = this.rows.get(at);
    row.style.setProperty("--hue", this.hue(at));
    row.children[1].style.width = `${(share / (most || 1)) * 100}%`;
    row.children[2].textContent = percent(share);
    return row;
  }

  showParties(share) {
    const parties = this.of(INFLUENCE);
    this.strip.replaceChildren(...parties.map((at) => make("i", { style: `width: ${share[at] * 100}%; background: ${this.hue(at)}` })));
    const lead = parties.sort((a, b) => share[b] - share[a])[0];
    this.strip.hidden = this.leader.hidden = lead === undefined;
    if (lead !== undefined) this.leader.textContent = `Decided most by ${this.label(lead)}, ${percent(share[lead])}`;
  }

  showMark() {
    const [place, { clientWidth, clientHeight }] = [this.place, this.canvas];
    const shape = place.length > 1 ? ["polygon", { points: place.join(" ") }] : place.length ? ["ellipse", { cx: place[0][0], cy: place[0][1], rx: 8 / clientWidth, ry: 8 / clientHeight }] : null;
    const line = (stroke, width) => draw(shape[0], { ...shape[1], fill: "none", stroke, "stroke-width": width, "vector-effect": "non-scaling-stroke" });
    this.mark.replaceChildren(...(shape ? [line("#000", 4), line("#fff", 2)] : []));
  }

  python({ maps }) {
    const words = maps.length && maps[0].label ? maps.map((one) => one.label.replace(/ \(\d+ of \d+\)$/, "")) : [this.data.words[0].text];
    const [layers, place] = [this.layers.map((at) => this.data.layers[at]), this.place.map((point) => point.map((value) => Number(value.toFixed(3))))];
    const steps = `range(${this.steps[0]}, ${this.steps.at(-1) + 1})`;
    const list = (value) => JSON.stringify(value).replaceAll(/([\]"\d]),(?=[["\d])/g, "$1, ");
    const chosen = { word: list(words.length > 1 ? words : words[0]), layers: list(layers), steps, place: list(place) };
    return this.get("code").replace(/\{(word|layers|steps|place)\}/g, (_, name) => chosen[name]);
  }

  // -- pointing

  pointing(at) {
    const point = (word) => () => { this.word = word; this.show(); };
    const pin = () => { const now = this.pinned; this.set({ pinned: now.includes(at) ? now.filter((one) => one !== at) : [...now, at].slice(-2) }); };
    return { onpointerenter: point(at), onpointerleave: point(null), onfocus: point(at), onblur: point(null), onclick: pin };
  }

  listen() {
    const { canvas, view: { life } } = this;
    const spot = (event) => { const box = canvas.getBoundingClientRect(); return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)]; };
    const hover = (place) => { this.hovered = place; this.show(); };
    canvas.addEventListener("pointermove", (event) => { if (!event.buttons) hover([spot(event)]); }, { signal: life });
    canvas.addEventListener("pointerleave", (event) => { if (!event.buttons) hover([]); }, { signal: life });
    canvas.addEventListener("keydown", (event) => this.press(event), { signal: life });
    drag(canvas, {
      start: (event) => { canvas.focus({ preventScroll: true }); return { outline: [spot(event)], x: event.clientX, y: event.clientY, far: 0 }; },
      move: (grip, event) => {
        grip.far = Math.max(grip.far, Math.hypot(event.clientX - grip.x, event.clientY - grip.y));
        if (grip.far < 8) return;
        grip.outline.push(spot(event));
        if (this.get("place").length) this.set({ place: [] });
        hover(grip.outline);
      },
      end: (grip) => this.keep(grip.far < 8 ? grip.outline.slice(0, 1) : grip.outline.filter((_, at) => at % Math.ceil(grip.outline.length / 200) === 0)),
    }, life);
  }

  // Keep a place; a second click on its cell lets it go.
  keep(place) {
    const cells = (one) => String(cellsOf(one, this.data.w, this.data.h));
    this.hovered = [];
    this.set({ place: place.length < 3 && cells(place.slice(0, 1)) === cells(this.get("place")) ? [] : place.length < 3 ? place.slice(0, 1) : place });
  }

  press(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") return this.set({ place: [], pinned: [] });
    if (!move) return;
    event.preventDefault();
    const grid = [this.data.w, this.data.h];
    this.set({ place: [(this.get("place")[0] ?? [0.5, 0.5]).map((value, at) => (clamp(Math.floor(value * grid[at]) + move[at], 0, grid[at] - 1) + 0.5) / grid[at])] });
  }

  buildChips() {
    this.chips.clear();
    this.rows.clear();
    this.sources = [...new Set(this.data.words.map((word) => word.source))];
    this.chipRows.replaceChildren(...this.sources.flatMap((source) => {
      const chips = this.of(source).map((at, index, all) => this.chip(at, this.data.words[at].start - (this.data.words[all[index - 1]]?.end ?? Infinity) > 1));
      return [make("small", { text: titled(source) }), roving(make("div", { class: "words", role: "toolbar", "aria-label": titled(source) }, ...chips))];
    }));
  }

  chip(at, pause) {
    const { picture, text } = this.data.words[at];
    const chip = make("button", { type: "button", "aria-label": this.label(at), "data-pause": pause, ...this.pointing(at) });
    if (picture === null) chip.textContent = text;
    else chip.append(make("img", { alt: "", src: `data:image/png;base64,${toBase64(this.data.pictures[picture])}` }));
    this.chips.set(at, chip);
    return chip;
  }

  // -- knobs

  // Anew for every heat, since words, layers and steps are others.
  buildKnobs() {
    const { data } = this;
    this.built?.abort();
    this.built = new AbortController();
    const life = AbortSignal.any([this.view.life, this.built.signal]);
    Object.assign(this, knobs(this.model, life));
    const looks = Object.entries(LOOKS).filter(([look]) => look !== "decided" || this.of(INFLUENCE).length);
    const colours = make("select", { "aria-label": "Colours", onchange: () => this.set({ colours: colours.value }) }, ...Object.keys(COLOUR_MAPS).map((text) => make("option", { text })));
    colours.value = this.get("colours");
    const rows = [["Look", this.choice("look", "Look", looks), colours], ["Strength", ...this.slider("strength", "Strength", { min: 0, max: 1, ...PERCENT })]];
    rows.push(["Outline at", ...this.slider("threshold", "Outline at, of the maximum", { min: 0.05, max: 0.95, ...PERCENT })]);
    rows.push(["Scale", this.toggle("same_scale", "One scale for all words"), this.toggle("cells", "Cells as squares")]);
    if (data.layers.length > 1) rows.unshift(["Layers", ...this.layerButtons()]);
    this.knobs.replaceChildren(...rows.flatMap(([text, ...parts]) => [make("small", { text }), make("div", { class: "ctrl-row" }, ...parts)]));
    this.scrub.replaceChildren(...(data.steps.length > 1 ? this.scrubber(life) : []));
    const file = (text, onclick) => make("button", { type: "button", title: `Save as ${text}`, onclick }, icon(ICONS.save), text);
    const code = textButton("Show code", () => { code.setAttribute("aria-expanded", code.ariaExpanded !== "true"); this.code.hidden = !this.code.hidden; }, { "aria-expanded": "false", hidden: !this.get("code") });
    this.files.className = this.scrub.className = "ctrl-row";
    this.files.replaceChildren(file("PNG", () => this.savePng()), data.steps.length > 1 ? file("GIF", () => this.saveGif()) : "", code);
    this.receipt.textContent = data.note;
  }

  scrubber(life) {
    let timer = null;
    const play = textButton("Play", () => {
      if (timer) return stop();
      play.textContent = "Stop";
      timer = setInterval(() => this.set({ when: "one", step: (this.step + 1) % this.data.steps.length }), 160);
    });
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
    life.addEventListener("abort", stop);
    const name = make("small");
    this.bind("step", () => { name.textContent = this.data.steps[this.step]; });
    const slider = this.slider("step", "Step", { min: 0, max: this.data.steps.length - 1, step: 1, first: 1, more: { when: "one" } });
    return [this.choice("when", "Steps", Object.entries(WHEN)), play, make("div", { class: "line" }, ...slider, name)];
  }

  layerButtons() {
    const flip = (at) => {
      const [now, count] = [this.layers, this.data.layers.length];
      const next = now.length === count ? [at] : now.includes(at) ? now.filter((one) => one !== at) : [...now, at].sort((a, b) => a - b);
      this.set({ active_layers: next.length === count ? [] : next });
    };
    const all = textButton("All", () => this.set({ active_layers: [] }));
    const each = this.data.layers.map((text, at) => textButton(text, () => flip(at)));
    this.bind("active_layers", () => {
      const every = this.layers.length === each.length;
      all.setAttribute("aria-pressed", every);
      each.forEach((button, at) => button.setAttribute("aria-pressed", !every && this.layers.includes(at)));
    });
    return [all, ...each];
  }

  // -- files

  settings({ maps }, steps) {
    const shown = maps.map(({ label, top, unit }) => ({ label, top, unit }));
    return JSON.stringify({ shown, place: this.place, layers: this.layers.map((at) => this.data.layers[at]), steps, look: this.get("look"), colours: this.get("colours") });
  }

  fileName({ maps }, end) { return `attention-${maps.map((one) => one.label).join("-").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "place"}.${end}`; }

  async savePng() {
    const subject = this.subject();
    const words = subject.painter === "decided" ? "who decided each place" : subject.maps.map((one) => `${one.label || "where the marked place attends"}: 0 to ${percent(one.top)} ${one.unit}`).join("   ");
    const picture = captioned(this.paint(blank(this.canvas.width, this.canvas.height), subject), words);
    const blob = await new Promise((done) => picture.canvas.toBlob(done));
    const png = pngWithText(new Uint8Array(await blob.arrayBuffer()), "ctrl-attention", this.settings(subject, this.steps));
    saveFile(this.fileName(subject, "png"), new Blob([png], { type: "image/png" }));
  }

  // Every frame on one scale, the highest of all steps.
  saveGif() {
    const scale = Math.min(1, 384 / Math.max(this.canvas.width, this.canvas.height));
    const [width, height] = [this.canvas.width, this.canvas.height].map((side) => Math.round(side * scale));
    const steps = [...this.data.steps.keys()];
    const subjects = steps.map((step) => this.subject([step]));
    subjects[0].maps.forEach((_, at) => {
      const top = Math.max(...subjects.map(({ maps }) => maps[at].top));
      for (const { maps } of subjects) maps[at].top = top;
    });
    const frames = subjects.map((subject) => this.paint(blank(width, height), subject).getImageData(0, 0, width, height).data);
    const gif = animatedGif(frames, width, height, 16, this.settings(subjects[0], steps));
    saveFile(this.fileName(subjects[0], "gif"), new Blob([gif], { type: "image/gif" }));
  }
}

const titled = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// One tab stop for a row of buttons; arrow keys go from one to the next.
function roving(row) {
  const all = [...row.children];
  all.forEach((button, at) => { button.tabIndex = at ? -1 : 0; });
  row.addEventListener("keydown", (event) => {
    const at = all.indexOf(event.target);
    const to = all[{ ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key]];
    if (!to) return;
    event.preventDefault();
    [all[at].tabIndex, to.tabIndex] = [-1, 0];
    to.focus();
  });
  return row;
}

function render({ model, el, signal }) {
  const view = mount({ model, el, signal }, "heat", "Attention of words and places", HEAT_CSS);
  const panel = new HeatPanel(view, model);
  const handlers = { heat: (content, buffers) => panel.take(content, buffers), nothing: () => { panel.waiting.textContent = "No maps yet."; } };
  wire(model, handlers, view.note, view.life);
  view.life.addEventListener("abort", () => panel.picture?.close());
  return view.end;
}

export default { render };
