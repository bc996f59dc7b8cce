// PosePad: figures whose joints are dragged, over a picture if there is one. Drawn as ControlNet sees them.

function renderPose(context) {
  const { model } = context;
  const panel = mount(context, "pose", "Pose editor");
  const { life } = panel;
  const state = {
    figures: model.get("figures"),
    active: 0,
    joint: null,
    hover: null,
    keepInside: true,
    background: false,
    drawnBox: null,
  };
  let past = timeline(state.figures),
    sending = false;
  const size = () => [model.get("width"), model.get("height")];
  const ratio = () => size()[0] / size()[1];
  const active = () => state.figures[state.active];

  const canvas = poseCanvas();
  const side = poseSide({
    state,
    active,
    size,
    change,
    choose,
    replaceActive,
    link: () => link,
    note: panel.note,
    model,
  });
  const tools = poseTools({
    state,
    add,
    duplicate,
    remove,
    mirror: () => replaceActive(mirrored),
    fit: () => replaceActive(fitted),
    undo,
    redo,
    pose: (name) => replaceActive((old) => posed(name, old)),
  });
  const canvasBox = make(
    "div",
    { class: "canvas-box" },
    canvas.svg,
    make("p", {
      class: "hint",
      text: "Drag a joint, or a limb to move the whole figure. Delete hides a joint, M mirrors, Page Up and Page Down choose the next joint.",
    }),
  );
  panel.root.append(
    make("div", { class: "ctrl-row tools" }, ...tools.nodes),
    make("div", { class: "layout" }, canvasBox, side.node),
  );

  const handlers = {
    background(_content, [data]) {
      canvas.background(data ?? null);
      state.background = Boolean(data);
      paint();
    },
    detected: () => panel.note("", "find"),
  };
  const link = wire(model, handlers, panel.note, life);

  // ---- changes ----
  const paint = eachFrame(() => {
    if (!life.aborted) {
      canvas.draw(state, size(), model.get("opacity"));
      side.draw();
      tools.draw(past);
    }
  });
  const tell = eachFrame(() => {
    sending = true;
    model.set("figures", state.figures);
    sending = false;
    model.save_changes();
  });

  function change(figures, { lasting = true } = {}) {
    state.figures = figures;
    if (lasting) past.push(figures);
    tell();
    paint();
  }

  function choose(figure, joint) {
    Object.assign(state, { active: figure, joint });
    paint();
  }

  function replaceActive(make, options) {
    if (!active()) return;
    const made = make(active());
    const kept = state.keepInside ? inside(made) : made;
    change(
      state.figures.map((figure, i) => (i === state.active ? kept : figure)),
      options,
    );
  }

  function add(name) {
    const places = [0.5, 0.25, 0.75, 0.38, 0.62],
      x = places[state.figures.length % places.length];
    const figure = mapFigure(posed(name), (px, py) => [px + x - 0.5, py]);
    change([...state.figures, inside(figure)]);
    choose(state.figures.length - 1, null);
  }

  function duplicate() {
    if (!active()) return;
    change([...state.figures, inside(mapFigure(active(), (x, y) => [x + 0.08, y]))]);
    choose(state.figures.length - 1, null);
  }

  function remove() {
    change(state.figures.filter((_, i) => i !== state.active));
    choose(clamp(state.active, 0, Math.max(0, state.figures.length - 1)), null);
  }

  function restore(figures) {
    if (!figures) return;
    state.figures = figures;
    choose(clamp(state.active, 0, Math.max(0, figures.length - 1)), state.joint);
    tell();
  }
  function undo() {
    restore(past.undo());
  }
  function redo() {
    restore(past.redo());
  }

  panel.watch("change:figures", () => {
    if (sending) return;
    state.figures = model.get("figures");
    state.active = clamp(state.active, 0, Math.max(0, state.figures.length - 1));
    past.push(state.figures);
    paint();
  });
  panel.watch("change:width change:height change:opacity", paint);

  posePointers(
    { canvas, state, size, ratio, active, change, choose, replaceActive, paint, past: () => past, moving },
    life,
  );
  poseKeys({ canvas, panel, state, active, size, change, choose, replaceActive, remove, undo, redo }, life);
  takeFiles(canvasBox, side.take, life);
  panel.root.addEventListener(
    "paste",
    (event) => {
      const text = event.clipboardData?.getData("text") ?? "";
      if (event.target.matches("input, textarea") || !text.includes("pose_keypoints_2d")) return;
      event.preventDefault();
      event.stopPropagation();
      link.send("json", { text });
    },
    { signal: life },
  );
  const resized = new ResizeObserver(() => paint());
  resized.observe(canvas.svg);
  life.addEventListener("abort", () => {
    canvas.background(null);
    resized.disconnect();
  });

  function moving(now) {
    if (model.get("moving") === now) return;
    model.set("moving", now);
    model.save_changes();
  }
  paint();
  return panel.end;
}

export default { render: renderPose };
