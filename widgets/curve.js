// CurvePad: a schedule as a curve over the steps. Points and window are dragged, moved by keys, or typed.

const GAP = 0.005; // between the positions of two points
const tidy = (value) => Number(value.toFixed(4));

// The evaluations inside the window, as `ctrl.Schedule.steps`; null where they depend on the noise times of a run.
function stepsInside({ start, until, by, steps, times }) {
  const all = [...Array(steps).keys()];
  if (by === "noise" && times.length !== steps) return null;
  const inside =
    by === "steps"
      ? all.filter((i) => i / steps >= start && (i + 1) / steps <= until)
      : all.filter((i) => times[i] >= 1 - until && times[i] <= 1 - start);
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
  const panel = mount(context, "curve", "Schedule");
  const { life } = panel;
  const NAMES = ["points", "start", "until", "by"];
  const read = () =>
    Object.fromEntries([...NAMES, "steps", "times", "limit", "label"].map((name) => [name, model.get(name)]));
  const state = { ...read(), chosen: null, hover: null };
  const value = () => Object.fromEntries(NAMES.map((name) => [name, state[name]]));
  const past = timeline(value());
  let sending = false;
  const plot = curvePlot();
  const controls = curveControls({
    state,
    change,
    choose,
    moveEdge,
    undo: () => restore(past.undo()),
    redo: () => restore(past.redo()),
    add,
    removePoint,
  });
  const said = make("p", { class: "said" });
  panel.root.append(
    make("div", { class: "ctrl-row tools" }, ...controls.tools),
    make("div", { class: "chart" }, plot.svg),
    said,
    controls.node,
  );

  const paint = eachFrame(() => {
    if (!life.aborted) {
      plot.draw(state);
      controls.draw(past);
      say();
    }
  });

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
    if (old) {
      Object.assign(state, old, { chosen: null });
      change({}, { lasting: false });
    }
  }

  function choose(chosen) {
    state.chosen = chosen;
    paint();
  }

  function add(position, height) {
    const at = state.points.findIndex((point) => point[0] > position),
      index = at < 0 ? state.points.length : at;
    if (state.points.some((point) => Math.abs(point[0] - position) < GAP)) return;
    change({
      points: state.points.toSpliced(index, 0, [tidy(position), tidy(clamp(height, 0, state.limit))]),
      chosen: index,
    });
  }

  function removePoint(index) {
    if (state.points.length > 1) change({ points: state.points.toSpliced(index, 1), chosen: null });
  }

  function movePoint(index, position, height, options) {
    const low = index ? state.points[index - 1][0] + GAP : 0,
      high = index < state.points.length - 1 ? state.points[index + 1][0] - GAP : 1;
    change(
      {
        points: state.points.with(index, [tidy(clamp(position, low, high)), tidy(clamp(height, 0, state.limit))]),
        chosen: index,
      },
      options,
    );
  }

  function moveEdge(which, to, options) {
    const least = 0.5 / state.steps;
    change(
      which === "start"
        ? { start: tidy(clamp(to, 0, state.until - least)) }
        : { until: tidy(clamp(to, state.start + least, 1)) },
      options,
    );
  }

  function say() {
    const inside = stepsInside(state),
      { steps, label, points } = state;
    const values = points.map((point) => point[1]),
      low = Math.min(...values),
      high = Math.max(...values);
    const range = low === high ? `${label} ${tidy(high)}` : `${label} ${tidy(low)} to ${tidy(high)}`;
    said.classList.toggle("none", inside !== null && !inside.length);
    if (state.hover !== null) {
      const i = state.hover,
        on = inside?.includes(i);
      said.textContent = `Step ${i + 1} of ${steps}: ${on ? tidy(valueAt(points, (i - inside[0]) / Math.max(1, inside.length - 1))) : "0, outside the window"}`;
    } else if (inside === null)
      said.textContent = `${range}, while the noise is between ${tidy(state.start * 100)} % and ${tidy(state.until * 100)} % of the way; the sampler decides which steps these are.`;
    else if (!inside.length)
      said.textContent = `Acts in no step: the window is narrower than one of ${steps} steps. Widen it.`;
    else
      said.textContent = `${range}, in ${inside.length === steps ? `all ${steps} steps` : `steps ${inside[0] + 1}–${inside.at(-1) + 1} of ${steps}`}.`;
  }

  function moving(now) {
    if (model.get("moving") !== now) {
      model.set("moving", now);
      model.save_changes();
    }
  }

  curvePointers(
    {
      plot,
      state,
      choose,
      add,
      movePoint,
      moveEdge,
      moving,
      paint,
      end() {
        if (JSON.stringify(value()) !== JSON.stringify(past.now)) past.push(value());
        paint();
      },
    },
    life,
  );
  curveKeys(
    {
      plot,
      state,
      root: panel.root,
      add,
      removePoint,
      movePoint,
      moveEdge,
      undo: () => restore(past.undo()),
      redo: () => restore(past.redo()),
    },
    life,
  );
  panel.watch([...NAMES, "steps", "times", "limit", "label"].map((name) => `change:${name}`).join(" "), () => {
    if (sending) return;
    Object.assign(state, read());
    if (JSON.stringify(value()) !== JSON.stringify(past.now)) {
      past.push(value());
      state.chosen = null;
    }
    paint();
  });
  const resized = new ResizeObserver(() => paint());
  resized.observe(plot.svg);
  life.addEventListener("abort", () => resized.disconnect());
  paint();
  return panel.end;
}

export default { render: renderCurve };
