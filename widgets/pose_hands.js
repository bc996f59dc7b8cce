// PosePad: pointers and keys.

// What lies under a point of the canvas: a grip of the box, a joint, a limb, or the inside of the box.
function posedUnder([x, y], { state, size, reach }) {
  const [width, height] = size(),
    box = state.drawnBox;
  const near = (at) => Math.hypot(at[0] - x, at[1] - y);
  for (const [grip, at] of Object.entries(box?.places ?? {})) if (near(at) < reach) return { grip };
  let best = null;
  state.figures.forEach((figure, i) =>
    figure.body.forEach(([px, py, shown], joint) => {
      const far = shown ? near([px * width, py * height]) - (i === state.active ? 2 : 0) : Infinity;
      if (far < reach && far < (best?.far ?? Infinity)) best = { figure: i, joint, far };
    }),
  );
  if (best) return best;
  const at = (figure, joint) => [figure.body[joint][0] * width, figure.body[joint][1] * height];
  const limb = state.figures.findIndex((figure) =>
    SKELETON.limbs.some(
      ([a, b]) =>
        figure.body[a][2] && figure.body[b][2] && distanceToLimb([x, y], at(figure, a), at(figure, b)) < reach * 0.7,
    ),
  );
  if (limb >= 0) return { figure: limb };
  const inBox = box && x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height;
  return inBox ? { figure: state.active } : null;
}

function posePointers(pad, life) {
  const { canvas, state, size, ratio, active, change, choose, paint, past, moving } = pad;
  const { svg } = canvas;
  const fingers = new Map();
  let pinch = null;
  const where = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [at.x, at.y];
  };
  const under = (event) =>
    posedUnder(where(event), { state, size, reach: (event.pointerType === "touch" ? 26 : 14) * canvas.unit });
  const place = (figure, { joint = null } = {}) => {
    const kept = state.keepInside && joint === null ? inside(figure) : figure;
    change(
      state.figures.map((old, i) => (i === state.active ? kept : old)),
      { lasting: false },
    );
  };

  drag(
    svg,
    {
      start(event) {
        const found = under(event);
        fingers.set(event.pointerId, where(event));
        moving(true);
        if (fingers.size === 2 && active()) return beginPinch();
        if (!found) {
          choose(state.active, null);
          return { figure: null };
        }
        if (found.figure !== undefined) choose(found.figure, found.joint ?? null);
        if (found.joint !== undefined) canvas.focusJoint(found.figure, found.joint);
        return { ...found, from: where(event), figure: active(), box: state.drawnBox };
      },
      move(hold, event) {
        fingers.set(event.pointerId, where(event));
        if (pinch) return movePinch();
        if (hold.figure) moveHeld(hold, where(event), event);
      },
      end(_hold, event) {
        fingers.delete(event.pointerId);
        if (!fingers.size) {
          pinch = null;
          moving(false);
        }
        if (state.figures !== past().now) past().push(state.figures);
        paint();
      },
    },
    life,
  );

  function moveHeld({ grip, joint, from, figure, box }, [x, y], event) {
    const [width, height] = size();
    if (joint !== undefined) {
      const [low, high] = state.keepInside && !event.altKey ? [0, 1] : [-1, 2];
      return place(withJoint(figure, joint, clamp(x / width, low, high), clamp(y / height, low, high)), { joint });
    }
    if (!grip) return place(transformed(figure, { move: [(x - from[0]) / width, (y - from[1]) / height] }, ratio()));
    const centre = [box.x + box.width / 2, box.y + box.height / 2];
    if (grip === "turn") {
      const angle = (at) => Math.atan2(at[1] - centre[1], at[0] - centre[0]);
      const turn = angle([x, y]) - angle(from),
        eighth = Math.PI / 12;
      return place(
        transformed(
          figure,
          {
            about: [centre[0] / width, centre[1] / height],
            turn: event.shiftKey ? Math.round(turn / eighth) * eighth : turn,
          },
          ratio(),
        ),
      );
    }
    const fixed = box.places[{ nw: "se", se: "nw", ne: "sw", sw: "ne" }[grip]];
    const far = (at) => Math.hypot(at[0] - fixed[0], at[1] - fixed[1]);
    place(
      transformed(
        figure,
        { about: [fixed[0] / width, fixed[1] / height], scale: clamp(far([x, y]) / far(from), 0.1, 10) },
        ratio(),
      ),
    );
  }

  function beginPinch() {
    pinch = { figure: active(), from: [...fingers.values()] };
    return { figure: null };
  }

  // Two fingers move, scale and turn the chosen figure.
  function movePinch() {
    const [width, height] = size(),
      [a, b] = pinch.from,
      [c, d] = [...fingers.values()];
    if (!d) return;
    const middle = ([p, q]) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2],
      far = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]);
    const angle = (p, q) => Math.atan2(q[1] - p[1], q[0] - p[0]),
      [m, n] = [middle([a, b]), middle([c, d])];
    place(
      transformed(
        pinch.figure,
        {
          about: [m[0] / width, m[1] / height],
          scale: clamp(far(c, d) / far(a, b), 0.1, 10),
          turn: angle(c, d) - angle(a, b),
          move: [(n[0] - m[0]) / width, (n[1] - m[1]) / height],
        },
        ratio(),
      ),
    );
  }

  svg.addEventListener(
    "pointermove",
    (event) => {
      if (fingers.size) return;
      const found = under(event);
      state.hover = found?.joint === undefined ? null : found;
      svg.style.cursor = !found
        ? "default"
        : found.grip === "turn"
          ? "crosshair"
          : found.grip
            ? ["nw", "se"].includes(found.grip)
              ? "nwse-resize"
              : "nesw-resize"
            : found.joint === undefined
              ? "move"
              : "grab";
      paint();
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
  svg.addEventListener(
    "focusin",
    (event) => {
      const joint = event.target.closest?.(".joint");
      if (joint) choose(Number(joint.parentNode.dataset.figure), Number(joint.dataset.joint));
    },
    { signal: life },
  );
}

function poseKeys({ canvas, panel, state, active, size, change, choose, replaceActive, undo, redo }, life) {
  const next = (by) => {
    const shown = SKELETON.joints.map((_, i) => i).filter((i) => active().body[i][2]);
    if (!shown.length) return;
    const joint = shown[(shown.indexOf(state.joint ?? 0) + by + shown.length) % shown.length];
    choose(state.active, joint);
    requestAnimationFrame(() => canvas.focusJoint(state.active, joint));
  };
  const nudge = (dx, dy, event) => {
    const [width, height] = size(),
      step = event.shiftKey ? 1 : 4,
      [x, y] = active().body[state.joint];
    const [low, high] = state.keepInside ? [0, 1] : [-1, 2];
    replaceJoint(
      withJoint(
        active(),
        state.joint,
        clamp(x + (dx * step) / width, low, high),
        clamp(y + (dy * step) / height, low, high),
      ),
    );
  };
  const replaceJoint = (made) => change(state.figures.map((figure, i) => (i === state.active ? made : figure)));
  const hide = () => {
    replaceJoint(withoutJoint(active(), state.joint));
    next(1);
  };
  canvas.svg.addEventListener(
    "keydown",
    (event) => {
      if (!active() || event.ctrlKey || event.metaKey || event.altKey) return;
      const keys = {
        ArrowLeft: () => nudge(-1, 0, event),
        ArrowRight: () => nudge(1, 0, event),
        ArrowUp: () => nudge(0, -1, event),
        ArrowDown: () => nudge(0, 1, event),
        PageDown: () => next(1),
        PageUp: () => next(-1),
        Delete: hide,
        Backspace: hide,
        h: hide,
        m: () => replaceActive(mirrored),
      };
      const does = keys[event.key] ?? keys[event.key.toLowerCase()];
      if (!does || (state.joint === null && !["PageDown", "PageUp", "m", "M"].includes(event.key))) return;
      event.preventDefault();
      does();
    },
    { signal: life },
  );
  panel.root.addEventListener(
    "keydown",
    (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.target.matches("input[type=number]")) return;
      const key = event.key.toLowerCase();
      const does = key === "z" ? (event.shiftKey ? redo : undo) : key === "y" ? redo : null;
      if (!does) return;
      event.preventDefault();
      does();
    },
    { signal: life },
  );
}
