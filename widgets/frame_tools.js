// FrameView: gestures on the picture, and the rows under it.

const MODES = { divider: "Divider", flip: "Flip", difference: "Difference", side: "Side by side" };
const PIN = "M6 2.5h4M6.5 2.5v4L4.5 9h7l-2-2.5v-4M8 9v4.5";

// Wheel with Ctrl, pinch, double click and keys zoom; dragging and arrows move; a tap flips.
function stageGestures(stage, look, { zoomTo, moveTo, flip, flips, cellAt }, life) {
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  drag(
    stage,
    {
      start(event) {
        const finger = {
          x: event.clientX,
          y: event.clientY,
          fromX: look.x,
          fromY: look.y,
          moved: false,
          box: cellAt(event),
        };
        fingers.set(event.pointerId, finger);
        stage.focus({ preventScroll: true });
        if (fingers.size === 2) fingers.pinch = { spread: spread(), zoom: look.zoom };
        return { finger, startX: event.clientX, startY: event.clientY };
      },
      move({ finger, startX, startY }, event) {
        finger.x = event.clientX;
        finger.y = event.clientY;
        if (Math.hypot(finger.x - startX, finger.y - startY) > 4) finger.moved = true;
        const box = finger.box;
        if (fingers.size === 2) {
          const [a, b] = [...fingers.values()];
          finger.moved = true;
          return zoomTo(
            (fingers.pinch.zoom * spread()) / Math.max(1, fingers.pinch.spread),
            ((a.x + b.x) / 2 - box.left) / box.width,
            ((a.y + b.y) / 2 - box.top) / box.height,
          );
        }
        if (look.zoom > 1)
          moveTo(finger.fromX + (finger.x - startX) / box.width, finger.fromY + (finger.y - startY) / box.height);
      },
      end({ finger }, event) {
        fingers.delete(event.pointerId);
        if (!finger.moved && event.type === "pointerup" && flips()) flip();
      },
    },
    life,
  );
  const point = (event) => {
    const box = cellAt(event);
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      zoomTo(look.zoom * Math.exp(-event.deltaY / 200), ...point(event));
    },
    { signal: life, passive: false },
  );
  stage.addEventListener(
    "dblclick",
    (event) => {
      if (!flips()) zoomTo(look.zoom > 1 ? 1 : 4, ...point(event));
    },
    { signal: life },
  );
  stage.addEventListener(
    "keydown",
    (event) => {
      const step = 0.1 * (event.shiftKey ? 5 : 1);
      const keys = {
        "+": () => zoomTo(look.zoom * 1.5),
        "=": () => zoomTo(look.zoom * 1.5),
        "-": () => zoomTo(look.zoom / 1.5),
        0: () => zoomTo(1),
        ArrowLeft: () => moveTo(look.x + step, look.y),
        ArrowRight: () => moveTo(look.x - step, look.y),
        ArrowUp: () => moveTo(look.x, look.y + step),
        ArrowDown: () => moveTo(look.x, look.y - step),
        " ": flip,
      };
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    },
    { signal: life },
  );
}

// The rows under the picture: scrubbing, comparing, zooming, saving.
function frameTools(look, redraw, { pin, save, zoomTo }) {
  const set = (changes) => {
    Object.assign(look, changes);
    redraw();
  };
  const modes = Object.entries(MODES).map(([mode, text]) =>
    textButton(text, () => set({ mode, flipped: false }), { "data-mode": mode }),
  );
  const slide = (label, props, oninput) =>
    make("input", {
      type: "range",
      "aria-label": label,
      ...props,
      oninput: (event) => oninput(event.target.valueAsNumber),
    });
  const split = slide("Divider", { min: 0, max: 100, step: "any" }, (value) => set({ split: value / 100 }));
  const splitNumber = numberField("", {
    min: 0,
    max: 100,
    unit: "%",
    "aria-label": "Divider in percent",
    onvalue: (value) => set({ split: value / 100 }),
  });
  const gain = slide("Gain of the difference", { min: 1, max: 20, step: 1 }, (value) => set({ gain: value }));
  const gainNumber = numberField("×", {
    min: 1,
    max: 20,
    "aria-label": "Gain of the difference, typed",
    onvalue: (value) => set({ gain: value }),
  });
  const flipButton = textButton("Flip now", () => set({ flipped: !look.flipped }));
  const tools = { onindex: () => {} };
  const goTo = (index) => {
    set({ index });
    tools.onindex();
  };
  const scrub = slide("Step", { min: 1, step: 1 }, (value) => goTo(value - 1));
  const step = numberField("step", { min: 1, max: 1, step: 1, onvalue: (value) => goTo(Math.round(value) - 1) });
  let playing = 0;
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
  };
  const play = textButton("Play", () => {
    if (playing) return stop();
    play.textContent = "Pause";
    if (look.index >= scrub.max - 1) goTo(0);
    playing = setInterval(() => {
      goTo(look.index + 1);
      if (look.index >= scrub.max - 1) stop();
    }, 160);
  });
  const scrubbing = make("div", { class: "ctrl-row" }, play, scrub, step.node);
  const group = make("div", { class: "ctrl-group", role: "group", "aria-label": "Compare by" }, ...modes);
  const comparing = make(
    "div",
    { class: "ctrl-row" },
    group,
    split,
    splitNumber.node,
    gain,
    gainNumber.node,
    flipButton,
  );
  const percent = numberField("", {
    min: 100,
    max: 3200,
    unit: "%",
    step: 50,
    "aria-label": "Zoom in percent",
    onvalue: (value) => zoomTo(value / 100),
  });
  const pinButton = make(
    "button",
    {
      type: "button",
      onclick: () => pin(pinButton.getAttribute("aria-pressed") !== "true"),
      "aria-label": "Keep as before",
      title: "Keep this picture to compare the next ones with",
    },
    icon(PIN),
    make("span", { text: "Keep" }),
  );
  const zooming = make(
    "div",
    { class: "ctrl-row" },
    iconButton("Zoom out", ICONS.minus, () => zoomTo(look.zoom / 1.5)),
    percent.node,
    iconButton("Zoom in", ICONS.plus, () => zoomTo(look.zoom * 1.5)),
    iconButton("Fit", ICONS.fit, () => zoomTo(1)),
    make("span", { class: "ctrl-gap" }),
    pinButton,
    iconButton("Save the picture", ICONS.save, save),
  );
  tools.node = make("div", { class: "tools" }, scrubbing, comparing, zooming);
  for (const row of [scrubbing, comparing]) row.style.paddingBottom = "6px";
  const put = (input, value) => {
    if (input !== input.getRootNode().activeElement || input.type === "range") input.value = value;
  };
  tools.draw = ({ held, two, mode }) => {
    const steps = Math.max(1, ...held.runs);
    scrubbing.hidden = !held.runs.length;
    scrub.max = step.input.max = steps;
    put(scrub, look.index + 1);
    put(step.input, look.index + 1);
    comparing.hidden = !two;
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    for (const node of [split, splitNumber.node]) node.hidden = mode !== "divider";
    for (const node of [gain, gainNumber.node]) node.hidden = mode !== "difference";
    flipButton.hidden = mode !== "flip";
    put(split, look.split * 100);
    put(splitNumber.input, Math.round(look.split * 100));
    put(gain, look.gain);
    put(gainNumber.input, look.gain);
    put(percent.input, Math.round(look.zoom * 100));
    pinButton.hidden = held.runs.length > 0 || (Boolean(held.before) && !held.pinned);
    pinButton.setAttribute("aria-pressed", String(held.pinned));
    if (!held.runs.length && playing) stop();
  };
  tools.end = stop;
  return tools;
}
