// Studio: its tabs, the grid of a sweep, and the recipe as Python.

const TABS = [
  ["pose", "Pose", "pose"],
  ["map", "Depth & regions", "map"],
  ["style", "Style", "shelf"],
  ["curve", "Curve", "curve"],
  ["words", "Words", "heat"],
  ["history", "History", "gallery"],
  ["grid", "Grid", null],
  ["code", "Python", null],
];

// Tabs whose pages are filled when they are first opened, by `fill({ name, leaf, page })`.
function tabs(model, life, fill) {
  const { bind, set } = knobs(model, life);
  const list = make("div", { class: "st-tabs", role: "tablist", "aria-label": "Tools" });
  const pages = make("div", { class: "st-pages" });
  const entries = TABS.map(([name, text, leaf]) => {
    const id = `${Math.random().toString(36).slice(2)}-${name}`;
    const button = make("button", {
      type: "button",
      role: "tab",
      id: `tab-${id}`,
      "aria-controls": `page-${id}`,
      text,
      onclick: () => set({ tab: name }),
    });
    const page = make("div", { role: "tabpanel", id: `page-${id}`, "aria-labelledby": `tab-${id}`, hidden: true });
    list.append(button);
    pages.append(page);
    return { name, leaf, button, page, filled: false };
  });
  list.addEventListener(
    "keydown",
    (event) => {
      const at = entries.findIndex(({ name }) => name === model.get("tab"));
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: entries.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = entries[(to + entries.length) % entries.length];
      set({ tab: next.name });
      next.button.focus();
    },
    { signal: life },
  );
  bind("tab reasons", () => {
    for (const entry of entries) {
      const chosen = entry.name === model.get("tab");
      const reason = model.get("reasons")[`tab ${entry.name}`];
      entry.button.setAttribute("aria-selected", chosen);
      entry.button.tabIndex = chosen ? 0 : -1;
      entry.button.classList.toggle("st-idle", Boolean(reason));
      entry.page.hidden = !chosen;
      if (!chosen || entry.filled) continue;
      entry.filled = true;
      if (reason) entry.page.append(make("p", { class: "st-why", text: `${reason}.` }));
      fill(entry);
    }
  });
  return [list, pages];
}

// A sweep along one axis or two, as a sheet whose pictures are clicked on.
function gridPage(model, life, send) {
  const { bind } = knobs(model, life);
  const axis = (label, path, values) => {
    const what = picker(`${label}: what changes`, () => {});
    const text = make("input", { type: "text", value: values, "aria-label": `${label}: its values` });
    return { what, text, path, node: make("div", { class: "st-axis" }, make("span", { text: label }), what.node, text) };
  };
  const axes = [axis("across", "guidance", "3, 6, 9"), axis("down", "seed", "0-2")];
  bind("rows", () => {
    const weights = model.get("rows").flatMap(({ name, label }) => (name === "guidance" ? [] : [[`${name}.weight`, `${shortened(label)} weight`]]));
    const plain = ["guidance", "steps", "seed", "sampler", "spacing", "prompt", "negative"];
    for (const one of axes) {
      const now = one.what.node.value || one.path;
      one.what.show([...(one === axes[1] ? [["", "nothing"]] : []), ...plain, ...weights], now);
    }
  });
  const make_ = textButton("Make the grid", () => begin(), { class: "ctrl-main" });
  const stop = textButton("Stop", () => send("stop grid"));
  const said = make("p", { class: "ctrl-dim", role: "status" });
  const sheet = make("img", { alt: "", hidden: true, tabindex: 0 });
  const begin = () => {
    const used = [...axes].reverse().filter(({ what }) => what.node.value);
    send("grid", { axes: used.map(({ what, text }) => [what.node.value, text.value]) });
  };
  sheet.addEventListener("click", (event) => {
    const scale = sheet.naturalWidth / sheet.clientWidth;
    send("use cell", { x: Math.floor(event.offsetX * scale), y: Math.floor(event.offsetY * scale) });
  });
  bind("grid", () => {
    const { done = 0, count = 0, evaluations, saved } = model.get("grid");
    make_.disabled = count > 0;
    stop.hidden = !count;
    said.textContent = count
      ? `${done} of ${count} pictures`
      : evaluations === undefined
        ? "Numbers and names by commas, prompts by |, whole numbers also as 0-3."
        : `${evaluations} evaluations; ${saved} more without steps in common. Click a picture to use its settings.`;
  });
  let url = "";
  life.addEventListener("abort", () => URL.revokeObjectURL(url));
  return {
    node: make("div", { class: "st-grid" }, ...axes.map(({ node }) => node), make("div", { class: "ctrl-row" }, make_, stop), said, sheet),
    show({ count }, [data]) {
      URL.revokeObjectURL(url);
      url = URL.createObjectURL(new Blob([data], { type: "image/png" }));
      sheet.src = url;
      sheet.alt = `${count} pictures with the values they were made with`;
      sheet.hidden = false;
    },
  };
}

function codePage() {
  const pre = make("pre", { tabindex: 0, role: "region", "aria-label": "The recipe as Python" });
  const copy = textButton("Copy", () => navigator.clipboard?.writeText(pre.textContent));
  const head = make("div", { class: "ctrl-row" }, make("span", { class: "ctrl-dim", text: "Run it after import ctrl: it makes an equal recipe." }), make("span", { class: "ctrl-gap" }), copy);
  return { node: make("div", { class: "st-code" }, head, pre), show: ({ text }) => void (pre.textContent = text) };
}
