// FrameView: pictures as they come, compared by divider, flip or difference, zoomed, and scrubbed.

const FRAME_CSS = `
.ctrl-frame .body { max-width: 100%; }
.ctrl-frame .stage { position: relative; display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 6px; touch-action: pan-y;
  border-radius: 6px; outline-offset: 2px; }
.ctrl-frame .stage.zoomed { touch-action: none; cursor: grab; }
.ctrl-frame .stage.flips { cursor: pointer; }
.ctrl-frame .cell { position: relative; overflow: hidden; border-radius: 6px; isolation: isolate; background: var(--c-raise); }
.ctrl-frame .clip { position: absolute; inset: 0; }
.ctrl-frame .plane { width: 100%; height: 100%; transform-origin: 0 0; }
.ctrl-frame .plane img { display: block; width: 100%; height: 100%; object-fit: contain; user-select: none; -webkit-user-drag: none; }
.ctrl-frame .close-up img { image-rendering: pixelated; }
.ctrl-frame .is-stale .clip { filter: grayscale(.75) opacity(.5); }
.ctrl-frame .tag { position: absolute; top: 8px; padding: 1px 8px; border-radius: 99px; font-size: 12px; background: rgb(12 14 18 / .78); color: #fff; pointer-events: none; max-width: 46%;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.ctrl-frame .tag.left { left: 8px; } .ctrl-frame .tag.right { right: 8px; }
.ctrl-frame .handle { position: absolute; top: 0; bottom: 0; width: 32px; margin-left: -16px; cursor: ew-resize; touch-action: none; }
.ctrl-frame .handle::before { content: ""; position: absolute; inset: 0 15px; background: #fff; box-shadow: 0 0 0 1px rgb(0 0 0 / .35); }
.ctrl-frame .handle::after { content: "‹ ›"; position: absolute; top: 50%; left: 1px; width: 30px; height: 30px; margin-top: -15px; border-radius: 50%; background: #fff; color: #1c1f25;
  font: 700 15px/27px system-ui, sans-serif; text-align: center; box-shadow: 0 1px 4px rgb(0 0 0 / .4); }
.ctrl-frame .empty { display: grid; place-items: center; margin: 0; min-height: 140px; padding: 24px; border: 1px dashed var(--c-edge); border-radius: 6px; color: var(--c-dim); text-align: center; }
.ctrl-frame .words { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 8px; padding: 6px 0 0; }
.ctrl-frame .words .caption { overflow-wrap: anywhere; flex: 0 1 auto; }
.ctrl-frame .quality { font-weight: 600; font-size: 12px; padding: 0 8px; border-radius: 99px; line-height: 20px; white-space: nowrap; }
.ctrl-frame .quality[data-is=draft] { background: var(--c-tint); color: var(--c-accent); }
.ctrl-frame .quality[data-is=exact] { background: var(--c-raise); color: var(--c-good); }
.ctrl-frame .quality[data-is=stale] { background: var(--c-warn-tint); color: var(--c-warn); white-space: normal; }
.ctrl-frame .tools { padding-top: 6px; }
.ctrl-frame .tools input[type=number] { width: 4.2em; appearance: textfield; }
.ctrl-frame .tools input::-webkit-inner-spin-button { display: none; }
.ctrl-frame .tools input[type=range] { flex: 1 1 90px; }
.ctrl-frame .tools .wide { flex: 1 1 220px; }
`;
const MODES = { divider: "Divider", flip: "Flip", difference: "Difference", side: "Side by side" };
const PIN = "M6 2.5h4M6.5 2.5v4L4.5 9h7l-2-2.5v-4M8 9v4.5";
const REST = 300; // milliseconds without a newer picture, after which the lossless one is asked for

// ---- what all views of one model share ------------------------------------------------------------------------

function openFrames(model, signal) {
  const life = new AbortController();
  signal?.addEventListener("abort", () => life.abort());
  const views = new Set();
  const held = { now: null, before: null, pinned: false, set: 0, runs: [], captions: [], stills: new Map(), note: "" };
  const asked = new Set();
  let acknowledged = 0, resting = 0;
  const tell = () => views.forEach((view) => view());
  const link = wire(model, { layout, frame, still, words }, (text) => { held.note = text; tell(); }, life.signal);
  life.signal.addEventListener("abort", () => clearTimeout(resting));

  function layout(content) {
    if (content.set !== held.set) { held.stills.clear(); asked.clear(); }
    Object.assign(held, { set: content.set, runs: content.runs, captions: content.captions, pinned: content.pinned });
    if (!content.before) held.before = null;
    if (!content.now || content.runs.length) held.now = null;
    tell();
    if (held.runs.length) fetchStills();
  }

  function frame(content, [data]) {
    const place = content.place, old = held[place];
    const newer = !old || content.number > old.number || (content.number === old.number && content.lossless && !old.lossless);
    if (place === "now" && !views.size) shown(content.number);
    if (!newer && place === "now") return shown(content.number);
    held[place] = { ...content, blob: new Blob([data], { type: content.lossless ? "image/png" : "image/jpeg" }) };
    if (place === "now" && !content.lossless) sharpenAtRest(content.number);
    tell();
  }

  function sharpenAtRest(number) {
    clearTimeout(resting);
    resting = setTimeout(() => { if (held.now?.number === number) link.send("sharpen", { number }); }, REST);
  }

  function words(content) {
    if (held.now) held.now = { ...held.now, caption: content.caption, alt: content.alt };
    tell();
  }

  function shown(number) {
    if (number <= acknowledged) return;
    acknowledged = number;
    link.send("shown", { number });
  }

  // Stills are pulled, two at a time, so that a long run does not flood the channel.
  function fetchStills() {
    for (let run = 0; run < held.runs.length; run++) {
      for (let index = held.runs[run] - 1; index >= 0 && asked.size < 2; index--) {
        if (!held.stills.has(`${run}/${index}`)) ask(run, index, false);
      }
    }
  }

  function ask(run, index, lossless) {
    if (asked.has(`${run}/${index}`)) return;
    asked.add(`${run}/${index}`);
    link.send("still", { set: held.set, run, index, lossless });
  }

  function still(content, [data]) {
    if (content.set !== held.set) return;
    const key = `${content.run}/${content.index}`;
    asked.delete(key);
    held.stills.set(key, { ...content, quality: "", blob: new Blob([data], { type: content.lossless ? "image/png" : "image/jpeg" }) });
    tell();
    fetchStills();
  }

  return {
    held, shown, ask, end: () => life.abort(),
    pin(pinned) { held.before = pinned ? held.now : null; held.pinned = pinned; link.send("pin", { pinned }); tell(); },
    follow(view, until) { views.add(view); until.addEventListener("abort", () => views.delete(view)); },
  };
}

// ---- one view -------------------------------------------------------------------------------------------------

function pictureLayer() {
  const image = make("img", { alt: "", draggable: "false" });
  const plane = make("div", { class: "plane" }, image);
  const node = make("div", { class: "clip" }, plane);
  let blob = null, url = "";
  return {
    node, plane, image,
    // Shows a picture once it is decoded; the old one stands until then.
    show(picture, done, failed) {
      node.hidden = !picture;
      if ((picture?.blob ?? null) === blob) return;
      blob = picture?.blob ?? null;
      const old = url, mine = blob;
      url = "";
      if (!blob) { URL.revokeObjectURL(old); return image.removeAttribute("src"); }
      const next = new Image(), address = URL.createObjectURL(blob);
      url = address;
      next.onload = () => { if (mine === blob) image.src = address; URL.revokeObjectURL(old); done(); };
      next.onerror = () => { URL.revokeObjectURL(old); if (mine === blob) failed(); };
      next.src = address;
    },
    end() { URL.revokeObjectURL(url); blob = null; },
  };
}

function renderFrame(context, shared) {
  const { model } = context;
  const panel = mount(context, "frame", "Picture", FRAME_CSS);
  const look = { mode: "divider", zoom: 1, x: 0, y: 0, split: 0.5, flipped: false, gain: 1, index: -1, set: 0, width: 0 };
  const layers = [pictureLayer(), pictureLayer(), pictureLayer()]; // under, over, beside
  const [under, over, beside] = layers;
  const tags = [make("span", { class: "tag left" }), make("span", { class: "tag right" }), make("span", { class: "tag left" })];
  const handle = make("div", { class: "handle", "aria-hidden": "true" });
  const cells = [make("div", { class: "cell" }, under.node, over.node, handle, tags[0], tags[1]), make("div", { class: "cell" }, beside.node, tags[2])];
  const stage = make("div", { class: "stage", tabindex: 0, role: "group" }, ...cells);
  const empty = make("p", { class: "empty", text: "No picture yet." });
  const quality = make("span", { class: "quality", role: "status" });
  const caption = make("span", { class: "caption" });
  const words = make("div", { class: "words" }, quality, caption);
  const tools = frameTools(look, redraw, { pin: shared.pin, save, zoomTo });
  const body = make("div", { class: "body" }, empty, stage, words, tools.node);
  panel.root.append(body);

  function pair() {
    const { runs, stills, now, before } = shared.held;
    if (!runs.length) return { now, before };
    const at = (run) => stills.get(`${run}/${Math.min(look.index, runs[run] - 1)}`) ?? null;
    return runs.length > 1 ? { now: at(1), before: at(0) } : { now: at(0), before: null };
  }

  function follow() {
    const { held } = shared;
    if (held.set !== look.set && (held.runs.length || look.index >= 0)) {
      Object.assign(look, { set: held.set, index: held.runs.length ? Math.max(...held.runs) - 1 : -1, mode: held.runs.length > 1 ? "side" : "divider" });
    }
    restStills();
    redraw();
  }

  let resting = 0;
  function restStills() {
    clearTimeout(resting);
    if (look.index < 0) return;
    resting = setTimeout(() => shared.held.runs.forEach((count, run) => {
      const index = Math.min(look.index, count - 1);
      if (!shared.held.stills.get(`${run}/${index}`)?.lossless) shared.ask(run, index, true);
    }), REST);
  }

  function redraw() {
    const { now, before } = pair();
    const any = now ?? before, two = now && before, mode = two ? look.mode : "single";
    const waiting = shared.held.runs.length > 0;
    panel.note(shared.held.note);
    empty.hidden = Boolean(any) || waiting;
    stage.hidden = !any;
    tools.node.hidden = !any && !waiting;
    if (any) place(mode, now, before, any);
    describe(any, mode, now, before);
    tools.draw({ held: shared.held, two, mode, any });
  }

  function place(mode, now, before, any) {
    const overlaid = ["divider", "flip", "difference"].includes(mode);
    const paint = () => { if (now?.number) shared.shown(now.number); };
    const failed = () => panel.problem({ what: "This picture did not arrive whole.", next: "Show it again; if that fails too, save it and open the file." });
    under.show(mode === "single" ? any : before, mode === "single" ? paint : () => {}, failed);
    over.show(overlaid ? now : null, paint, failed);
    beside.show(mode === "side" ? now : null, paint, failed);
    over.node.style.clipPath = mode === "divider" ? `inset(0 0 0 ${look.split * 100}%)` : "none";
    over.node.style.visibility = mode === "flip" && look.flipped ? "hidden" : "visible";
    over.node.style.mixBlendMode = mode === "difference" ? "difference" : "normal";
    cells[0].style.filter = mode === "difference" && look.gain !== 1 ? `brightness(${look.gain})` : "";
    cells[1].hidden = mode !== "side";
    handle.hidden = mode !== "divider";
    handle.style.left = `${look.split * 100}%`;
    size(any, mode);
    stage.classList.toggle("zoomed", look.zoom > 1);
    stage.classList.toggle("flips", mode === "flip");
    stage.classList.toggle("close-up", look.zoom >= 4);
    for (const layer of layers) layer.plane.style.transform = look.zoom > 1 ? `translate(${look.x * 100}%, ${look.y * 100}%) scale(${look.zoom})` : "none";
  }

  // A draft, often smaller, is shown as large as the exact picture before it; nothing jumps.
  function size(any, mode) {
    const ratio = any.width / any.height;
    if (any.quality !== "draft" || any.width >= look.width || Math.abs(look.ratio - ratio) > 0.02) Object.assign(look, { width: any.width, ratio });
    const columns = mode === "side" ? 2 : 1;
    body.style.width = `${Math.max(look.width, 320) * columns + 6 * (columns - 1)}px`;
    for (const cell of cells) cell.style.aspectRatio = `${any.width} / ${any.height}`;
  }

  function describe(any, mode, now, before) {
    const stale = model.get("stale") ?? "", is = stale ? "stale" : any?.quality || "";
    const pinned = shared.held.pinned;
    stage.classList.toggle("is-stale", Boolean(stale) && Boolean(any));
    if (quality.dataset.is !== is || stale) quality.textContent = stale ? `stale: ${stale}` : is;
    quality.dataset.is = is;
    quality.hidden = !is || !any;
    const step = look.index >= 0 ? shared.held.captions[look.index] ?? `step ${look.index + 1} of ${Math.max(...shared.held.runs)}` : null;
    const text = step ?? (mode === "single" || pinned ? any?.caption ?? "" : "");
    if (caption.textContent !== text) caption.textContent = text;
    words.hidden = !text && quality.hidden;
    const names = step ? ["first run", "second run"] : pinned ? ["before", "now"] : [before?.caption || "before", now?.caption || "after"];
    const label = (tag, word, visible) => { tag.hidden = !visible; tag.textContent = visible ? word : ""; };
    label(tags[0], mode === "flip" ? names[look.flipped ? 0 : 1] : mode === "difference" ? `difference × ${look.gain}` : names[0], mode !== "single");
    label(tags[1], names[1], mode === "divider");
    label(tags[2], names[1], mode === "side");
    const alt = any ? any.alt || any.caption || text || "a picture without a description" : "";
    [under, over, beside].forEach((layer, i) => { layer.image.alt = mode === "single" || i === 0 ? alt : now?.alt || names[1]; });
    stage.setAttribute("aria-label", `${mode === "single" ? "Picture" : MODES[mode]}: plus and minus zoom, arrows move${mode === "flip" ? ", space flips" : ""}`);
  }

  function zoomTo(zoom, cx = 0.5, cy = 0.5) {
    const next = clamp(zoom, 1, 32), ratio = next / look.zoom;
    moveTo(cx - (cx - look.x) * ratio, cy - (cy - look.y) * ratio, next);
  }

  function moveTo(x, y, zoom = look.zoom) {
    Object.assign(look, { zoom, x: clamp(x, 1 - zoom, 0), y: clamp(y, 1 - zoom, 0) });
    redraw();
  }

  function save() {
    const { now, before } = pair(), picture = look.mode === "flip" && look.flipped ? before : now ?? before;
    if (picture) saveFile(`picture.${picture.lossless ? "png" : "jpg"}`, picture.blob);
  }

  const flip = () => { look.flipped = !look.flipped; redraw(); };
  const flips = () => stage.classList.contains("flips");
  const cellAt = (event) => (event.target.closest?.(".cell") ?? cells[0]).getBoundingClientRect();
  stageGestures(stage, look, { zoomTo, moveTo, flip, flips, cellAt }, panel.life);
  drag(handle, {
    start: (event) => { event.stopPropagation(); return cells[0].getBoundingClientRect(); },
    move: (box, event) => { look.split = clamp((event.clientX - box.left) / box.width, 0, 1); redraw(); },
  }, panel.life);
  panel.watch("change:stale", redraw);
  shared.follow(follow, panel.life);
  panel.life.addEventListener("abort", () => { clearTimeout(resting); tools.end(); layers.forEach((layer) => layer.end()); });
  tools.onindex = restStills;
  follow();
  return panel.end;
}

// Wheel with Ctrl, pinch, double click and keys zoom; dragging and arrows move; a tap flips.
function stageGestures(stage, look, { zoomTo, moveTo, flip, flips, cellAt }, life) {
  const fingers = new Map();
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  drag(stage, {
    start(event) {
      const finger = { x: event.clientX, y: event.clientY, fromX: look.x, fromY: look.y, moved: false, box: cellAt(event) };
      fingers.set(event.pointerId, finger);
      stage.focus({ preventScroll: true });
      if (fingers.size === 2) fingers.pinch = { spread: spread(), zoom: look.zoom };
      return { finger, startX: event.clientX, startY: event.clientY };
    },
    move({ finger, startX, startY }, event) {
      finger.x = event.clientX; finger.y = event.clientY;
      if (Math.hypot(finger.x - startX, finger.y - startY) > 4) finger.moved = true;
      const box = finger.box;
      if (fingers.size === 2) {
        const [a, b] = [...fingers.values()];
        finger.moved = true;
        return zoomTo(fingers.pinch.zoom * spread() / Math.max(1, fingers.pinch.spread), ((a.x + b.x) / 2 - box.left) / box.width, ((a.y + b.y) / 2 - box.top) / box.height);
      }
      if (look.zoom > 1) moveTo(finger.fromX + (finger.x - startX) / box.width, finger.fromY + (finger.y - startY) / box.height);
    },
    end({ finger }, event) {
      fingers.delete(event.pointerId);
      if (!finger.moved && event.type === "pointerup" && flips()) flip();
    },
  }, life);
  const point = (event) => { const box = cellAt(event); return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]; };
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoomTo(look.zoom * Math.exp(-event.deltaY / 200), ...point(event));
  }, { signal: life, passive: false });
  stage.addEventListener("dblclick", (event) => { if (!flips()) zoomTo(look.zoom > 1 ? 1 : 4, ...point(event)); }, { signal: life });
  stage.addEventListener("keydown", (event) => {
    const step = 0.1 * (event.shiftKey ? 5 : 1);
    const keys = {
      "+": () => zoomTo(look.zoom * 1.5), "=": () => zoomTo(look.zoom * 1.5), "-": () => zoomTo(look.zoom / 1.5), 0: () => zoomTo(1),
      ArrowLeft: () => moveTo(look.x + step, look.y), ArrowRight: () => moveTo(look.x - step, look.y),
      ArrowUp: () => moveTo(look.x, look.y + step), ArrowDown: () => moveTo(look.x, look.y - step), " ": flip,
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }, { signal: life });
}

// The rows under the picture: scrubbing, comparing, zooming, saving.
function frameTools(look, redraw, { pin, save, zoomTo }) {
  const set = (changes) => { Object.assign(look, changes); redraw(); };
  const modes = Object.entries(MODES).map(([mode, text]) => textButton(text, () => set({ mode, flipped: false }), { "data-mode": mode }));
  const slide = (label, props, oninput) => make("input", { type: "range", "aria-label": label, ...props, oninput: (event) => oninput(event.target.valueAsNumber) });
  const split = slide("Divider", { min: 0, max: 100, step: "any" }, (value) => set({ split: value / 100 }));
  const splitNumber = numberField("", { min: 0, max: 100, unit: "%", "aria-label": "Divider in percent", onvalue: (value) => set({ split: value / 100 }) });
  const gain = slide("Gain of the difference", { min: 1, max: 20, step: 1 }, (value) => set({ gain: value }));
  const gainNumber = numberField("×", { min: 1, max: 20, "aria-label": "Gain of the difference, typed", onvalue: (value) => set({ gain: value }) });
  const flipButton = textButton("Flip now", () => set({ flipped: !look.flipped }));
  const tools = { onindex: () => {} };
  const goTo = (index) => { set({ index }); tools.onindex(); };
  const scrub = slide("Step", { min: 1, step: 1 }, (value) => goTo(value - 1));
  const step = numberField("step", { min: 1, max: 1, step: 1, onvalue: (value) => goTo(Math.round(value) - 1) });
  let playing = 0;
  const stop = () => { clearInterval(playing); playing = 0; play.textContent = "Play"; };
  const play = textButton("Play", () => {
    if (playing) return stop();
    play.textContent = "Pause";
    if (look.index >= scrub.max - 1) goTo(0);
    playing = setInterval(() => { goTo(look.index + 1); if (look.index >= scrub.max - 1) stop(); }, 160);
  });
  const scrubbing = make("div", { class: "ctrl-row" }, play, scrub, step.node);
  const group = make("div", { class: "ctrl-group", role: "group", "aria-label": "Compare by" }, ...modes);
  const comparing = make("div", { class: "ctrl-row" }, group, split, splitNumber.node, gain, gainNumber.node, flipButton);
  const percent = numberField("", { min: 100, max: 3200, unit: "%", step: 50, "aria-label": "Zoom in percent", onvalue: (value) => zoomTo(value / 100) });
  const pinButton = make("button", { type: "button", onclick: () => pin(pinButton.getAttribute("aria-pressed") !== "true"), "aria-label": "Keep as before", title: "Keep this picture to compare the next ones with" }, icon(PIN), make("span", { text: "Keep" }));
  const zooming = make("div", { class: "ctrl-row" }, iconButton("Zoom out", ICONS.minus, () => zoomTo(look.zoom / 1.5)), percent.node, iconButton("Zoom in", ICONS.plus, () => zoomTo(look.zoom * 1.5)),
    iconButton("Fit", ICONS.fit, () => zoomTo(1)), make("span", { class: "ctrl-gap" }), pinButton, iconButton("Save the picture", ICONS.save, save));
  tools.node = make("div", { class: "tools" }, scrubbing, comparing, zooming);
  for (const row of [scrubbing, comparing]) row.style.paddingBottom = "6px";
  const put = (input, value) => { if (input !== input.getRootNode().activeElement || input.type === "range") input.value = value; };
  tools.draw = ({ held, two, mode }) => {
    const steps = Math.max(1, ...held.runs);
    scrubbing.hidden = !held.runs.length;
    scrub.max = step.input.max = steps;
    put(scrub, look.index + 1);
    put(step.input, look.index + 1);
    comparing.hidden = !two;
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    for (const node of [split, splitNumber.node]) node.hidden = mode !== "divider";
    for (const node of [gain, gainNumber.node]) node.hidden = mode !== "difference";
    flipButton.hidden = mode !== "flip";
    put(split, look.split * 100); put(splitNumber.input, Math.round(look.split * 100));
    put(gain, look.gain); put(gainNumber.input, look.gain);
    put(percent.input, Math.round(look.zoom * 100));
    pinButton.hidden = held.runs.length > 0 || (Boolean(held.before) && !held.pinned);
    pinButton.setAttribute("aria-pressed", String(held.pinned));
    if (!held.runs.length && playing) stop();
  };
  tools.end = stop;
  return tools;
}

export default () => {
  let shared = null;
  const opened = ({ model, signal }) => (shared ??= openFrames(model, signal));
  return {
    initialize(context) { const { end } = opened(context); return end; },
    render: (context) => renderFrame(context, opened({ model: context.model })),
  };
};
