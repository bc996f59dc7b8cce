// CurvePad: pointers, keys, shapes and numbers.

function curvePointers({ plot, state, choose, add, movePoint, moveEdge, moving, paint, end }, life) {
  const { svg } = plot;
  drag(
    svg,
    {
      start(event) {
        const point = event.target.closest(".point"),
          edge = event.target.closest(".edge");
        if (!point && !edge) return null;
        const at = plot.locate(event);
        state.held = true;
        moving(true);
        if (edge) {
          edge.focus({ preventScroll: true });
          return { edge: edge.dataset.edge, off: at.run - state[edge.dataset.edge] };
        }
        const index = Number(point.dataset.point),
          [position, value] = state.points[index];
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
      end() {
        state.held = false;
        moving(false);
        end();
      },
    },
    life,
  );
  svg.addEventListener(
    "dblclick",
    (event) => {
      if (event.target.closest(".point, .edge")) return;
      const { position, value } = plot.locate(event);
      if (position >= 0 && position <= 1) add(position, value);
    },
    { signal: life },
  );
  svg.addEventListener(
    "pointermove",
    (event) => {
      const step = Math.floor(plot.locate(event).run * state.steps);
      const hover = step >= 0 && step < state.steps ? step : null;
      if (hover !== state.hover) {
        state.hover = hover;
        paint();
      }
    },
    { signal: life },
  );
  svg.addEventListener(
    "pointerleave",
    () => {
      state.hover = null;
      paint();
    },
    { signal: life },
  );
}

function curveKeys({ plot, state, root, add, removePoint, movePoint, moveEdge, undo, redo }, life) {
  plot.svg.addEventListener(
    "keydown",
    (event) => {
      const point = event.target.closest(".point"),
        edge = event.target.closest(".edge");
      if (event.ctrlKey || event.metaKey || event.altKey || (!point && !edge)) return;
      const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0,
        up = { ArrowUp: 1, ArrowDown: -1 }[event.key] ?? 0;
      if (edge) {
        if (!across && !up) return;
        event.preventDefault();
        return moveEdge(edge.dataset.edge, state[edge.dataset.edge] + (across || up) / state.steps);
      }
      const index = Number(point.dataset.point),
        [position, value] = state.points[index];
      const fine = event.shiftKey ? 0.2 : 1,
        unit = niceTop(Math.max(1, ...state.points.map((other) => other[1]))) / 40;
      if (across || up) movePoint(index, position + across * 0.05 * fine, value + up * unit * fine);
      else if (event.key === "Delete" || event.key === "Backspace") {
        removePoint(index);
        requestAnimationFrame(() => plot.focusPoint(Math.max(0, index - 1)));
      } else if (event.key === "Enter" || event.key === "+") {
        const next = state.points[index + 1]?.[0] ?? (position < 1 ? 1 : null);
        if (next !== null) add((position + next) / 2, valueAt(state.points, (position + next) / 2));
      } else return;
      event.preventDefault();
    },
    { signal: life },
  );
  root.addEventListener(
    "keydown",
    (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.target.matches("input[type=number]")) return;
      const key = event.key.toLowerCase(),
        does = key === "z" ? (event.shiftKey ? redo : undo) : key === "y" ? redo : null;
      if (does) {
        event.preventDefault();
        does();
      }
    },
    { signal: life },
  );
}

function curveControls({ state, change, choose, moveEdge, undo, redo, add, removePoint }) {
  const highest = () => Math.max(...state.points.map((point) => point[1])) || Math.min(1, state.limit);
  const shape = (name, points) => textButton(name, () => change({ points: points(highest()), chosen: null }));
  const shapes = [
    shape("Constant", (top) => [[0, top]]),
    shape("Rise", (top) => [
      [0, 0],
      [1, top],
    ]),
    shape("Fall", (top) => [
      [0, top],
      [1, 0],
    ]),
    shape("Hill", (top) => [
      [0, 0],
      [0.5, top],
      [1, 0],
    ]),
  ];
  const back = iconButton("Undo", ICONS.undo, undo),
    forth = iconButton("Redo", ICONS.redo, redo);
  const more = make(
    "button",
    { type: "button", onclick: addInWidestGap, title: "Or double-click the curve" },
    icon(ICONS.plus),
    make("span", { text: "Point" }),
  );
  const window = (name, which) =>
    numberField(name, { min: 0, max: 100, step: 5, unit: "%", onvalue: (value) => moveEdge(which, value / 100) });
  const start = window("from", "start"),
    until = window("until", "until");
  const by = make(
    "select",
    { "aria-label": "Window by" },
    make("option", { value: "steps", text: "of the steps" }),
    make("option", { value: "noise", text: "of the noise" }),
  );
  by.addEventListener("change", () => change({ by: by.value }));
  const list = make("ul", { class: "points", "aria-label": "Points" });
  let rows = [];

  function addInWidestGap() {
    const at = [0, ...state.points.map((point) => point[0]), 1];
    const gaps = at.slice(1).map((position, i) => [position - at[i], (position + at[i]) / 2]);
    const [wide, middle] = gaps.reduce((best, gap) => (gap[0] > best[0] ? gap : best));
    if (wide > 2 * GAP)
      add(state.points.length === 1 && state.points[0][0] === 0 ? 1 : middle, valueAt(state.points, middle));
  }

  function row(i) {
    const place = numberField("at", {
      min: 0,
      max: 100,
      step: 5,
      unit: "%",
      "aria-label": `position of point ${i + 1} in percent`,
      onvalue: (value) => set(i, value / 100, state.points[i][1]),
    });
    const height = numberField("", {
      min: 0,
      max: state.limit,
      step: 0.1,
      "aria-label": `value of point ${i + 1}`,
      onvalue: (value) => set(i, state.points[i][0], value),
    });
    const gone = iconButton(`Remove point ${i + 1}`, ICONS.close, () => removePoint(i));
    const node = make("li", { onfocusin: () => choose(i) }, height.node, place.node, gone);
    return { node, place, height, gone };
  }

  function set(i, position, value) {
    const low = i ? state.points[i - 1][0] + GAP : 0,
      high = i < state.points.length - 1 ? state.points[i + 1][0] - GAP : 1;
    change({ points: state.points.with(i, [tidy(clamp(position, low, high)), tidy(clamp(value, 0, state.limit))]) });
  }

  const put = (input, value) => {
    if (input.getRootNode().activeElement !== input) input.value = value;
  };
  return {
    tools: [...shapes, more, make("span", { class: "ctrl-gap" }), back, forth],
    node: make(
      "div",
      { class: "rows" },
      make("div", { class: "ctrl-row" }, make("span", { text: "Window" }), start.node, until.node, by),
      list,
    ),
    draw(past) {
      back.disabled = !past.canUndo;
      forth.disabled = !past.canRedo;
      put(start.input, tidy(state.start * 100));
      put(until.input, tidy(state.until * 100));
      put(by, state.by);
      while (rows.length < state.points.length) {
        rows.push(row(rows.length));
        list.append(rows.at(-1).node);
      }
      for (const extra of rows.splice(state.points.length)) extra.node.remove();
      rows.forEach(({ node, place, height, gone }, i) => {
        node.classList.toggle("chosen", state.chosen === i);
        height.input.max = state.limit;
        put(place.input, tidy(state.points[i][0] * 100));
        put(height.input, state.points[i][1]);
        gone.disabled = state.points.length === 1;
      });
    },
  };
}
