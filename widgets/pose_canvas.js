// PosePad: the drawing, as `ctrl.Skeleton.draw` makes it, with handles.

// From the wrist, 0, along each finger, in the colours of controlnet_aux.
const FINGERS = Array.from({ length: 20 }, (_, i) => ({
  from: i % 4 === 0 ? 0 : i,
  to: i + 1,
  colour: `hsl(${i * 18} 100% 50%)`,
}));
const colour = ([r, g, b], dim = 1) => `rgb(${Math.trunc(r * dim)} ${Math.trunc(g * dim)} ${Math.trunc(b * dim)})`;

function poseCanvas() {
  const image = draw("image", { preserveAspectRatio: "none" });
  const people = draw("g"),
    frame = draw("g", { class: "frame" }),
    name = draw("text", { class: "name", "text-anchor": "middle" });
  const box = draw("rect", { class: "box" }),
    stem = draw("line", { class: "stem" });
  const grips = ["nw", "ne", "se", "sw", "turn"].map((which) => draw("circle", { class: "grip", "data-grip": which }));
  frame.append(box, stem, ...grips);
  const svg = draw("svg", { class: "canvas", role: "group", "aria-label": "Figures" }, image, people, frame, name);
  const coarse = matchMedia("(pointer: coarse)").matches;
  let url = "",
    nodes = [],
    unit = 1;

  // Nodes are made once a figure and then only moved, so that the focus stays where it is.
  function figureNodes() {
    const limbs = SKELETON.limbs.map((_, i) => draw("ellipse", { fill: colour(SKELETON.colours[i], 0.6) }));
    const parts = {
      hand_left: draw("g", { class: "hand" }),
      hand_right: draw("g", { class: "hand" }),
      face: draw("path", { class: "face" }),
    };
    const joints = SKELETON.joints.map((label, i) =>
      draw(
        "g",
        {
          class: "joint",
          role: "slider",
          tabindex: -1,
          "aria-label": label,
          "aria-valuemin": 0,
          "aria-valuemax": 100,
          "data-joint": i,
        },
        draw("circle", { class: "dot", fill: colour(SKELETON.colours[i]) }),
        draw("circle", { class: "ring" }),
      ),
    );
    const group = draw("g", {}, ...limbs, ...joints, ...Object.values(parts));
    people.append(group);
    return { group, limbs, parts, joints };
  }

  function drawFigure({ group, limbs, parts, joints }, figure, which, state, [width, height], thick) {
    const chosen = which === state.active;
    const at = ([x, y]) => [x * width, y * height];
    group.setAttribute("class", chosen ? "" : "resting");
    group.setAttribute("data-figure", which);
    SKELETON.limbs.forEach(([from, to], i) => {
      const [x1, y1] = at(figure.body[from]),
        [x2, y2] = at(figure.body[to]);
      const shown = figure.body[from][2] && figure.body[to][2];
      dress(
        limbs[i],
        {
          rx: Math.hypot(x2 - x1, y2 - y1) / 2,
          ry: thick,
          visibility: shown ? "visible" : "hidden",
          transform: `translate(${(x1 + x2) / 2} ${(y1 + y2) / 2}) rotate(${(Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI})`,
        },
        [],
      );
    });
    const scale = Math.min(width, height) / 512;
    for (const hand of ["hand_left", "hand_right"]) drawHand(parts[hand], figure[hand] ?? [], at, scale);
    const dots = (figure.face ?? []).filter((point) => point[2]).map((point) => `M${at(point).join(" ")}h.01`);
    dress(parts.face, { d: dots.join(""), "stroke-width": 6 * scale }, []);
    joints.forEach((node, i) => drawJoint(node, figure.body[i], i, which, state, at(figure.body[i]), thick));
  }

  function drawJoint(node, [x, y, shown], joint, which, state, [px, py], thick) {
    const hover = state.hover?.figure === which && state.hover.joint === joint;
    const chosen = which === state.active && state.joint === joint;
    const tabbable = which === state.active && (chosen || (state.joint === null && joint === 0));
    node.setAttribute("class", `joint${shown ? "" : " hidden"}${hover ? " hover" : ""}${chosen ? " chosen" : ""}`);
    dress(
      node,
      {
        tabindex: tabbable ? 0 : -1,
        transform: `translate(${px} ${py})`,
        "aria-valuenow": Math.round(x * 100),
        "aria-valuetext": `figure ${which + 1}, ${Math.round(x * 100)} % across, ${Math.round(y * 100)} % down`,
      },
      [],
    );
    node.firstChild.setAttribute("r", thick * (hover || chosen ? 1.5 : 1));
    node.lastChild.setAttribute("r", thick * 1.5 + 3 * unit);
  }

  function drawHand(group, points, at, scale) {
    if (points.length && !group.firstChild) {
      group.append(...FINGERS.map(({ colour }) => draw("line", { stroke: colour })));
      group.append(...points.map(() => draw("circle", { fill: "#0000ff" })));
    }
    group.style.display = points.length ? "" : "none";
    if (!points.length) return;
    FINGERS.forEach(({ from, to }, i) => {
      const [[x1, y1], [x2, y2]] = [at(points[from]), at(points[to])];
      const visibility = points[from][2] && points[to][2] ? "visible" : "hidden";
      dress(group.children[i], { x1, y1, x2, y2, "stroke-width": Math.max(1, 2 * scale), visibility }, []);
    });
    points.forEach((point, i) => {
      const [cx, cy] = at(point);
      const visibility = point[2] ? "visible" : "hidden";
      dress(group.children[FINGERS.length + i], { cx, cy, r: Math.max(1, 4 * scale), visibility }, []);
    });
  }

  function drawFrame(state, [width, height], pad) {
    const bound = state.figures[state.active] && bounds(state.figures[state.active]);
    frame.style.display = bound ? "" : "none";
    if (!bound) return (state.drawnBox = null);
    const x = bound.x * width - pad,
      y = bound.y * height - pad,
      w = bound.width * width + 2 * pad,
      h = bound.height * height + 2 * pad;
    const stemEnd = y - 22 * unit > 4 * unit ? y - 22 * unit : y + h + 22 * unit;
    dress(box, { x, y, width: w, height: h }, []);
    dress(stem, { x1: x + w / 2, x2: x + w / 2, y1: stemEnd < y ? y : y + h, y2: stemEnd }, []);
    const places = { nw: [x, y], ne: [x + w, y], se: [x + w, y + h], sw: [x, y + h], turn: [x + w / 2, stemEnd] };
    for (const grip of grips) {
      const [cx, cy] = places[grip.dataset.grip];
      dress(grip, { cx, cy, r: (coarse ? 8 : 5) * unit }, []);
    }
    state.drawnBox = { x, y, width: w, height: h, places };
  }

  function drawName(state, [width, height]) {
    const at =
      state.hover?.joint !== undefined
        ? state.hover
        : state.joint !== null
          ? { figure: state.active, joint: state.joint }
          : null;
    const point = at && state.figures[at.figure]?.body[at.joint];
    name.textContent = point && point[2] ? SKELETON.joints[at.joint] : "";
    if (point)
      dress(
        name,
        {
          x: clamp(point[0] * width, 40 * unit, width - 40 * unit),
          y: clamp(point[1] * height - 14 * unit, 14 * unit, height - 4),
          "font-size": 12 * unit,
        },
        [],
      );
  }

  return {
    svg,
    get unit() {
      return unit;
    }, // canvas pixels to one of the screen
    background(data) {
      URL.revokeObjectURL(url);
      url = data ? URL.createObjectURL(new Blob([data])) : "";
      if (url) image.setAttribute("href", url);
      else image.removeAttribute("href");
    },
    draw(state, [width, height], opacity) {
      unit = width / Math.max(1, svg.getBoundingClientRect().width || width);
      const thick = Math.max(2, Math.round((4 * Math.min(width, height)) / 512));
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      dress(image, { width, height, opacity }, []);
      while (nodes.length < state.figures.length) nodes.push(figureNodes());
      for (const extra of nodes.splice(state.figures.length)) extra.group.remove();
      state.figures.forEach((figure, i) => drawFigure(nodes[i], figure, i, state, [width, height], thick));
      drawFrame(state, [width, height], 14 * unit + thick);
      drawName(state, [width, height]);
    },
    focusJoint(figure, joint) {
      nodes[figure]?.joints[joint]?.focus({ preventScroll: true });
    },
  };
}
