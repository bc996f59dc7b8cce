// CurvePad: a schedule as a curve over the steps. Points and window are dragged, moved by keys, or typed.

const CURVE_CSS = `
.ctrl-curve .chart, .ctrl-curve .tools { position: relative; max-width: 720px; }
.ctrl-curve svg.plot { display: block; width: 100%; height: 220px; touch-action: none; user-select: none; overflow: visible; }
.ctrl-curve .still { pointer-events: none; }
.ctrl-curve .grid { stroke: var(--c-line); stroke-width: 1; }
.ctrl-curve .axis { fill: var(--c-dim); font-size: 11px; font-variant-numeric: tabular-nums; }
.ctrl-curve .inside { fill: var(--c-tint); opacity: .55; }
.ctrl-curve .bar { fill: var(--c-accent); opacity: .28; }
.ctrl-curve .bar.now { opacity: .55; }
.ctrl-curve .rest { fill: var(--c-line); }
.ctrl-curve .line { fill: none; stroke: var(--c-accent); stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
.ctrl-curve .line.idle { stroke-dasharray: 3 5; opacity: .7; }
.ctrl-curve g.point:focus-visible, .ctrl-curve g.edge:focus-visible { outline: none; }
.ctrl-curve .point { cursor: grab; }
.ctrl-curve .point .dot { fill: var(--c-bg); stroke: var(--c-accent); stroke-width: 2.5; }
.ctrl-curve .point .reach, .ctrl-curve .edge .reach { fill: transparent; }
.ctrl-curve .point:hover .dot, .ctrl-curve .point.chosen .dot { fill: var(--c-accent); }
.ctrl-curve .point:focus-visible .dot, .ctrl-curve .edge:focus-visible .knob { stroke: var(--c-text); stroke-width: 3; }
.ctrl-curve .edge { cursor: ew-resize; }
.ctrl-curve .edge line { stroke: var(--c-accent); stroke-width: 1.5; stroke-dasharray: 4 3; }
.ctrl-curve .edge .knob { fill: var(--c-accent); stroke: var(--c-bg); stroke-width: 1.5; }
.ctrl-curve .said { margin: 2px 0 10px; color: var(--c-dim); }
.ctrl-curve .said.none { color: var(--c-warn); }
.ctrl-curve .rows { display: grid; gap: 8px; max-width: 720px; }
.ctrl-curve .tools { padding-bottom: 8px; }
.ctrl-curve .points { display: flex; flex-wrap: wrap; gap: 6px; list-style: none; margin: 0; padding: 0; }
.ctrl-curve .points li { display: inline-flex; align-items: center; gap: 6px; padding: 4px 4px 4px 8px; border: 1px solid var(--c-line); border-radius: 8px; }
.ctrl-curve .points li.chosen { border-color: var(--c-accent); background: var(--c-tint); }
.ctrl-curve .points input[type=number] { width: 4.6em; }
`;
const EDGE = { left: 40, right: 14, top: 12, bottom: 34 };
const GAP = 0.005; // between the positions of two points
const tidy = (value) => Number(value.toFixed(4));

// The evaluations inside the window, as `ctrl.Schedule.steps`; null where only the noise times of a run can tell.
function stepsInside({ start, until, by, steps, times }) {
  const all = [...Array(steps).keys()];
  if (by === "noise" && times.length !== steps) return null;
  const inside = by === "steps" ? all.filter((i) => i / steps >= start && (i + 1) / steps <= until) : all.filter((i) => times[i] >= 1 - until && times[i] <= 1 - start);
  return inside.length ? all.slice(inside[0], inside.at(-1) + 1) : [];
}

function valueAt(points, position) {
  const right = points.findIndex((point) => point[0] >= position);
  if (right < 0) return points.at(-1)[1];
  if (right === 0) return points[0][1];
  const [[x1, y1], [x2, y2]] = [points[right - 1], points[right]];
  return y1 + ((position - x1) / (x2 - x1)) * (y2 - y1);
}

// A round number at or above `value`.
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((step) => step * power).find((step) => step >= value - 1e-9);
}

function renderCurve(context) {
  const { model } = context;
  const panel = mount(context, "curve", "Schedule", CURVE_CSS);
  const { life } = panel;
  const NAMES = ["points", "start", "until", "by"];
  const read = () => Object.fromEntries([...NAMES, "steps", "times", "limit", "label"].map((name) => [name, model.get(name)]));
  const state = { ...read(), chosen: null, hover: null };
  const value = () => Object.fromEntries(NAMES.map((name) => [name, state[name]]));
  const past = timeline(value());
  let sending = false;
  const plot = curvePlot();
  const controls = curveControls({ state, change, choose, moveEdge, undo: () => restore(past.undo()), redo: () => restore(past.redo()), add, removePoint });
  const said = make("p", { class: "said" });
  panel.root.append(make("div", { class: "ctrl-row tools" }, ...controls.tools), make("div", { class: "chart" }, plot.svg), said, controls.node);

  const paint = eachFrame(() => { if (!life.aborted) { plot.draw(state); controls.draw(past); say(); } });

  function change(changes, { lasting = true } = {}) {
    Object.assign(state, changes);
    if (lasting) past.push(value());
    sending = true;
    for (const name of NAMES) model.set(name, state[name]);
    sending = false;
    model.save_changes();
    paint();
  }

  function restore(old) {
    if (old) { Object.assign(state, old, { chosen: null }); change({}, { lasting: false }); }
  }

  function choose(chosen) { state.chosen = chosen; paint(); }

  function add(position, height) {
    const at = state.points.findIndex((point) => point[0] > position), index = at < 0 ? state.points.length : at;
    if (state.points.some((point) => Math.abs(point[0] - position) < GAP)) return;
    change({ points: state.points.toSpliced(index, 0, [tidy(position), tidy(clamp(height, 0, state.limit))]), chosen: index });
  }

  function removePoint(index) {
    if (state.points.length > 1) change({ points: state.points.toSpliced(index, 1), chosen: null });
  }

  function movePoint(index, position, height, options) {
    const low = index ? state.points[index - 1][0] + GAP : 0, high = index < state.points.length - 1 ? state.points[index + 1][0] - GAP : 1;
    change({ points: state.points.with(index, [tidy(clamp(position, low, high)), tidy(clamp(height, 0, state.limit))]), chosen: index }, options);
  }

  function moveEdge(which, to, options) {
    const least = 0.5 / state.steps;
    change(which === "start" ? { start: tidy(clamp(to, 0, state.until - least)) } : { until: tidy(clamp(to, state.start + least, 1)) }, options);
  }

  function say() {
    const inside = stepsInside(state), { steps, label, points } = state;
    const values = points.map((point) => point[1]), low = Math.min(...values), high = Math.max(...values);
    const range = low === high ? `${label} ${tidy(high)}` : `${label} ${tidy(low)} to ${tidy(high)}`;
    said.classList.toggle("none", inside !== null && !inside.length);
    if (state.hover !== null) {
      const i = state.hover, on = inside?.includes(i);
      said.textContent = `Step ${i + 1} of ${steps}: ${on ? tidy(valueAt(points, (i - inside[0]) / Math.max(1, inside.length - 1))) : "0, outside the window"}`;
    } else if (inside === null) said.textContent = `${range}, while the noise is between ${tidy(state.start * 100)} % and ${tidy(state.until * 100)} % of the way; which steps these are, the sampler tells.`;
    else if (!inside.length) said.textContent = `Acts in no step: the window is narrower than one of ${steps} steps. Widen it.`;
    else said.textContent = `${range}, in ${inside.length === steps ? `all ${steps} steps` : `steps ${inside[0] + 1}–${inside.at(-1) + 1} of ${steps}`}.`;
  }

  function moving(now) {
    if (model.get("moving") !== now) { model.set("moving", now); model.save_changes(); }
  }

  curvePointers({ plot, state, choose, add, movePoint, moveEdge, moving, paint, end() { if (JSON.stringify(value()) !== JSON.stringify(past.now)) past.push(value()); paint(); } }, life);
  curveKeys({ plot, state, root: panel.root, add, removePoint, movePoint, moveEdge, undo: () => restore(past.undo()), redo: () => restore(past.redo()) }, life);
  panel.watch([...NAMES, "steps", "times", "limit", "label"].map((name) => `change:${name}`).join(" "), () => {
    if (sending) return;
    Object.assign(state, read());
    if (JSON.stringify(value()) !== JSON.stringify(past.now)) { past.push(value()); state.chosen = null; }
    paint();
  });
  const resized = new ResizeObserver(() => paint());
  resized.observe(plot.svg);
  life.addEventListener("abort", () => resized.disconnect());
  paint();
  return panel.end;
}

// ---- the plot -------------------------------------------------------------------------------------------------

function curvePlot() {
  const back = draw("g", { class: "still" }), bars = draw("g", { class: "still" }), line = draw("polyline", { class: "line still" }), front = draw("g");
  const edge = (which, name) => draw("g", { class: "edge", role: "slider", tabindex: 0, "data-edge": which, "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 },
    draw("line"), draw("rect", { class: "reach", width: 24 }), draw("circle", { class: "knob", r: 6 }));
  const edges = { start: edge("start", "Start of the window"), until: edge("until", "End of the window") };
  const svg = draw("svg", { class: "plot", role: "group", "aria-label": "Curve over the steps" }, back, bars, line, edges.start, edges.until, front);
  let box = { width: 600, height: 220 }, span = [0, 1], top = 1, nodes = [];
  const across = (fraction) => EDGE.left + fraction * (box.width - EDGE.left - EDGE.right);
  const up = (value) => box.height - EDGE.bottom - (value / top) * (box.height - EDGE.top - EDGE.bottom);
  const place = (position) => across(span[0] + position * (span[1] - span[0]));

  function pointNode(i) {
    return draw("g", { class: "point", role: "slider", tabindex: 0, "data-point": i, "aria-valuemin": 0 }, draw("circle", { class: "reach", r: 16 }), draw("circle", { class: "dot", r: 6 }));
  }

  function drawGrid(state) {
    back.replaceChildren();
    const bottom = up(0), every = Math.ceil(state.steps / Math.max(4, Math.floor(box.width / 60)));
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      back.append(draw("line", { class: "grid", x1: EDGE.left, x2: box.width - EDGE.right, y1: up(share * top), y2: up(share * top) }));
      if (share !== 0.25 && share !== 0.75) back.append(draw("text", { class: "axis", x: EDGE.left - 6, y: up(share * top) + 4, "text-anchor": "end", text: tidy(share * top) }));
    }
    for (let i = 0; i < state.steps; i++) {
      if (i % every === 0 || i === state.steps - 1) if (i === state.steps - 1 || state.steps - 1 - i >= every * 0.6) back.append(draw("text", { class: "axis", x: across((i + 0.5) / state.steps), y: bottom + 15, "text-anchor": "middle", text: i + 1 }));
    }
    back.append(draw("text", { class: "axis", x: box.width - EDGE.right, y: box.height - 3, "text-anchor": "end", text: "step" }), draw("text", { class: "axis", x: EDGE.left - 32, y: box.height - 3, text: state.label }));
    back.append(draw("rect", { class: "inside", x: across(state.start), y: EDGE.top, width: Math.max(0, across(state.until) - across(state.start)), height: bottom - EDGE.top }));
  }

  function drawSteps(state, inside) {
    bars.replaceChildren();
    const width = Math.max(1, ((box.width - EDGE.left - EDGE.right) / state.steps) * 0.62);
    for (let i = 0; i < state.steps; i++) {
      const x = across((i + 0.5) / state.steps), at = inside?.indexOf(i) ?? -1;
      if (at < 0) { if (inside) bars.append(draw("circle", { class: "rest", cx: x, cy: up(0), r: Math.min(3, width / 2 + 0.5) })); continue; }
      const value = valueAt(state.points, at / Math.max(1, inside.length - 1)), high = up(value);
      bars.append(draw("rect", { class: state.hover === i ? "bar now" : "bar", "data-step": i, "data-value": value, x: x - width / 2, y: high, width, height: Math.max(1, up(0) - high), rx: Math.min(2, width / 2) }));
    }
  }

  function drawHandles(state) {
    while (nodes.length < state.points.length) { nodes.push(pointNode(nodes.length)); front.append(nodes.at(-1)); }
    for (const extra of nodes.splice(state.points.length)) extra.remove();
    state.points.forEach(([position, value], i) => dress(nodes[i], { class: `point${state.chosen === i ? " chosen" : ""}`, transform: `translate(${place(position)} ${up(value)})`, "aria-label": `point ${i + 1} of ${state.points.length}`,
      "aria-valuemax": state.limit, "aria-valuenow": value, "aria-valuetext": `${state.label} ${value} at ${tidy(position * 100)} % of the window` }, []));
    for (const [which, node] of Object.entries(edges)) {
      dress(node, { transform: `translate(${across(state[which])} 0)`, "aria-valuenow": tidy(state[which] * 100), "aria-valuetext": `${tidy(state[which] * 100)} % of the run` }, []);
      dress(node.children[0], { y1: EDGE.top, y2: up(0) }, []);
      dress(node.children[1], { x: -12, y: up(0) - 6, height: EDGE.bottom }, []);
      dress(node.children[2], { cy: up(0) }, []);
    }
  }

  return {
    svg, across, up,
    draw(state) {
      box = { width: svg.clientWidth || 600, height: svg.clientHeight || 220 };
      svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
      const highest = Math.max(...state.points.map((point) => point[1]));
      if (!state.held) top = Math.min(state.limit, niceTop(Math.max(1, highest * 1.15)));
      if (highest > top) top = niceTop(highest);
      const inside = stepsInside(state);
      span = inside?.length ? [(inside[0] + 0.5) / state.steps, (inside.at(-1) + 0.5) / state.steps] : [state.start, state.until];
      drawGrid(state);
      drawSteps(state, inside);
      const ends = [[0, state.points[0][1]], ...state.points, [1, state.points.at(-1)[1]]];
      line.setAttribute("points", ends.map(([position, value]) => `${place(position)},${up(value)}`).join(" "));
      line.setAttribute("class", inside?.length === 0 ? "line still idle" : "line still");
      drawHandles(state);
    },
    // From the page to a fraction of the run, a position in the window and a value.
    locate(event) {
      const at = svg.getBoundingClientRect(), x = event.clientX - at.left, y = event.clientY - at.top;
      const run = (x - EDGE.left) / (box.width - EDGE.left - EDGE.right);
      const wide = span[1] - span[0];
      return { run, position: wide > 0 ? (run - span[0]) / wide : 0, value: ((box.height - EDGE.bottom - y) / (box.height - EDGE.top - EDGE.bottom)) * top };
    },
    focusPoint(i) { nodes[i]?.focus({ preventScroll: true }); },
  };
}

function curvePointers({ plot, state, choose, add, movePoint, moveEdge, moving, paint, end }, life) {
  const { svg } = plot;
  drag(svg, {
    start(event) {
      const point = event.target.closest(".point"), edge = event.target.closest(".edge");
      if (!point && !edge) return null;
      const at = plot.locate(event);
      state.held = true;
      moving(true);
      if (edge) { edge.focus({ preventScroll: true }); return { edge: edge.dataset.edge, off: at.run - state[edge.dataset.edge] }; }
      const index = Number(point.dataset.point), [position, value] = state.points[index];
      choose(index);
      point.focus({ preventScroll: true });
      return { index, dx: at.position - position, dy: at.value - value };
    },
    move({ edge, off, index, dx, dy }, event) {
      const at = plot.locate(event);
      if (edge) {
        const snap = event.altKey ? at.run - off : Math.round((at.run - off) * state.steps) / state.steps;
        return moveEdge(edge, snap, { lasting: false });
      }
      movePoint(index, at.position - dx, at.value - dy, { lasting: false });
    },
    end() { state.held = false; moving(false); end(); },
  }, life);
  svg.addEventListener("dblclick", (event) => {
    if (event.target.closest(".point, .edge")) return;
    const { position, value } = plot.locate(event);
    if (position >= 0 && position <= 1) add(position, value);
  }, { signal: life });
  svg.addEventListener("pointermove", (event) => {
    const step = Math.floor(plot.locate(event).run * state.steps);
    const hover = step >= 0 && step < state.steps ? step : null;
    if (hover !== state.hover) { state.hover = hover; paint(); }
  }, { signal: life });
  svg.addEventListener("pointerleave", () => { state.hover = null; paint(); }, { signal: life });
}

function curveKeys({ plot, state, root, add, removePoint, movePoint, moveEdge, undo, redo }, life) {
  plot.svg.addEventListener("keydown", (event) => {
    const point = event.target.closest(".point"), edge = event.target.closest(".edge");
    if (event.ctrlKey || event.metaKey || event.altKey || (!point && !edge)) return;
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0, up = { ArrowUp: 1, ArrowDown: -1 }[event.key] ?? 0;
    if (edge) {
      if (!across && !up) return;
      event.preventDefault();
      return moveEdge(edge.dataset.edge, state[edge.dataset.edge] + (across || up) / state.steps);
    }
    const index = Number(point.dataset.point), [position, value] = state.points[index];
    const fine = event.shiftKey ? 0.2 : 1, unit = niceTop(Math.max(1, ...state.points.map((other) => other[1]))) / 40;
    if (across || up) movePoint(index, position + across * 0.05 * fine, value + up * unit * fine);
    else if (event.key === "Delete" || event.key === "Backspace") { removePoint(index); requestAnimationFrame(() => plot.focusPoint(Math.max(0, index - 1))); }
    else if (event.key === "Enter" || event.key === "+") { const next = state.points[index + 1]?.[0] ?? (position < 1 ? 1 : null); if (next !== null) add((position + next) / 2, valueAt(state.points, (position + next) / 2)); }
    else return;
    event.preventDefault();
  }, { signal: life });
  root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.target.matches("input[type=number]")) return;
    const key = event.key.toLowerCase(), does = key === "z" ? (event.shiftKey ? redo : undo) : key === "y" ? redo : null;
    if (does) { event.preventDefault(); does(); }
  }, { signal: life });
}

// ---- shapes, numbers ------------------------------------------------------------------------------------------

function curveControls({ state, change, choose, moveEdge, undo, redo, add, removePoint }) {
  const highest = () => Math.max(...state.points.map((point) => point[1])) || Math.min(1, state.limit);
  const shape = (name, points) => textButton(name, () => change({ points: points(highest()), chosen: null }));
  const shapes = [
    shape("Constant", (top) => [[0, top]]), shape("Rise", (top) => [[0, 0], [1, top]]), shape("Fall", (top) => [[0, top], [1, 0]]),
    shape("Hill", (top) => [[0, 0], [0.5, top], [1, 0]]),
  ];
  const back = iconButton("Undo", ICONS.undo, undo), forth = iconButton("Redo", ICONS.redo, redo);
  const more = make("button", { type: "button", onclick: addInWidestGap, title: "Or double-click the curve" }, icon(ICONS.plus), make("span", { text: "Point" }));
  const window = (name, which) => numberField(name, { min: 0, max: 100, step: 5, unit: "%", onvalue: (value) => moveEdge(which, value / 100) });
  const start = window("from", "start"), until = window("until", "until");
  const by = make("select", { "aria-label": "Window by" }, make("option", { value: "steps", text: "of the steps" }), make("option", { value: "noise", text: "of the noise" }));
  by.addEventListener("change", () => change({ by: by.value }));
  const list = make("ul", { class: "points", "aria-label": "Points" });
  let rows = [];

  function addInWidestGap() {
    const at = [0, ...state.points.map((point) => point[0]), 1];
    const gaps = at.slice(1).map((position, i) => [position - at[i], (position + at[i]) / 2]);
    const [wide, middle] = gaps.reduce((best, gap) => (gap[0] > best[0] ? gap : best));
    if (wide > 2 * GAP) add(state.points.length === 1 && state.points[0][0] === 0 ? 1 : middle, valueAt(state.points, middle));
  }

  function row(i) {
    const place = numberField("at", { min: 0, max: 100, step: 5, unit: "%", "aria-label": `position of point ${i + 1} in percent`, onvalue: (value) => set(i, value / 100, state.points[i][1]) });
    const height = numberField("", { min: 0, max: state.limit, step: 0.1, "aria-label": `value of point ${i + 1}`, onvalue: (value) => set(i, state.points[i][0], value) });
    const gone = iconButton(`Remove point ${i + 1}`, ICONS.close, () => removePoint(i));
    const node = make("li", { onfocusin: () => choose(i) }, height.node, place.node, gone);
    return { node, place, height, gone };
  }

  function set(i, position, value) {
    const low = i ? state.points[i - 1][0] + GAP : 0, high = i < state.points.length - 1 ? state.points[i + 1][0] - GAP : 1;
    change({ points: state.points.with(i, [tidy(clamp(position, low, high)), tidy(clamp(value, 0, state.limit))]) });
  }

  const put = (input, value) => { if (input.getRootNode().activeElement !== input) input.value = value; };
  return {
    tools: [...shapes, more, make("span", { class: "ctrl-gap" }), back, forth],
    node: make("div", { class: "rows" }, make("div", { class: "ctrl-row" }, make("span", { text: "Window" }), start.node, until.node, by), list),
    draw(past) {
      back.disabled = !past.canUndo;
      forth.disabled = !past.canRedo;
      put(start.input, tidy(state.start * 100)); put(until.input, tidy(state.until * 100)); put(by, state.by);
      while (rows.length < state.points.length) { rows.push(row(rows.length)); list.append(rows.at(-1).node); }
      for (const extra of rows.splice(state.points.length)) extra.node.remove();
      rows.forEach(({ node, place, height, gone }, i) => {
        node.classList.toggle("chosen", state.chosen === i);
        height.input.max = state.limit;
        put(place.input, tidy(state.points[i][0] * 100)); put(height.input, state.points[i][1]);
        gone.disabled = state.points.length === 1;
      });
    },
  };
}

export default { render: renderCurve };
