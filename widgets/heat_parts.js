// The parts of TokenHeat beside its picture. Each is { node, show }; `choice` is a HeatChoice.

const PERCENT = { step: 0.05, scale: 100, unit: "%" };
const RANKED = { [INFLUENCE]: 0, prompt: 7 }; // how many words of a source are ranked, else 3

const titled = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// The words of every source as buttons; `pointing(at)` gives their listeners.
function chipRows(choice, pointing) {
  const { words, pictures } = choice.data;
  const chips = new Map();
  const chip = (at, before) => {
    const { picture, text, start } = words[at];
    const pause = start - (words[before]?.end ?? Infinity) > 1;
    const props = { type: "button", "aria-label": choice.label(at), "data-pause": pause, ...pointing(at) };
    const src = picture === null ? "" : `data:image/png;base64,${toBase64(pictures[picture])}`;
    chips.set(at, make("button", props, picture === null ? text : make("img", { alt: "", src })));
    return chips.get(at);
  };
  const node = make("div", { class: "chips" });
  for (const source of choice.sources) {
    const row = choice.of(source).map((at, index, all) => chip(at, all[index - 1]));
    const props = { class: "words", role: "toolbar", "aria-label": titled(source) };
    node.append(make("small", { text: titled(source) }), roving(make("div", props, ...row)));
  }
  const show = () => {
    const { shares } = choice;
    for (const [at, one] of chips) {
      const { source } = words[at];
      const most = source === INFLUENCE ? 1 : Math.max(...choice.of(source).map((other) => shares[other]));
      one.style.cssText = `--hue: ${choice.hue(at)}; --share: ${shares[at] / (most || 1)}`;
      one.setAttribute("aria-pressed", choice.pinned.includes(at));
    }
  };
  return { node, show };
}

// One tab stop for a row of buttons; arrow keys go from one to the next.
function roving(row) {
  const all = [...row.children];
  all.forEach((button, at) => {
    button.tabIndex = at ? -1 : 0;
  });
  row.addEventListener("keydown", (event) => {
    const at = all.indexOf(event.target);
    const to = all[{ ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key]];
    if (!to) return;
    event.preventDefault();
    [all[at].tabIndex, to.tabIndex] = [-1, 0];
    to.focus();
  });
  return row;
}

// The words at the place or over the whole picture, most first, and who decided it.
function placeList(choice, pointing) {
  const where = make("p", { class: "ctrl-dim" });
  const ranked = make("div", { class: "ranked" });
  const strip = make("div", { class: "strip" });
  const leader = make("p", { class: "ctrl-dim" });
  const rows = new Map(); // kept when the order changes, so that the focused row stays focused
  const rank = (at, share, most) => {
    if (!rows.has(at)) {
      const parts = [make("b", { text: choice.label(at) }), make("i"), make("span")];
      rows.set(at, make("button", { type: "button", ...pointing(at) }, ...parts));
    }
    const row = rows.get(at);
    row.style.setProperty("--hue", choice.hue(at));
    row.children[1].style.width = `${(share / (most || 1)) * 100}%`;
    row.children[2].textContent = percent(share);
    return row;
  };
  const showParties = (shares) => {
    const part = (at) => make("i", { style: `width: ${shares[at] * 100}%; background: ${choice.hue(at)}` });
    const parties = choice.of(INFLUENCE);
    strip.replaceChildren(...parties.map(part));
    const lead = parties.sort((a, b) => shares[b] - shares[a])[0];
    strip.hidden = leader.hidden = lead === undefined;
    if (lead === undefined) return;
    leader.textContent = `Decided most by ${choice.label(lead)}, ${percent(shares[lead])}`;
  };
  const show = () => {
    const { shares, cells, place } = choice;
    const area = place.length > 2 ? `In this area of ${cells.length} cells` : "At this place";
    where.textContent = cells ? area : "Over the whole picture";
    const list = choice.sources.flatMap((source) => {
      const order = choice.of(source).sort((a, b) => shares[b] - shares[a]);
      const best = order.slice(0, RANKED[source] ?? 3).map((at) => rank(at, shares[at], shares[order[0]]));
      return best.length && choice.sources.length > 1 ? [make("small", { text: titled(source) }), ...best] : best;
    });
    ranked.replaceChildren(...list);
    showParties(shares);
  };
  return { node: make("div", {}, where, ranked, strip, leader), show };
}

// What the colours stand for.
function colourBar(choice) {
  const node = make("div", { class: "bar" });
  const show = ({ painter, maps }) => {
    const limit = choice.get("threshold");
    const split = `${limit * 100}%`;
    const named = { spotlight: "#000, #fff", outline: `var(--c-raise) ${split}, var(--c-accent) ${split}` }[painter];
    const table = COLOUR_MAPS[choice.get("colours")].split(" ").map((stop) => `#${stop}`);
    const rows = (painter === "decided" ? [] : maps).flatMap((one, at) => {
      const colours = painter === "pair" ? `#0000, #${HUES[at]}` : (named ?? table.join(", "));
      const low = { pair: `${one.label} 0 %`, outline: `outlined from ${percent(one.top * limit)}` }[painter];
      const swatch = make("i", { style: `background: linear-gradient(to right, ${colours})` });
      return [make("small", { text: low ?? "0 %" }), swatch, make("small", { text: percent(one.top) })];
    });
    node.replaceChildren(...rows);
  };
  return { node, show };
}

// Steps: all or one, which can be played.
function scrubber(choice, { set, bind, choice: choose, slider }, life) {
  const last = choice.data.steps.length - 1;
  if (!last) return null;
  let timer = null;
  const play = textButton("Play", () => {
    if (timer) return stop();
    play.textContent = "Stop";
    timer = setInterval(() => set({ when: "one", step: (choice.step + 1) % (last + 1) }), 160);
  });
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  life.addEventListener("abort", stop);
  const name = make("small");
  bind("step", () => {
    name.textContent = choice.data.steps[choice.step];
  });
  const parts = slider("step", "Step", { min: 0, max: last, step: 1, first: 1, more: { when: "one" } });
  const line = make("div", { class: "line" }, ...parts, name);
  return make("div", { class: "ctrl-row" }, choose("when", "Steps", Object.entries(WHEN)), play, line);
}

// Which layers count, and how the maps look.
function lookKnobs(choice, tools) {
  const { get, set, slider, toggle } = tools;
  const looks = Object.entries(LOOKS).filter(([look]) => look !== "decided" || choice.of(INFLUENCE).length);
  const options = Object.keys(COLOUR_MAPS).map((text) => make("option", { text }));
  const onchange = () => set({ colours: colours.value });
  const colours = make("select", { "aria-label": "Colours", onchange }, ...options);
  colours.value = get("colours");
  const edge = slider("threshold", "Outline at, of the maximum", { min: 0.05, max: 0.95, ...PERCENT });
  const rows = [
    ["Look", tools.choice("look", "Look", looks), colours],
    ["Strength", ...slider("strength", "Strength", { min: 0, max: 1, ...PERCENT })],
    ["Outline at", ...edge],
    ["Scale", toggle("same_scale", "One scale for all words"), toggle("cells", "Cells as squares")],
  ];
  if (choice.data.layers.length > 1) rows.unshift(["Layers", ...layerButtons(choice, tools)]);
  const nodes = rows.flatMap(([text, ...parts]) => [
    make("small", { text }),
    make("div", { class: "ctrl-row" }, ...parts),
  ]);
  return make("div", { class: "knobs" }, ...nodes);
}

function layerButtons(choice, { set, bind }) {
  const names = choice.data.layers;
  const flip = (at) => {
    const now = choice.layers;
    const others = now.filter((one) => one !== at);
    const next = now.length === names.length ? [at] : now.includes(at) ? others : [...now, at].sort((a, b) => a - b);
    set({ active_layers: next.length === names.length ? [] : next });
  };
  const all = textButton("All", () => set({ active_layers: [] }));
  const each = names.map((text, at) => textButton(text, () => flip(at)));
  bind("active_layers", () => {
    const every = choice.layers.length === names.length;
    all.setAttribute("aria-pressed", every);
    each.forEach((button, at) => button.setAttribute("aria-pressed", !every && choice.layers.includes(at)));
  });
  return [all, ...each];
}
