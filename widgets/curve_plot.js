// CurvePad: the drawing.

const EDGE = { left: 40, right: 14, top: 12, bottom: 34 };

function curvePlot() {
  const back = draw("g", { class: "still" }),
    bars = draw("g", { class: "still" }),
    line = draw("polyline", { class: "line still" }),
    front = draw("g");
  const edge = (which, name) =>
    draw(
      "g",
      {
        class: "edge",
        role: "slider",
        tabindex: 0,
        "data-edge": which,
        "aria-label": name,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
      },
      draw("line"),
      draw("rect", { class: "reach", width: 24 }),
      draw("circle", { class: "knob", r: 6 }),
    );
  const edges = { start: edge("start", "Start of the window"), until: edge("until", "End of the window") };
  const svg = draw(
    "svg",
    { class: "plot", role: "group", "aria-label": "Curve over the steps" },
    back,
    bars,
    line,
    edges.start,
    edges.until,
    front,
  );
  let box = { width: 600, height: 220 },
    span = [0, 1],
    top = 1,
    nodes = [];
  const across = (fraction) => EDGE.left + fraction * (box.width - EDGE.left - EDGE.right);
  const up = (value) => box.height - EDGE.bottom - (value / top) * (box.height - EDGE.top - EDGE.bottom);
  const place = (position) => across(span[0] + position * (span[1] - span[0]));

  function pointNode(i) {
    return draw(
      "g",
      { class: "point", role: "slider", tabindex: 0, "data-point": i, "aria-valuemin": 0 },
      draw("circle", { class: "reach", r: 16 }),
      draw("circle", { class: "dot", r: 6 }),
    );
  }

  function drawGrid(state) {
    back.replaceChildren();
    const bottom = up(0),
      every = Math.ceil(state.steps / Math.max(4, Math.floor(box.width / 60)));
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      back.append(
        draw("line", {
          class: "grid",
          x1: EDGE.left,
          x2: box.width - EDGE.right,
          y1: up(share * top),
          y2: up(share * top),
        }),
      );
      if (share !== 0.25 && share !== 0.75)
        back.append(
          draw("text", {
            class: "axis",
            x: EDGE.left - 6,
            y: up(share * top) + 4,
            "text-anchor": "end",
            text: tidy(share * top),
          }),
        );
    }
    for (let i = 0; i < state.steps; i++) {
      if (i % every === 0 || i === state.steps - 1)
        if (i === state.steps - 1 || state.steps - 1 - i >= every * 0.6)
          back.append(
            draw("text", {
              class: "axis",
              x: across((i + 0.5) / state.steps),
              y: bottom + 15,
              "text-anchor": "middle",
              text: i + 1,
            }),
          );
    }
    back.append(
      draw("text", { class: "axis", x: box.width - EDGE.right, y: box.height - 3, "text-anchor": "end", text: "step" }),
      draw("text", { class: "axis", x: EDGE.left - 32, y: box.height - 3, text: state.label }),
    );
    back.append(
      draw("rect", {
        class: "inside",
        x: across(state.start),
        y: EDGE.top,
        width: Math.max(0, across(state.until) - across(state.start)),
        height: bottom - EDGE.top,
      }),
    );
  }

  function drawSteps(state, inside) {
    bars.replaceChildren();
    const width = Math.max(1, ((box.width - EDGE.left - EDGE.right) / state.steps) * 0.62);
    for (let i = 0; i < state.steps; i++) {
      const x = across((i + 0.5) / state.steps),
        at = inside?.indexOf(i) ?? -1;
      if (at < 0) {
        if (inside) bars.append(draw("circle", { class: "rest", cx: x, cy: up(0), r: Math.min(3, width / 2 + 0.5) }));
        continue;
      }
      const value = valueAt(state.points, at / Math.max(1, inside.length - 1)),
        high = up(value);
      bars.append(
        draw("rect", {
          class: state.hover === i ? "bar now" : "bar",
          "data-step": i,
          "data-value": value,
          x: x - width / 2,
          y: high,
          width,
          height: Math.max(1, up(0) - high),
          rx: Math.min(2, width / 2),
        }),
      );
    }
  }

  function drawHandles(state) {
    while (nodes.length < state.points.length) {
      nodes.push(pointNode(nodes.length));
      front.append(nodes.at(-1));
    }
    for (const extra of nodes.splice(state.points.length)) extra.remove();
    state.points.forEach(([position, value], i) =>
      dress(
        nodes[i],
        {
          class: `point${state.chosen === i ? " chosen" : ""}`,
          transform: `translate(${place(position)} ${up(value)})`,
          "aria-label": `point ${i + 1} of ${state.points.length}`,
          "aria-valuemax": state.limit,
          "aria-valuenow": value,
          "aria-valuetext": `${state.label} ${value} at ${tidy(position * 100)} % of the window`,
        },
        [],
      ),
    );
    for (const [which, node] of Object.entries(edges)) {
      dress(
        node,
        {
          transform: `translate(${across(state[which])} 0)`,
          "aria-valuenow": tidy(state[which] * 100),
          "aria-valuetext": `${tidy(state[which] * 100)} % of the run`,
        },
        [],
      );
      dress(node.children[0], { y1: EDGE.top, y2: up(0) }, []);
      dress(node.children[1], { x: -12, y: up(0) - 6, height: EDGE.bottom }, []);
      dress(node.children[2], { cy: up(0) }, []);
    }
  }

  return {
    svg,
    across,
    up,
    draw(state) {
      box = { width: svg.clientWidth || 600, height: svg.clientHeight || 220 };
      svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
      const highest = Math.max(...state.points.map((point) => point[1]));
      if (!state.held) top = Math.min(state.limit, niceTop(Math.max(1, highest * 1.15)));
      if (highest > top) top = niceTop(highest);
      const inside = stepsInside(state);
      span = inside?.length
        ? [(inside[0] + 0.5) / state.steps, (inside.at(-1) + 0.5) / state.steps]
        : [state.start, state.until];
      drawGrid(state);
      drawSteps(state, inside);
      const ends = [[0, state.points[0][1]], ...state.points, [1, state.points.at(-1)[1]]];
      line.setAttribute("points", ends.map(([position, value]) => `${place(position)},${up(value)}`).join(" "));
      line.setAttribute("class", inside?.length === 0 ? "line still idle" : "line still");
      drawHandles(state);
    },
    // From the page to a fraction of the run, a position in the window and a value.
    locate(event) {
      const at = svg.getBoundingClientRect(),
        x = event.clientX - at.left,
        y = event.clientY - at.top;
      const run = (x - EDGE.left) / (box.width - EDGE.left - EDGE.right);
      const wide = span[1] - span[0];
      return {
        run,
        position: wide > 0 ? (run - span[0]) / wide : 0,
        value: ((box.height - EDGE.bottom - y) / (box.height - EDGE.top - EDGE.bottom)) * top,
      };
    },
    focusPoint(i) {
      nodes[i]?.focus({ preventScroll: true });
    },
  };
}
