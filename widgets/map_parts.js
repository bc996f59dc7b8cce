// The toolbar, the knobs and the list of regions of MapPad.

const SOLID = "M2.5 5 8 2l5.5 3v6L8 14l-5.5-3ZM2.5 5 8 8l5.5-3M8 8v6";
const CAMERA = "M2 4.5h8v7H2zM10 7.2l4-2.2v6l-4-2.2";
const HALF = "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11";
const BYTE = { min: 0, max: 255, step: 1 };

// A button that switches a trait on and off.
function switchButton(name, path, trait, { get, set, bind }) {
  const button = iconButton(name, path, () => set({ [trait]: !get(trait) }));
  bind(trait, () => button.setAttribute("aria-pressed", get(trait)));
  return button;
}

function toolbar(store, tools, pictures) {
  const undo = iconButton("Undo", ICONS.undo, () => store.step("undo"));
  const redo = iconButton("Redo", ICONS.redo, () => store.step("redo"));
  const clear = iconButton("Clear", ICONS.trash, () => store.clear(tools.get("layer")));
  const relief = switchButton("Look at it in relief", SOLID, "relief", tools);
  const gap = make("span", { class: "ctrl-gap" });
  const parts = [tools.choice("tool", "Tool", TOOLS), undo, redo, clear, relief, gap, ...pictures];
  const show = () => {
    undo.disabled = !store.past.canUndo;
    redo.disabled = !store.past.canRedo;
  };
  return { node: make("div", { class: "ctrl-row", role: "toolbar", "aria-label": "Tools" }, ...parts), show };
}

// The knobs that the layer and the tool have a use for.
function mapKnobs(store, tools, regions) {
  const { get, choice, slider } = tools;
  const noun = get("subject") === "depth" ? "Depth" : "Mask";
  const largest = Math.round(Math.max(...store.size) / 3);
  const part = { min: 0, max: 1, scale: 100, unit: "%", step: 0.01 };
  const onMap = () => get("layer") === "map";
  const with_ = (...names) => names.includes(get("tool"));
  const swap = switchButton("Invert", HALF, "inverted", tools);
  const layers = [
    ["map", noun],
    ["regions", "Regions"],
  ];
  const rows = [
    ["Paint", () => true, choice("layer", "Layer", layers)],
    ["", () => !onMap(), regions],
    ["Value", () => onMap() && !with_("eraser"), ...slider("value", "Value, 0 black to 255 white", BYTE)],
    ["fades to", () => onMap() && with_("gradient"), ...slider("value_to", "Value at the end of a gradient", BYTE)],
    [
      "Size",
      () => with_("brush", "eraser"),
      ...slider("radius", "Radius of the brush in pixels", { min: 1, max: largest, step: 1, unit: "px" }),
    ],
    ["Softness", () => with_("brush", "eraser", "lasso"), ...slider("soft", "Softness of the edge", part)],
    ["Range from", onMap, ...slider("low", "What black stands for", BYTE)],
    ["to", onMap, ...slider("high", "What white stands for", BYTE), swap],
    ["Picture", () => store.backdrop, ...slider("veil", "How much of the picture shows", part)],
  ].map(([text, when, ...parts]) => ({
    when,
    nodes: [text ? make("small", { text }) : null, make("div", { class: text ? "ctrl-row" : "wide" }, ...parts)].filter(
      Boolean,
    ),
  }));
  const show = () => {
    for (const { when, nodes } of rows) for (const node of nodes) node.hidden = !when();
  };
  return { node: make("div", { class: "knobs" }, ...rows.flatMap(({ nodes }) => nodes)), show };
}

// The palette: one row a region, kept while it stands, so that a field being typed in keeps its focus.
function regionList(store, tools) {
  const list = make("div", { class: "regions", role: "group", "aria-label": "Regions" });
  const add = textButton("Add a region", () => store.addRegion());
  let rows = new Map();
  const show = (planes) => {
    const { palette } = store.now;
    rows = new Map(palette.map(({ id }) => [id, rows.get(id) ?? regionRow(id, store, tools)]));
    const nodes = [...rows.values()].map((row) => row.node);
    if (nodes.some((node, at) => list.children[at] !== node) || nodes.length !== list.children.length)
      list.replaceChildren(...nodes);
    for (const region of palette) rows.get(region.id).show(region, planes[region.id]);
  };
  return { node: make("div", { class: "regions-box" }, list, add), show };
}

function regionRow(id, store, { get, set }) {
  const pick = make("input", { type: "radio", onchange: () => set({ active: id }) });
  const colours = make("input", { type: "color", onchange: () => store.changeRegion(id, { colour: colours.value }) });
  const words = make("input", {
    type: "text",
    "aria-label": "Name of the region",
    maxlength: 60,
    onfocus: () => set({ active: id }),
    onchange: () => store.rename(id, words.value),
  });
  const share = make("small");
  const remove = iconButton("", ICONS.close, () => store.removeRegion(id));
  const node = make("div", {}, pick, colours, words, share, remove);
  const show = ({ name, colour }, plane) => {
    const active = id === get("active");
    [colours.value, pick.checked] = [colour, active];
    if (words.getRootNode().activeElement !== words) words.value = name;
    node.toggleAttribute("data-active", active);
    const labels = [
      [pick, `Paint ${name}`],
      [colours, `Colour of ${name}`],
      [remove, `Remove ${name}`],
    ];
    for (const [one, label] of labels) one.ariaLabel = one.title = label;
    const sum = plane ? plane.reduce((total, value) => total + value, 0) : 0;
    share.textContent = `${Math.round((100 * sum) / 255 / (plane?.length ?? 1))} %`;
  };
  return { node, show };
}
