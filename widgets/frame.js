// FrameView: pictures as they come, compared by divider, flip or difference, zoomed, and scrubbed.

function renderFrame(context, shared) {
  const { model } = context;
  const panel = mount(context, "frame", "Picture");
  const look = {
    mode: "divider",
    zoom: 1,
    x: 0,
    y: 0,
    split: 0.5,
    flipped: false,
    gain: 1,
    index: -1,
    set: 0,
    width: 0,
  };
  const layers = [pictureLayer(), pictureLayer(), pictureLayer()]; // under, over, beside
  const [under, over, beside] = layers;
  const tags = [
    make("span", { class: "tag left" }),
    make("span", { class: "tag right" }),
    make("span", { class: "tag left" }),
  ];
  const handle = make("div", { class: "handle", "aria-hidden": "true" });
  const cells = [
    make("div", { class: "cell" }, under.node, over.node, handle, tags[0], tags[1]),
    make("div", { class: "cell" }, beside.node, tags[2]),
  ];
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
      Object.assign(look, {
        set: held.set,
        index: held.runs.length ? Math.max(...held.runs) - 1 : -1,
        mode: held.runs.length > 1 ? "side" : "divider",
      });
    }
    restStills();
    redraw();
  }

  let resting = 0;
  function restStills() {
    clearTimeout(resting);
    if (look.index < 0) return;
    resting = setTimeout(
      () =>
        shared.held.runs.forEach((count, run) => {
          const index = Math.min(look.index, count - 1);
          if (!shared.held.stills.get(`${run}/${index}`)?.lossless) shared.ask(run, index, true);
        }),
      REST,
    );
  }

  function redraw() {
    const { now, before } = pair();
    const any = now ?? before,
      two = now && before,
      mode = two ? look.mode : "single";
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
    const paint = () => {
      if (now?.number) shared.shown(now.number);
    };
    const failed = () =>
      panel.problem({
        what: "This picture did not arrive whole.",
        next: "Show it again; if that fails too, save it and open the file.",
      });
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
    for (const layer of layers)
      layer.plane.style.transform =
        look.zoom > 1 ? `translate(${look.x * 100}%, ${look.y * 100}%) scale(${look.zoom})` : "none";
  }

  // A draft, often smaller, is shown as large as the exact picture before it; nothing jumps.
  function size(any, mode) {
    const ratio = any.width / any.height;
    if (any.quality !== "draft" || any.width >= look.width || Math.abs(look.ratio - ratio) > 0.02)
      Object.assign(look, { width: any.width, ratio });
    const columns = mode === "side" ? 2 : 1;
    body.style.width = `${Math.max(look.width, 320) * columns + 6 * (columns - 1)}px`;
    for (const cell of cells) cell.style.aspectRatio = `${any.width} / ${any.height}`;
  }

  function describe(any, mode, now, before) {
    const stale = model.get("stale") ?? "",
      is = stale ? "stale" : any?.quality || "";
    const pinned = shared.held.pinned;
    stage.classList.toggle("is-stale", Boolean(stale) && Boolean(any));
    if (quality.dataset.is !== is || stale) quality.textContent = stale ? `stale: ${stale}` : is;
    quality.dataset.is = is;
    quality.hidden = !is || !any;
    const step =
      look.index >= 0
        ? (shared.held.captions[look.index] ?? `step ${look.index + 1} of ${Math.max(...shared.held.runs)}`)
        : null;
    const text = step ?? (mode === "single" || pinned ? (any ?? shared.held).caption : "");
    if (caption.textContent !== text) caption.textContent = text;
    words.hidden = !text && quality.hidden;
    const names = step
      ? ["first run", "second run"]
      : pinned
        ? ["before", "now"]
        : [before?.caption || "before", now?.caption || "after"];
    const label = (tag, word, visible) => {
      tag.hidden = !visible;
      tag.textContent = visible ? word : "";
    };
    label(
      tags[0],
      mode === "flip" ? names[look.flipped ? 0 : 1] : mode === "difference" ? `difference × ${look.gain}` : names[0],
      mode !== "single",
    );
    label(tags[1], names[1], mode === "divider");
    label(tags[2], names[1], mode === "side");
    const alt = any ? any.alt || any.caption || text || "a picture without a description" : "";
    [under, over, beside].forEach((layer, i) => {
      layer.image.alt = mode === "single" || i === 0 ? alt : now?.alt || names[1];
    });
    stage.setAttribute(
      "aria-label",
      `${mode === "single" ? "Picture" : MODES[mode]}: plus and minus zoom, arrows move${mode === "flip" ? ", space flips" : ""}`,
    );
  }

  function zoomTo(zoom, cx = 0.5, cy = 0.5) {
    const next = clamp(zoom, 1, 32),
      ratio = next / look.zoom;
    moveTo(cx - (cx - look.x) * ratio, cy - (cy - look.y) * ratio, next);
  }

  function moveTo(x, y, zoom = look.zoom) {
    Object.assign(look, { zoom, x: clamp(x, 1 - zoom, 0), y: clamp(y, 1 - zoom, 0) });
    redraw();
  }

  function save() {
    const { now, before } = pair(),
      picture = look.mode === "flip" && look.flipped ? before : (now ?? before);
    if (picture) saveFile(`picture.${picture.lossless ? "png" : "jpg"}`, picture.blob);
  }

  const flip = () => {
    look.flipped = !look.flipped;
    redraw();
  };
  const flips = () => stage.classList.contains("flips");
  const cellAt = (event) => (event.target.closest?.(".cell") ?? cells[0]).getBoundingClientRect();
  stageGestures(stage, look, { zoomTo, moveTo, flip, flips, cellAt }, panel.life);
  drag(
    handle,
    {
      start: (event) => {
        event.stopPropagation();
        return cells[0].getBoundingClientRect();
      },
      move: (box, event) => {
        look.split = clamp((event.clientX - box.left) / box.width, 0, 1);
        redraw();
      },
    },
    panel.life,
  );
  panel.watch("change:stale", redraw);
  shared.follow(follow, panel.life);
  panel.life.addEventListener("abort", () => {
    clearTimeout(resting);
    tools.end();
    layers.forEach((layer) => layer.end());
  });
  tools.onindex = restStills;
  follow();
  return panel.end;
}

export default () => {
  let shared = null;
  const opened = ({ model, signal }) => (shared ??= openFrames(model, signal));
  return {
    initialize(context) {
      const { end } = opened(context);
      return end;
    },
    render: (context) => renderFrame(context, opened({ model: context.model })),
  };
};
