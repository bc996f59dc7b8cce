// PosePad: figures whose joints are dragged, over a picture if there is one. Drawn as ControlNet sees them.

const POSE_CSS = `
.ctrl-pose .layout { display: grid; gap: 12px; grid-template-columns: minmax(0, 1fr); }
@container (min-width: 680px) { .ctrl-pose .layout { grid-template-columns: minmax(0, 1fr) 264px; } }
.ctrl-pose .tools { padding-bottom: 8px; }
.ctrl-pose svg.canvas { display: block; width: 100%; max-height: 640px; background: #000; border-radius: 6px; touch-action: none; user-select: none; forced-color-adjust: none; }
.ctrl-pose .canvas-box[data-drop] { outline: 3px dashed var(--c-accent); outline-offset: 2px; border-radius: 6px; }
.ctrl-pose .resting { opacity: .62; }
.ctrl-pose .joint { cursor: grab; }
.ctrl-pose g.joint:focus-visible { outline: none; }
.ctrl-pose .joint .ring { fill: none; stroke: none; }
.ctrl-pose .joint.hover .ring, .ctrl-pose .joint.chosen .ring { stroke: #fff; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.ctrl-pose .joint:focus-visible .ring { stroke: #fff; stroke-width: 3px; vector-effect: non-scaling-stroke; }
.ctrl-pose .joint.hidden { display: none; }
.ctrl-pose .box { fill: transparent; stroke: #fff; stroke-width: 1px; stroke-dasharray: 4 3; vector-effect: non-scaling-stroke; opacity: .85; }
.ctrl-pose .grip { fill: #fff; stroke: #1c1f25; stroke-width: 1px; vector-effect: non-scaling-stroke; }
.ctrl-pose .stem { stroke: #fff; stroke-width: 1px; vector-effect: non-scaling-stroke; opacity: .85; }
.ctrl-pose .name { fill: #fff; stroke: rgb(0 0 0 / .8); stroke-width: 3px; paint-order: stroke; font-family: system-ui, sans-serif; pointer-events: none; }
.ctrl-pose .hand, .ctrl-pose .face { fill: none; stroke: #fff; opacity: .75; pointer-events: none; }
.ctrl-pose fieldset { border: 1px solid var(--c-line); border-radius: 8px; margin: 0 0 10px; padding: 8px 10px 10px; min-width: 0; }
.ctrl-pose legend { padding: 0 4px; font-weight: 600; }
.ctrl-pose .pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 6px 8px; }
.ctrl-pose .pair label { justify-content: end; gap: 4px; }
.ctrl-pose .pair input[type=number] { width: 56px; padding: 2px 6px; appearance: textfield; }
.ctrl-pose .pair input::-webkit-inner-spin-button { display: none; }
.ctrl-pose fieldset .ctrl-row { margin-bottom: 6px; }
.ctrl-pose .wide { width: 100%; margin-bottom: 6px; }
.ctrl-pose .hint { margin: 6px 0 0; color: var(--c-dim); font-size: 12px; }
.ctrl-pose .chips { display: flex; flex-wrap: wrap; gap: 4px; margin-top: 6px; }
.ctrl-pose .chips button { min-height: 24px; padding: 0 8px; border-radius: 99px; font-size: 12px; }
`;
const HAND_BONES = [0, 5, 9, 13, 17].flatMap((root, i) => [[0, 4 * i + 1], [4 * i + 1, 4 * i + 2], [4 * i + 2, 4 * i + 3], [4 * i + 3, 4 * i + 4]]);
const MIRROR_ICON = "M8 2v12M5.5 4.5 2 11.5h3.5v-7ZM10.5 4.5l3.5 7h-3.5v-7Z";
const COPY_ICON = "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8v-8Z";
const colour = ([r, g, b], dim = 1) => `rgb(${Math.trunc(r * dim)} ${Math.trunc(g * dim)} ${Math.trunc(b * dim)})`;

function renderPose(context) {
  const { model } = context;
  const panel = mount(context, "pose", "Pose editor", POSE_CSS);
  const { life } = panel;
  const state = { figures: model.get("figures"), active: 0, joint: null, hover: null, keepInside: true, drawnBox: null };
  let past = timeline(state.figures), sending = false;
  const size = () => [model.get("width"), model.get("height")];
  const ratio = () => size()[0] / size()[1];
  const active = () => state.figures[state.active];

  const canvas = poseCanvas();
  const side = poseSide({ state, active, size, change, choose, replaceActive, link: () => link, model });
  const tools = poseTools({ state, add, duplicate, remove, mirror: () => replaceActive(mirrored), fit: () => replaceActive(fitted), undo, redo, pose: (name) => replaceActive((old) => posed(name, old)) });
  const canvasBox = make("div", { class: "canvas-box" }, canvas.svg, make("p", { class: "hint", text: "Drag a joint, or a limb to move the whole figure. Delete hides a joint, M mirrors, Page Up and Page Down choose the next joint." }));
  panel.root.append(make("div", { class: "ctrl-row tools" }, ...tools.nodes), make("div", { class: "layout" }, canvasBox, side.node));

  const link = wire(model, { background: (_content, [data]) => canvas.background(data ?? null) }, panel.note, life);

  // ---- changes ----
  const paint = eachFrame(() => { if (!life.aborted) { canvas.draw(state, size(), model.get("opacity")); side.draw(); tools.draw(past); } });
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
    change(state.figures.map((figure, i) => (i === state.active ? kept : figure)), options);
  }

  function add(name) {
    const places = [0.5, 0.25, 0.75, 0.38, 0.62], x = places[state.figures.length % places.length];
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
  function undo() { restore(past.undo()); }
  function redo() { restore(past.redo()); }

  panel.watch("change:figures", () => {
    if (sending) return;
    state.figures = model.get("figures");
    state.active = clamp(state.active, 0, Math.max(0, state.figures.length - 1));
    past.push(state.figures);
    paint();
  });
  panel.watch("change:width change:height change:opacity", paint);

  posePointers({ canvas, state, size, ratio, active, change, choose, replaceActive, paint, past: () => past, moving }, life);
  poseKeys({ canvas, panel, state, active, size, change, choose, replaceActive, remove, undo, redo }, life);
  takeFiles(canvasBox, side.take, life);
  panel.root.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (event.target.matches("input, textarea") || !text.includes("pose_keypoints_2d")) return;
    event.preventDefault();
    event.stopPropagation();
    link.send("json", { text });
  }, { signal: life });
  const resized = new ResizeObserver(() => paint());
  resized.observe(canvas.svg);
  life.addEventListener("abort", () => { canvas.background(null); resized.disconnect(); });

  function moving(now) {
    if (model.get("moving") === now) return;
    model.set("moving", now);
    model.save_changes();
  }
  paint();
  return panel.end;
}

// ---- the drawing ----------------------------------------------------------------------------------------------

function poseCanvas() {
  const image = draw("image", { preserveAspectRatio: "none" });
  const people = draw("g"), frame = draw("g", { class: "frame" }), name = draw("text", { class: "name", "text-anchor": "middle" });
  const box = draw("rect", { class: "box" }), stem = draw("line", { class: "stem" });
  const grips = ["nw", "ne", "se", "sw", "turn"].map((which) => draw("circle", { class: "grip", "data-grip": which }));
  frame.append(box, stem, ...grips);
  const svg = draw("svg", { class: "canvas", role: "group", "aria-label": "Figures" }, image, people, frame, name);
  const coarse = matchMedia("(pointer: coarse)").matches;
  let url = "", nodes = [], unit = 1;

  // Nodes are made once a figure and then only moved, so that the focus stays where it is.
  function figureNodes() {
    const limbs = SKELETON.limbs.map((_, i) => draw("ellipse", { fill: colour(SKELETON.colours[i], 0.6) }));
    const parts = { hand_left: draw("path", { class: "hand" }), hand_right: draw("path", { class: "hand" }), face: draw("path", { class: "face" }) };
    const joints = SKELETON.joints.map((label, i) => draw("g", { class: "joint", role: "slider", tabindex: -1, "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "data-joint": i },
      draw("circle", { class: "dot", fill: colour(SKELETON.colours[i]) }), draw("circle", { class: "ring" })));
    const group = draw("g", {}, ...limbs, ...Object.values(parts), ...joints);
    people.append(group);
    return { group, limbs, parts, joints };
  }

  function drawFigure({ group, limbs, parts, joints }, figure, which, state, [width, height], thick) {
    const chosen = which === state.active;
    const at = ([x, y]) => [x * width, y * height];
    group.setAttribute("class", chosen ? "" : "resting");
    group.setAttribute("data-figure", which);
    SKELETON.limbs.forEach(([from, to], i) => {
      const [x1, y1] = at(figure.body[from]), [x2, y2] = at(figure.body[to]);
      const shown = figure.body[from][2] && figure.body[to][2];
      dress(limbs[i], { rx: Math.hypot(x2 - x1, y2 - y1) / 2, ry: thick, visibility: shown ? "visible" : "hidden",
        transform: `translate(${(x1 + x2) / 2} ${(y1 + y2) / 2}) rotate(${(Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI})` }, []);
    });
    for (const hand of ["hand_left", "hand_right"]) parts[hand].setAttribute("d", handPath(figure[hand] ?? [], at));
    parts.face.setAttribute("d", (figure.face ?? []).filter((point) => point[2]).map((point) => `M${at(point).join(" ")}h.01`).join(""));
    for (const part of Object.values(parts)) part.setAttribute("stroke-width", thick / 2);
    parts.face.setAttribute("stroke-linecap", "round");
    joints.forEach((node, i) => drawJoint(node, figure.body[i], i, which, state, at(figure.body[i]), thick));
  }

  function drawJoint(node, [x, y, shown], joint, which, state, [px, py], thick) {
    const hover = state.hover?.figure === which && state.hover.joint === joint;
    const chosen = which === state.active && state.joint === joint;
    const tabbable = which === state.active && (chosen || (state.joint === null && joint === 0));
    node.setAttribute("class", `joint${shown ? "" : " hidden"}${hover ? " hover" : ""}${chosen ? " chosen" : ""}`);
    dress(node, { tabindex: tabbable ? 0 : -1, transform: `translate(${px} ${py})`, "aria-valuenow": Math.round(x * 100),
      "aria-valuetext": `figure ${which + 1}, ${Math.round(x * 100)} % across, ${Math.round(y * 100)} % down` }, []);
    node.firstChild.setAttribute("r", thick * (hover || chosen ? 1.5 : 1));
    node.lastChild.setAttribute("r", thick * 1.5 + 3 * unit);
  }

  function handPath(points, at) {
    return HAND_BONES.filter(([a, b]) => points[a]?.[2] && points[b]?.[2]).map(([a, b]) => `M${at(points[a]).join(" ")}L${at(points[b]).join(" ")}`).join("");
  }

  function drawFrame(state, [width, height], pad) {
    const bound = state.figures[state.active] && bounds(state.figures[state.active]);
    frame.style.display = bound ? "" : "none";
    if (!bound) return (state.drawnBox = null);
    const x = bound.x * width - pad, y = bound.y * height - pad, w = bound.width * width + 2 * pad, h = bound.height * height + 2 * pad;
    const stemEnd = y - 22 * unit > 4 * unit ? y - 22 * unit : y + h + 22 * unit;
    dress(box, { x, y, width: w, height: h }, []);
    dress(stem, { x1: x + w / 2, x2: x + w / 2, y1: stemEnd < y ? y : y + h, y2: stemEnd }, []);
    const places = { nw: [x, y], ne: [x + w, y], se: [x + w, y + h], sw: [x, y + h], turn: [x + w / 2, stemEnd] };
    for (const grip of grips) {
      const [cx, cy] = places[grip.dataset.grip];
      dress(grip, { cx, cy, r: (coarse ? 8 : 5) * unit }, []);
    }
    state.drawnBox = { x, y, width: w, height: h, places };
  }

  function drawName(state, [width, height]) {
    const at = state.hover?.joint !== undefined ? state.hover : state.joint !== null ? { figure: state.active, joint: state.joint } : null;
    const point = at && state.figures[at.figure]?.body[at.joint];
    name.textContent = point && point[2] ? SKELETON.joints[at.joint] : "";
    if (point) dress(name, { x: clamp(point[0] * width, 40 * unit, width - 40 * unit), y: clamp(point[1] * height - 14 * unit, 14 * unit, height - 4), "font-size": 12 * unit }, []);
  }

  return {
    svg,
    get unit() { return unit; }, // canvas pixels to one of the screen
    background(data) {
      URL.revokeObjectURL(url);
      url = data ? URL.createObjectURL(new Blob([data])) : "";
      if (url) image.setAttribute("href", url);
      else image.removeAttribute("href");
    },
    draw(state, [width, height], opacity) {
      unit = width / Math.max(1, svg.getBoundingClientRect().width || width);
      const thick = Math.max(2, Math.round((4 * Math.min(width, height)) / 512));
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      dress(image, { width, height, opacity }, []);
      while (nodes.length < state.figures.length) nodes.push(figureNodes());
      for (const extra of nodes.splice(state.figures.length)) extra.group.remove();
      state.figures.forEach((figure, i) => drawFigure(nodes[i], figure, i, state, [width, height], thick));
      drawFrame(state, [width, height], 14 * unit + thick);
      drawName(state, [width, height]);
    },
    focusJoint(figure, joint) { nodes[figure]?.joints[joint]?.focus({ preventScroll: true }); },
  };
}

export default { render: renderPose };
