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

// A sweep along one axis or two, as a sheet of pictures to choose from.
function gridPage(model, life, send) {
  const { bind } = knobs(model, life);
  const axis = (label) => {
    const text = make("input", { type: "text", "aria-label": `${label}: its values` });
    const begin = (path) => {
      text.value = model.get("axes").find((one) => one[0] === path)?.[2] ?? "";
      text.hidden = !path;
    };
    const what = picker(`${label}: what changes`, begin);
    const node = make("div", { class: "st-axis" }, make("span", { text: label }), what.node, text);
    return { what, text, begin, node, begun: false };
  };
  const axes = [axis("across"), axis("down")];
  const [across, down] = axes;
  bind("axes", () => {
    const offered = model.get("axes").map(([path, name]) => [path, shortened(name)]);
    axes.forEach((one, at) => {
      const options = one === down ? [["", "nothing"], ...offered] : offered;
      const stays = one.begun && options.some(([path]) => path === one.what.node.value);
      const path = stays ? one.what.node.value : offered[at][0];
      one.what.show(options, path);
      if (!stays) one.begin(path);
      one.begun = true;
    });
  });
  const make_ = textButton("Make the grid", () => begin(), { class: "ctrl-main" });
  const stop = textButton("Stop", () => send("stop grid"));
  const said = make("p", { class: "ctrl-dim", role: "status" });
  const sheet = sheetOf(life, (at) => send("use cell", { at }));
  const begin = () => {
    const used = [down, across].filter(({ what }) => what.node.value);
    send("grid", { axes: used.map(({ what, text }) => [what.node.value, text.value]) });
  };
  bind("grid", () => {
    const { done = 0, count = 0, evaluations, saved } = model.get("grid");
    make_.disabled = count > 0;
    stop.hidden = !count;
    said.textContent = count
      ? `${done} of ${count} pictures`
      : evaluations === undefined
        ? "Numbers and names by commas, prompts by |, whole numbers also as 0-3."
        : `${evaluations} evaluations; ${saved} more without steps in common. Choose a picture to use its settings.`;
  });
  const row = make("div", { class: "ctrl-row" }, make_, stop);
  return { node: make("div", { class: "st-grid" }, across.node, down.node, row, said, sheet.node), show: sheet.show };
}

// The sheet of a sweep. Its pictures are buttons, walked by arrow keys.
function sheetOf(life, use) {
  const image = make("img", { alt: "" });
  const node = make("div", { class: "st-sheet", role: "group", "aria-label": "Pictures of the grid", hidden: true }, image);
  let [url, cells, columns] = ["", [], 1];
  const walk = (event, at) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = cells[at + by];
    if (!next) return;
    cells.forEach((cell) => (cell.tabIndex = cell === next ? 0 : -1));
    next.focus();
  };
  life.addEventListener("abort", () => URL.revokeObjectURL(url));
  return {
    node,
    show({ width, height, cells: found }, [data]) {
      URL.revokeObjectURL(url);
      url = URL.createObjectURL(new Blob([data], { type: "image/png" }));
      image.src = url;
      columns = found.filter(({ box }) => box[1] === found[0].box[1]).length;
      cells = found.map(({ name, box: [left, top, right, low] }, at) => {
        const cell = textButton("", () => use(at), { title: name, "aria-label": name, tabindex: at ? -1 : 0 });
        cell.addEventListener("keydown", (event) => walk(event, at));
        const parts = { left: left / width, top: top / height, width: (right - left) / width, height: (low - top) / height };
        for (const [side, part] of Object.entries(parts)) cell.style[side] = `${100 * part}%`;
        return cell;
      });
      node.replaceChildren(image, ...cells);
      node.hidden = false;
    },
  };
}

function codePage() {
  const pre = make("pre", { tabindex: 0, role: "region", "aria-label": "The recipe as Python" });
  const copy = copyButton("Copy", () => pre.textContent);
  const head = make("div", { class: "ctrl-row" }, make("span", { class: "ctrl-dim", text: "Run it after import ctrl: it makes an equal recipe." }), make("span", { class: "ctrl-gap" }), copy);
  return { node: make("div", { class: "st-code" }, head, pre), show: ({ text }) => void (pre.textContent = text) };
}
