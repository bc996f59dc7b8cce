// PosePad: the controls around the canvas.

const MIRROR_ICON = "M8 2v12M5.5 4.5 2 11.5h3.5v-7ZM10.5 4.5l3.5 7h-3.5v-7Z";
const COPY_ICON = "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8v-8Z";

// The row above the canvas.
function poseTools({ state, add, duplicate, remove, mirror, fit, undo, redo, pose }) {
  const names = Object.keys(SKELETON.poses);
  const select = make(
    "select",
    { "aria-label": "Pose of the chosen figure" },
    make("option", { value: "", text: "Pose…" }),
    ...names.map((name) => make("option", { value: name, text: name })),
  );
  select.addEventListener("change", () => {
    if (select.value) (state.figures.length ? pose : add)(select.value);
    select.value = "";
  });
  const plus = make(
    "button",
    { type: "button", onclick: () => add("standing") },
    icon(ICONS.plus),
    make("span", { text: "Figure" }),
  );
  const needs = [
    iconButton("Mirror", MIRROR_ICON, mirror),
    iconButton("Fit to the canvas", ICONS.fit, fit),
    iconButton("Duplicate", COPY_ICON, duplicate),
    iconButton("Remove the figure", ICONS.trash, remove),
  ];
  const back = iconButton("Undo", ICONS.undo, undo),
    forth = iconButton("Redo", ICONS.redo, redo);
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
function poseSide({ state, active, size, change, choose, replaceActive, link, note, model }) {
  const set = (made) => change(state.figures.map((figure, i) => (i === state.active ? made : figure)));
  const percent = (label, onvalue) => numberField(label, { min: -100, max: 200, step: 0.5, unit: "%", onvalue });
  const joints = make(
    "select",
    { "aria-label": "Joint", class: "wide" },
    ...SKELETON.joints.map((name, i) => make("option", { value: i, text: name })),
  );
  joints.addEventListener("change", () => choose(state.active, Number(joints.value)));
  const joint = () => state.joint ?? Number(joints.value);
  const x = percent("x", (value) => set(withJoint(active(), joint(), value / 100, active().body[joint()][1])));
  const y = percent("y", (value) => set(withJoint(active(), joint(), active().body[joint()][0], value / 100)));
  const shown = make("input", { type: "checkbox" });
  shown.addEventListener("change", () => {
    set((shown.checked ? withJointShown : withoutJoint)(active(), joint()));
    choose(state.active, joint());
  });
  const chips = make("div", { class: "chips" });
  const jointBox = make(
    "fieldset",
    {},
    make("legend", { text: "Joint" }),
    joints,
    make("div", { class: "pair" }, x.node, y.node),
    make("div", { class: "chips" }, make("label", {}, shown, "shown")),
    chips,
  );

  const figures = make("select", { "aria-label": "Figure", class: "wide" });
  figures.addEventListener("change", () => choose(Number(figures.value), null));
  const centre = () => {
    const box = bounds(active());
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const shift = (dx, dy) => replaceActive((figure) => mapFigure(figure, (px, py) => [px + dx, py + dy]));
  const turned = (options) =>
    replaceActive((figure) => transformed(figure, { about: centre(), ...options }, size()[0] / size()[1]));
  const fx = percent("x", (value) => shift(value / 100 - centre()[0], 0));
  const fy = percent("y", (value) => shift(0, value / 100 - centre()[1]));
  const tall = numberField("height", {
    min: 1,
    max: 300,
    step: 1,
    unit: "%",
    onvalue: (value) => turned({ scale: value / 100 / Math.max(bounds(active()).height, 0.01) }),
  });
  const turn = numberField("turn", {
    min: -360,
    max: 360,
    step: 5,
    value: 0,
    unit: "°",
    onvalue: (value) => {
      turned({ turn: (value * Math.PI) / 180 });
      turn.input.value = 0;
    },
  });
  const keep = make("input", { type: "checkbox", checked: true });
  keep.addEventListener("change", () => {
    state.keepInside = keep.checked;
  });
  const figureBox = make(
    "fieldset",
    {},
    make("legend", { text: "Figure" }),
    figures,
    make("div", { class: "pair" }, fx.node, fy.node, tall.node, turn.node),
    make("div", { class: "chips" }, make("label", {}, keep, "keep on the canvas")),
  );

  const opener = (accept, name) => {
    const input = make("input", {
      type: "file",
      accept,
      hidden: true,
      "aria-label": name,
      onchange: () => {
        if (input.files[0]) take(input.files[0]);
        input.value = "";
      },
    });
    return input;
  };
  const pictures = opener("image/*", "Background picture"),
    texts = opener(".json,application/json", "OpenPose JSON");
  const opacity = make("input", { type: "range", min: 0, max: 100, "aria-label": "Opacity of the background" });
  const opacityNumber = numberField("", {
    min: 0,
    max: 100,
    unit: "%",
    "aria-label": "Opacity in percent",
    onvalue: (value) => setOpacity(value / 100),
  });
  opacity.addEventListener("input", () => setOpacity(opacity.valueAsNumber / 100));
  function setOpacity(value) {
    model.set("opacity", value);
    model.save_changes();
  }
  const find = textButton(
    "Find figures",
    () => {
      note("Looking for figures…", "find");
      link().send("detect");
    },
    { title: "Take the figures of the background picture" },
  );
  const files = make(
    "fieldset",
    {},
    make("legend", { text: "Background and files" }),
    pictures,
    texts,
    make(
      "div",
      { class: "ctrl-row" },
      textButton("Picture…", () => pictures.click()),
      textButton("None", () => link().send("background")),
      find,
    ),
    make("div", { class: "ctrl-row" }, opacity, opacityNumber.node),
    make(
      "div",
      { class: "ctrl-row" },
      textButton("Open JSON…", () => texts.click()),
      textButton("Save JSON", () =>
        saveFile("pose.json", new Blob([toOpenPose(state.figures, ...size())], { type: "application/json" })),
      ),
    ),
    make("p", { class: "hint", text: "A picture or OpenPose JSON can also be dropped or pasted here." }),
  );
  opacity.style.flex = "1";

  async function take(file) {
    if (file.type.startsWith("image/")) {
      const { blob, width, height, shrunk } = await readPicture(file);
      note(shrunk ? `The picture was made smaller, to ${width} × ${height}.` : "", "file");
      link().send("background", {}, [new Uint8Array(await blob.arrayBuffer())]);
    } else link().send("json", { text: await file.text() });
  }

  const put = (input, value) => {
    if (input.getRootNode().activeElement !== input) input.value = value;
  };
  const round = (value) => Math.round(value * 1000) / 10;
  return {
    node: make("div", {}, jointBox, figureBox, files),
    take: (file) =>
      take(file).catch((error) => {
        model.set("problem", {
          what: `${file.name} could not be opened.`,
          why: String(error.message ?? error),
          next: "Choose a PNG, JPEG or WebP picture, or OpenPose JSON.",
        });
        model.save_changes();
      }),
    draw() {
      const figure = active(),
        box = figure && bounds(figure);
      find.hidden = !model.get("can_detect");
      find.disabled = !state.background;
      jointBox.disabled = !figure;
      figureBox.disabled = !box;
      if (figures.length !== state.figures.length)
        figures.replaceChildren(...state.figures.map((_, i) => make("option", { value: i, text: `figure ${i + 1}` })));
      put(figures, state.active);
      put(opacity, model.get("opacity") * 100);
      put(opacityNumber.input, Math.round(model.get("opacity") * 100));
      chips.replaceChildren();
      if (!figure) return;
      if (state.joint !== null) put(joints, state.joint);
      const [px, py, seen] = figure.body[joint()];
      put(x.input, round(px));
      put(y.input, round(py));
      x.input.disabled = y.input.disabled = !seen;
      shown.checked = Boolean(seen);
      const hidden = SKELETON.joints.map((name, i) => [name, i]).filter(([, i]) => !figure.body[i][2]);
      chips.append(
        ...hidden.map(([name, i]) =>
          textButton(
            `+ ${name}`,
            () => {
              set(withJointShown(figure, i));
              choose(state.active, i);
            },
            { title: `Show the ${name} again` },
          ),
        ),
      );
      if (!box) return;
      put(fx.input, round(box.x + box.width / 2));
      put(fy.input, round(box.y + box.height / 2));
      put(tall.input, round(box.height));
    },
  };
}
