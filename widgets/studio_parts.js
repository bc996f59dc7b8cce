// Studio: the rows of strengths, one for guidance and each control, region and LoRA.

const MODES = ["balanced", "prompt first", "control first"];
const RESIZES = ["stretch", "crop", "pad"];
const CURVE = "M2 13.5c4-.5 3.500-10.500 6-10.500s2 9.500 6 10.500";
const MORE = "m4 6 4 4 4-4";
const LENGTH = 0.1; // of a window whose one end was moved past the other
const rounded = (value) => Number(value.toFixed(4));
const shortened = (text, length = 28) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

const focused = (node) => node.getRootNode().activeElement === node; // in a shadow root too, as in marimo

// Choices that stay in place while they are open, though their options may change.
function picker(label, onpick) {
  const node = make("select", { "aria-label": label, onchange: () => onpick(node.value) });
  let shown = "";
  return {
    node,
    show(options, value) {
      const key = JSON.stringify(options);
      if (key !== shown) {
        const entries = options.map((one) => (Array.isArray(one) ? one : [one, one]));
        node.replaceChildren(...entries.map(([value, text]) => make("option", { value, text })));
        shown = key;
      }
      if (node.value !== value) node.value = value;
    },
  };
}

// One row: a switch, a slider, a number; range, mode and place behind "more". `set` gets what was changed of it.
function strengthRow(row, { set, remove, curve }) {
  const { name, label, top } = row;
  const input = (props) => make("input", { type: "range", step: 0.05, ...props });
  const low = name.startsWith("loras") ? -top : 0;
  const on = make("input", { type: "checkbox", "aria-label": `${label} on`, onchange: () => set({ on: on.checked }) });
  const slider = input({
    min: low,
    max: top,
    "aria-label": label,
    oninput: () => set({ weight: slider.valueAsNumber }),
  });
  const most = name === "guidance" ? 100 : name.startsWith("regions") ? 1 : 10;
  const weight = numberField("", {
    min: low < 0 ? -10 : 0,
    max: most,
    step: 0.05,
    "aria-label": `${label}, typed`,
    onvalue: (value) => set({ weight: value }),
  });
  const meter = make("span", { class: "st-meter" });
  const why = make("p", { class: "st-why" });
  const more = moreOf(row, { set, remove, curve });
  const open = iconButton(`More about ${label}`, MORE, () => show(more.node.hidden), { "aria-expanded": "false" });
  const show = (seen) => {
    more.node.hidden = !seen;
    open.setAttribute("aria-expanded", seen);
  };
  show(false);
  const name_ = make("label", { class: "st-name", title: label }, on, make("span", { text: shortened(label) }));
  const line = make("div", { class: "st-line" }, name_, slider, weight.node, open);
  const node = make("div", { class: "st-strength", "data-name": name }, line, why, meter, more.node);
  return {
    node,
    draw(row, { reason, found, places }) {
      if (on.checked !== row.on) on.checked = row.on;
      slider.max = Math.max(top, row.weight);
      if (slider.valueAsNumber !== row.weight) slider.value = row.weight;
      const typed = Number(row.weight.toFixed(3));
      if (!focused(weight.input) && weight.input.valueAsNumber !== typed) weight.input.value = typed;
      node.classList.toggle("st-idle", Boolean(reason));
      const hopeless = Boolean(reason?.startsWith("this model"));
      for (const one of [slider, weight.input, on]) one.disabled = hopeless;
      why.textContent = reason && row.on ? `No effect: ${reason}.` : ""; // a switch that is off says so itself
      why.hidden = !why.textContent;
      node.title = reason ? `No effect: ${reason}.` : "";
      drawMeter(meter, found);
      more.draw(row, places);
    },
  };
}

function drawMeter(meter, found) {
  meter.hidden = !found?.measure || (found.value === null && /switched off|weight is 0/.test(found.reason));
  if (meter.hidden) return;
  const known = found.value !== null;
  meter.style.setProperty("--share", known ? clamp(found.value, 0, 1) : 0);
  meter.textContent = known ? `obeys ${found.value.toFixed(2)}` : "not measured";
  meter.title = known ? `${found.measure}, read in the finished picture; 1 is best` : found.reason;
}

function moreOf(row, { set, remove, curve }) {
  const part = (label, node) => make("label", {}, label, node);
  const mode = picker("Balance", (value) => set({ mode: value }));
  const resize = picker("Fit of the map", (value) => set({ resize: value }));
  const where = picker("Where it acts", (value) => set({ where: value }));
  const edge = (label, max, onvalue) => numberField(label, { min: 0, max, step: 0.05, onvalue }); // steps count from min
  const start = edge("from", 0.99, (value) => {
    const end = until.input.valueAsNumber;
    set({ start: value, until: end > value ? end : rounded(Math.min(1, value + LENGTH)) });
  });
  const until = edge("to", 1, (typed) => {
    const value = Math.max(0.01, typed);
    const begin = start.input.valueAsNumber;
    set({ until: value, start: begin < value ? begin : rounded(Math.max(0, value - LENGTH)) });
  });
  const windowed = "start" in row;
  const node = make(
    "div",
    { class: "st-more ctrl-row" },
    windowed ? start.node : null,
    windowed ? until.node : null,
    windowed ? iconButton("Edit as a curve over the steps", CURVE, () => curve(row.name)) : null,
    "mode" in row ? part("balance", mode.node) : null,
    "resize" in row ? part("fit", resize.node) : null,
    "where" in row ? part("where", where.node) : null,
    row.name === "guidance" ? null : iconButton(`Remove ${row.label}`, ICONS.trash, () => remove(row.name)),
  );
  return {
    node,
    draw(row, places) {
      for (const [field, key] of [
        [start, "start"],
        [until, "until"],
      ])
        if (!focused(field.input)) field.input.value = row[key] ?? 0;
      mode.show(MODES, row.mode);
      resize.show(RESIZES, row.resize);
      const own = row.where === "its own mask" ? [["its own mask", "its own mask"]] : [];
      where.show([["", "everywhere"], ...places.map((place) => [place, shortened(place, 20)]), ...own], row.where);
    },
  };
}

// All rows; they are built again only when the list changes.
function strengths(model, life, { send, curve, moved }) {
  const box = make("div", { class: "st-strengths" });
  const measure = textButton("", () => send("measure"), { class: "st-quiet" });
  let built = "",
    drawn = [];
  const { bind, set } = knobs(model, life, moved);
  const setRow = (name, change) =>
    set({ rows: model.get("rows").map((row) => (row.name === name ? { ...row, ...change } : row)) });
  const draw = () => {
    const rows = model.get("rows");
    const key = rows.map(({ name, label }) => `${name} ${label}`).join("\n");
    if (key !== built) {
      built = key;
      const remove = (name) => send("remove", { name });
      drawn = rows.map((row) => strengthRow(row, { set: (change) => setRow(row.name, change), remove, curve }));
      box.replaceChildren(...drawn.map(({ node }) => node));
    }
    const found = Object.fromEntries(model.get("obedience").map((one) => [one.name, one]));
    const places = rows.filter(({ name }) => name.startsWith("regions")).map(({ label }) => label);
    rows.forEach((row, at) =>
      drawn[at].draw(row, { reason: model.get("reasons")[row.name], found: found[row.name], places }),
    );
    const { obedience } = model.get("offers");
    measure.hidden = obedience === "at rest" || model.get("obedience").length > 0 || !rows.some(({ name }) => name.startsWith("controls"));
    measure.disabled = obedience === "requested";
    measure.textContent = measure.disabled ? "Measuring…" : "Measure how far it obeys";
  };
  bind("rows reasons obedience offers", draw);
  return make("div", {}, box, measure);
}

// Buttons for what the model has and the recipe does not.
function adders(model, life, send) {
  const box = make("div", { class: "ctrl-row st-adders" });
  const { bind } = knobs(model, life);
  bind("rows", () => {
    const { controls, loras } = model.get("offers");
    const there = model.get("rows").map(({ label }) => label);
    const missing = [...controls, ...loras.filter((name) => name !== "lcm")].filter((one) => !there.includes(one));
    const add = (what) =>
      make(
        "button",
        { type: "button", class: "st-quiet", onclick: () => send("add", { what }) },
        icon(ICONS.plus),
        make("span", { text: what }),
      );
    box.replaceChildren(...missing.map(add));
    box.hidden = !missing.length;
  });
  return box;
}
