// How a PosePad is handled: pointers, keys, and the controls around the canvas.

// What lies under a point of the canvas: a grip of the box, a joint, a limb, or the inside of the box.
function posedUnder([x, y], { state, size, reach }) {
  const [width, height] = size(), box = state.drawnBox;
  const near = (at) => Math.hypot(at[0] - x, at[1] - y);
  for (const [grip, at] of Object.entries(box?.places ?? {})) if (near(at) < reach) return { grip };
  let best = null;
  state.figures.forEach((figure, i) => figure.body.forEach(([px, py, shown], joint) => {
    const far = shown ? near([px * width, py * height]) - (i === state.active ? 2 : 0) : Infinity;
    if (far < reach && far < (best?.far ?? Infinity)) best = { figure: i, joint, far };
  }));
  if (best) return best;
  const at = (figure, joint) => [figure.body[joint][0] * width, figure.body[joint][1] * height];
  const limb = state.figures.findIndex((figure) => SKELETON.limbs.some(([a, b]) => figure.body[a][2] && figure.body[b][2] && distanceToLimb([x, y], at(figure, a), at(figure, b)) < reach * 0.7));
  if (limb >= 0) return { figure: limb };
  const inBox = box && x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height;
  return inBox ? { figure: state.active } : null;
}

function posePointers(pad, life) {
  const { canvas, state, size, ratio, active, change, choose, paint, past, moving } = pad;
  const { svg } = canvas;
  const fingers = new Map();
  let pinch = null;
  const where = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [at.x, at.y];
  };
  const under = (event) => posedUnder(where(event), { state, size, reach: (event.pointerType === "touch" ? 26 : 14) * canvas.unit });
  const place = (figure, { joint = null } = {}) => {
    const kept = state.keepInside && joint === null ? inside(figure) : figure;
    change(state.figures.map((old, i) => (i === state.active ? kept : old)), { lasting: false });
  };

  drag(svg, {
    start(event) {
      const found = under(event);
      fingers.set(event.pointerId, where(event));
      moving(true);
      if (fingers.size === 2 && active()) return beginPinch();
      if (!found) { choose(state.active, null); return { figure: null }; }
      if (found.figure !== undefined) choose(found.figure, found.joint ?? null);
      if (found.joint !== undefined) canvas.focusJoint(found.figure, found.joint);
      return { ...found, from: where(event), figure: active(), box: state.drawnBox };
    },
    move(hold, event) {
      fingers.set(event.pointerId, where(event));
      if (pinch) return movePinch();
      if (hold.figure) moveHeld(hold, where(event), event);
    },
    end(_hold, event) {
      fingers.delete(event.pointerId);
      if (!fingers.size) { pinch = null; moving(false); }
      if (state.figures !== past().now) past().push(state.figures);
      paint();
    },
  }, life);

  function moveHeld({ grip, joint, from, figure, box }, [x, y], event) {
    const [width, height] = size();
    if (joint !== undefined) {
      const [low, high] = state.keepInside && !event.altKey ? [0, 1] : [-1, 2];
      return place(withJoint(figure, joint, clamp(x / width, low, high), clamp(y / height, low, high)), { joint });
    }
    if (!grip) return place(transformed(figure, { move: [(x - from[0]) / width, (y - from[1]) / height] }, ratio()));
    const centre = [box.x + box.width / 2, box.y + box.height / 2];
    if (grip === "turn") {
      const angle = (at) => Math.atan2(at[1] - centre[1], at[0] - centre[0]);
      const turn = angle([x, y]) - angle(from), eighth = Math.PI / 12;
      return place(transformed(figure, { about: [centre[0] / width, centre[1] / height], turn: event.shiftKey ? Math.round(turn / eighth) * eighth : turn }, ratio()));
    }
    const fixed = box.places[{ nw: "se", se: "nw", ne: "sw", sw: "ne" }[grip]];
    const far = (at) => Math.hypot(at[0] - fixed[0], at[1] - fixed[1]);
    place(transformed(figure, { about: [fixed[0] / width, fixed[1] / height], scale: clamp(far([x, y]) / far(from), 0.1, 10) }, ratio()));
  }

  function beginPinch() {
    pinch = { figure: active(), from: [...fingers.values()] };
    return { figure: null };
  }

  // Two fingers move, scale and turn the chosen figure.
  function movePinch() {
    const [width, height] = size(), [a, b] = pinch.from, [c, d] = [...fingers.values()];
    if (!d) return;
    const middle = ([p, q]) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2], far = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]);
    const angle = (p, q) => Math.atan2(q[1] - p[1], q[0] - p[0]), [m, n] = [middle([a, b]), middle([c, d])];
    place(transformed(pinch.figure, { about: [m[0] / width, m[1] / height], scale: clamp(far(c, d) / far(a, b), 0.1, 10), turn: angle(c, d) - angle(a, b),
      move: [(n[0] - m[0]) / width, (n[1] - m[1]) / height] }, ratio()));
  }

  svg.addEventListener("pointermove", (event) => {
    if (fingers.size) return;
    const found = under(event);
    state.hover = found?.joint === undefined ? null : found;
    svg.style.cursor = !found ? "default" : found.grip === "turn" ? "crosshair" : found.grip ? (["nw", "se"].includes(found.grip) ? "nwse-resize" : "nesw-resize") : found.joint === undefined ? "move" : "grab";
    paint();
  }, { signal: life });
  svg.addEventListener("pointerleave", () => { state.hover = null; paint(); }, { signal: life });
  svg.addEventListener("focusin", (event) => {
    const joint = event.target.closest?.(".joint");
    if (joint) choose(Number(joint.parentNode.dataset.figure), Number(joint.dataset.joint));
  }, { signal: life });
}

function poseKeys({ canvas, panel, state, active, size, change, choose, replaceActive, undo, redo }, life) {
  const next = (by) => {
    const shown = SKELETON.joints.map((_, i) => i).filter((i) => active().body[i][2]);
    if (!shown.length) return;
    const joint = shown[(shown.indexOf(state.joint ?? 0) + by + shown.length) % shown.length];
    choose(state.active, joint);
    requestAnimationFrame(() => canvas.focusJoint(state.active, joint));
  };
  const nudge = (dx, dy, event) => {
    const [width, height] = size(), step = event.shiftKey ? 1 : 4, [x, y] = active().body[state.joint];
    const [low, high] = state.keepInside ? [0, 1] : [-1, 2];
    replaceJoint(withJoint(active(), state.joint, clamp(x + (dx * step) / width, low, high), clamp(y + (dy * step) / height, low, high)));
  };
  const replaceJoint = (made) => change(state.figures.map((figure, i) => (i === state.active ? made : figure)));
  const hide = () => { replaceJoint(withoutJoint(active(), state.joint)); next(1); };
  canvas.svg.addEventListener("keydown", (event) => {
    if (!active() || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => nudge(-1, 0, event), ArrowRight: () => nudge(1, 0, event), ArrowUp: () => nudge(0, -1, event), ArrowDown: () => nudge(0, 1, event),
      PageDown: () => next(1), PageUp: () => next(-1), Delete: hide, Backspace: hide, h: hide, m: () => replaceActive(mirrored),
    };
    const does = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!does || (state.joint === null && !["PageDown", "PageUp", "m", "M"].includes(event.key))) return;
    event.preventDefault();
    does();
  }, { signal: life });
  panel.root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.target.matches("input[type=number]")) return;
    const key = event.key.toLowerCase();
    const does = key === "z" ? (event.shiftKey ? redo : undo) : key === "y" ? redo : null;
    if (!does) return;
    event.preventDefault();
    does();
  }, { signal: life });
}

// The row above the canvas.
function poseTools({ state, add, duplicate, remove, mirror, fit, undo, redo, pose }) {
  const names = Object.keys(SKELETON.poses);
  const select = make("select", { "aria-label": "Pose of the chosen figure" }, make("option", { value: "", text: "Pose…" }), ...names.map((name) => make("option", { value: name, text: name })));
  select.addEventListener("change", () => { if (select.value) (state.figures.length ? pose : add)(select.value); select.value = ""; });
  const plus = make("button", { type: "button", onclick: () => add("standing") }, icon(ICONS.plus), make("span", { text: "Figure" }));
  const needs = [
    iconButton("Mirror", MIRROR_ICON, mirror), iconButton("Fit to the canvas", ICONS.fit, fit),
    iconButton("Duplicate", COPY_ICON, duplicate), iconButton("Remove the figure", ICONS.trash, remove),
  ];
  const back = iconButton("Undo", ICONS.undo, undo), forth = iconButton("Redo", ICONS.redo, redo);
  return {
    nodes: [plus, select, ...needs, make("span", { class: "ctrl-gap" }), back, forth],
    draw(past) {
      for (const button of needs) button.disabled = !state.figures.length;
      back.disabled = !past.canUndo;
      forth.disabled = !past.canRedo;
    },
  };
}

// The column beside the canvas: joint and figure in numbers, the background, JSON.
function poseSide({ state, active, size, change, choose, replaceActive, link, model }) {
  const set = (made) => change(state.figures.map((figure, i) => (i === state.active ? made : figure)));
  const percent = (label, onvalue) => numberField(label, { min: -100, max: 200, step: 0.5, unit: "%", onvalue });
  const joints = make("select", { "aria-label": "Joint", class: "wide" }, ...SKELETON.joints.map((name, i) => make("option", { value: i, text: name })));
  joints.addEventListener("change", () => choose(state.active, Number(joints.value)));
  const joint = () => state.joint ?? Number(joints.value);
  const x = percent("x", (value) => set(withJoint(active(), joint(), value / 100, active().body[joint()][1])));
  const y = percent("y", (value) => set(withJoint(active(), joint(), active().body[joint()][0], value / 100)));
  const shown = make("input", { type: "checkbox" });
  shown.addEventListener("change", () => { set((shown.checked ? withJointShown : withoutJoint)(active(), joint())); choose(state.active, joint()); });
  const chips = make("div", { class: "chips" });
  const jointBox = make("fieldset", {}, make("legend", { text: "Joint" }), joints, make("div", { class: "pair" }, x.node, y.node), make("div", { class: "chips" }, make("label", {}, shown, "shown")), chips);

  const figures = make("select", { "aria-label": "Figure", class: "wide" });
  figures.addEventListener("change", () => choose(Number(figures.value), null));
  const centre = () => { const box = bounds(active()); return [box.x + box.width / 2, box.y + box.height / 2]; };
  const shift = (dx, dy) => replaceActive((figure) => mapFigure(figure, (px, py) => [px + dx, py + dy]));
  const turned = (options) => replaceActive((figure) => transformed(figure, { about: centre(), ...options }, size()[0] / size()[1]));
  const fx = percent("x", (value) => shift(value / 100 - centre()[0], 0));
  const fy = percent("y", (value) => shift(0, value / 100 - centre()[1]));
  const tall = numberField("height", { min: 1, max: 300, step: 1, unit: "%", onvalue: (value) => turned({ scale: value / 100 / Math.max(bounds(active()).height, 0.01) }) });
  const turn = numberField("turn", { min: -360, max: 360, step: 5, value: 0, unit: "°", onvalue: (value) => { turned({ turn: (value * Math.PI) / 180 }); turn.input.value = 0; } });
  const keep = make("input", { type: "checkbox", checked: true });
  keep.addEventListener("change", () => { state.keepInside = keep.checked; });
  const figureBox = make("fieldset", {}, make("legend", { text: "Figure" }), figures, make("div", { class: "pair" }, fx.node, fy.node, tall.node, turn.node),
    make("div", { class: "chips" }, make("label", {}, keep, "keep on the canvas")));

  const opener = (accept, name) => { const input = make("input", { type: "file", accept, hidden: true, "aria-label": name, onchange: () => { if (input.files[0]) take(input.files[0]); input.value = ""; } }); return input; };
  const pictures = opener("image/*", "Background picture"), texts = opener(".json,application/json", "OpenPose JSON");
  const opacity = make("input", { type: "range", min: 0, max: 100, "aria-label": "Opacity of the background" });
  const opacityNumber = numberField("", { min: 0, max: 100, unit: "%", "aria-label": "Opacity in percent", onvalue: (value) => setOpacity(value / 100) });
  opacity.addEventListener("input", () => setOpacity(opacity.valueAsNumber / 100));
  function setOpacity(value) { model.set("opacity", value); model.save_changes(); }
  const files = make("fieldset", {}, make("legend", { text: "Background and files" }), pictures, texts,
    make("div", { class: "ctrl-row" }, textButton("Picture…", () => pictures.click()), textButton("None", () => link().send("background"))),
    make("div", { class: "ctrl-row" }, opacity, opacityNumber.node),
    make("div", { class: "ctrl-row" }, textButton("Open JSON…", () => texts.click()), textButton("Save JSON", () => saveFile("pose.json", new Blob([toOpenPose(state.figures, ...size())], { type: "application/json" })))),
    make("p", { class: "hint", text: "A picture or OpenPose JSON can also be dropped or pasted here." }));
  opacity.style.flex = "1";

  async function take(file) {
    if (file.type.startsWith("image/")) {
      const { blob } = await readPicture(file);
      link().send("background", {}, [new Uint8Array(await blob.arrayBuffer())]);
    } else link().send("json", { text: await file.text() });
  }

  const put = (input, value) => { if (input.getRootNode().activeElement !== input) input.value = value; };
  const round = (value) => Math.round(value * 1000) / 10;
  return {
    node: make("div", {}, jointBox, figureBox, files),
    take: (file) => take(file).catch((error) => { model.set("problem", { what: `${file.name} could not be opened.`, why: String(error.message ?? error), next: "Choose a PNG, JPEG or WebP picture, or OpenPose JSON." }); model.save_changes(); }),
    draw() {
      const figure = active(), box = figure && bounds(figure);
      jointBox.disabled = !figure;
      figureBox.disabled = !box;
      if (figures.length !== state.figures.length) figures.replaceChildren(...state.figures.map((_, i) => make("option", { value: i, text: `figure ${i + 1}` })));
      put(figures, state.active);
      put(opacity, model.get("opacity") * 100);
      put(opacityNumber.input, Math.round(model.get("opacity") * 100));
      chips.replaceChildren();
      if (!figure) return;
      if (state.joint !== null) put(joints, state.joint);
      const [px, py, seen] = figure.body[joint()];
      put(x.input, round(px)); put(y.input, round(py));
      x.input.disabled = y.input.disabled = !seen;
      shown.checked = Boolean(seen);
      const hidden = SKELETON.joints.map((name, i) => [name, i]).filter(([, i]) => !figure.body[i][2]);
      chips.append(...hidden.map(([name, i]) => textButton(`+ ${name}`, () => { set(withJointShown(figure, i)); choose(state.active, i); }, { title: `Show the ${name} again` })));
      if (!box) return;
      put(fx.input, round(box.x + box.width / 2)); put(fy.input, round(box.y + box.height / 2)); put(tall.input, round(box.height));
    },
  };
}
