// Studio: a shell around the leaves, which it mounts as they are. What it shows is in its traits, set by Python.

function renderStudio(context) {
  const { model, host } = context;
  const panel = mount(context, "studio", "Studio");
  const { root, life } = panel;
  panel.note(model.get("notice"), "host");
  const grid = gridPage(model, life, send),
    code = codePage();
  const file = ({ name }, [data]) => saveFile(name, new Blob([data], { type: "image/png" }));
  const settled = () => line.draw();
  const link = wire(model, { file, code: code.show, sheet: grid.show, settled }, panel.note, life);
  const line = progressLine(model, life, send);

  function send(kind, content = {}) {
    link.send(kind, content);
    if (!["undo", "redo", "dice", "add", "remove", "use cell"].includes(kind)) return;
    line.asked();
    refresh();
  }

  async function mountLeaf(trait, el) {
    try {
      if (!host?.getWidget) throw new Error("this front end has anywidget below 0.11; update anywidget.");
      const leaf = await host.getWidget(model.get(trait));
      if (!life.aborted) await leaf.render({ el, signal: life });
    } catch (error) {
      el.replaceChildren(make("p", { class: "st-why", text: `This part cannot be shown: ${error.message}` }));
    }
  }

  const { set } = knobs(model, life);
  const curve = (name) => set({ curve_of: name, tab: "curve" });
  const picture = make("div", { class: "st-picture" });
  const pages = { grid: grid.node, code: code.node };
  const right = tabs(model, life, ({ name, leaf, page }) => {
    if (name === "curve") page.append(curveChoice(model, life));
    const el = make("div", {}, pages[name] ?? null);
    page.append(el);
    if (leaf) mountLeaf(leaf, el);
  });
  const rows = strengths(model, life, { send, curve, moved: line.asked });
  const left = [picture, line.node, rows, adders(model, life, send), numbers(model, life, send, line.asked)];
  root.append(
    wordFields(model, life, line.asked),
    make("div", { class: "st-body" }, make("div", { class: "st-left" }, ...left), make("div", { class: "st-right" }, ...right)),
  );
  mountLeaf("picture", picture);

  // The Python of the recipe follows it while it is seen.
  let waiting = 0;
  const refresh = () => {
    clearTimeout(waiting);
    if (model.get("tab") === "code") waiting = setTimeout(() => link.send("code"), 300);
  };
  const traits = ["rows", "prompt", "negative", "steps", "sampler", "spacing", "seed", "strength", "width", "height", "tab"];
  panel.watch([...traits, "progress"].map((trait) => `change:${trait}`).join(" "), refresh);
  life.addEventListener("abort", () => clearTimeout(waiting));
  if (model.get("tab") === "code") refresh();
  return panel.end;
}

// Whose weight the curve shows.
function curveChoice(model, life) {
  const { bind, set } = knobs(model, life);
  const one = picker("Whose weight", (value) => set({ curve_of: value }));
  bind("rows curve_of", () => {
    const curved = model.get("rows").filter((row) => "start" in row);
    one.show(
      curved.map(({ name, label }) => [name, label]),
      model.get("curve_of"),
    );
  });
  return make("div", { class: "ctrl-row st-of" }, make("label", {}, "weight of", one.node));
}

export default { render: renderStudio };
