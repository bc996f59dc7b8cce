// Studio: words, numbers, and the line that says how the picture is coming.

const DICE = "M3 3h10v10H3ZM5.700 5.700h.01M10.300 5.700h.01M8 8h.01M5.700 10.300h.01M10.300 10.300h.01";
const LOCK = "M4.500 7.500h7v5.500h-7ZM6 7.500V5.200a2 2 0 0 1 4 0v2.300";
const QUIET = 250; // milliseconds after the last letter, until the prompt is sent

// The prompt and the negative prompt, sent when the typing pauses.
function wordFields(model, life, moved) {
  const { bind, set } = knobs(model, life, moved);
  const field = (trait, label, rows) => {
    let typing = 0;
    const ask = () => set({ [trait]: node.value });
    const node = make("textarea", {
      rows,
      "aria-label": label,
      placeholder: label,
      spellcheck: "false",
      oninput: () => {
        clearTimeout(typing);
        typing = setTimeout(ask, QUIET);
      },
      onchange: () => {
        clearTimeout(typing);
        ask();
      },
    });
    life.addEventListener("abort", () => clearTimeout(typing));
    bind(trait, () => {
      if (node.value !== model.get(trait)) node.value = model.get(trait);
    });
    return node;
  };
  const prompt = field("prompt", "Prompt", 2);
  const negative = field("negative", "Negative prompt", 1);
  const why = make("p", { class: "st-why" });
  bind("reasons negative", () => {
    const reason = model.get("reasons").negative;
    negative.classList.toggle("st-idle", Boolean(reason));
    why.textContent = reason ? `No effect: ${reason}.` : "";
    why.hidden = !reason;
  });
  return make("div", { class: "st-words" }, prompt, negative, why);
}

// Steps, sampler, seed, size and fast mode.
function numbers(model, life, send, moved) {
  const { bind, set, toggle, slider } = knobs(model, life, moved);
  const { samplers, spacings, size } = model.get("offers");
  const choose = (trait, label, options) => {
    const one = picker(label, (value) => set({ [trait]: value }));
    bind(trait, () => one.show(options, model.get(trait)));
    return one.node;
  };
  const seed = numberField("", {
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    step: 1,
    "aria-label": "Seed",
    onvalue: (value) => set({ seed: Math.round(value) }),
  });
  bind("seed", () => {
    seed.input.value = model.get("seed");
  });
  const dice = iconButton("Another seed", DICE, () => send("dice"));
  const quiet = knobs(model, life); // it asks for no picture
  const lock = iconButton("Keep the seed when other settings come", LOCK, () => quiet.set({ locked: !quiet.get("locked") }));
  bind("locked", () => {
    const locked = model.get("locked");
    lock.setAttribute("aria-pressed", locked);
    dice.disabled = seed.input.disabled = locked;
  });
  const side = (trait, label, own) => {
    const field = numberField("", { min: 8, max: 4096, step: 8, "aria-label": label, onvalue: (value) => both(trait, value) });
    bind(trait, () => {
      field.input.value = model.get(trait) || own;
    });
    return field.node;
  };
  const both = (trait, value) => {
    const sides = { width: model.get("width") || size[0], height: model.get("height") || size[1], [trait]: value };
    set(sides.width === size[0] && sides.height === size[1] ? { width: 0, height: 0 } : sides);
  };
  const fast = toggle("fast", "fast");
  const knob = (label, ...nodes) => make("div", { class: "st-knob" }, make("span", { text: label }), ...nodes);
  const strength = knob("change", ...slider("strength", "Change of the picture", { min: 0, max: 1, step: 0.01 }));
  bind("reasons", () => {
    const { fast: why, strength: none } = model.get("reasons");
    fast.querySelector("input").disabled = Boolean(why);
    fast.title = why ?? "Four steps by the LCM-LoRA";
    fast.classList.toggle("st-idle", Boolean(why));
    strength.hidden = Boolean(none);
  });
  return make(
    "div",
    { class: "st-numbers" },
    knob("steps", ...slider("steps", "Steps", { min: 1, max: 50, step: 1, most: 1000 }), fast),
    knob("sampler", choose("sampler", "Sampler", samplers), choose("spacing", "Spacing of the steps", spacings)),
    knob("seed", seed.node, dice, lock),
    knob("size", side("width", "Width", size[0]), make("span", { text: "×", class: "st-times" }), side("height", "Height", size[1])),
    strength,
  );
}

const seconds = (time) => (time < 10 ? `${time.toFixed(1)} s` : `${Math.round(time)} s`);

// How far the picture is, what it cost, and the buttons that stop it, take it back and save it.
function progressLine(model, life, send) {
  const { bind } = knobs(model, life);
  const bar = make("progress", { max: 1, "aria-label": "Steps of this picture" });
  const text = make("span", { class: "st-now" });
  const said = make("span", { class: "ctrl-unseen", role: "status" });
  const cancel = textButton("Cancel", () => send("cancel"), { class: "st-cancel" });
  const undo = iconButton("Undo the last change of the recipe", ICONS.undo, () => send("undo"));
  const redo = iconButton("Redo", ICONS.redo, () => send("redo"));
  const save = make(
    "button",
    { type: "button", onclick: () => send("save"), title: "The picture as a PNG, with its recipe inside" },
    icon(ICONS.save),
    make("span", { text: "PNG" }),
  );
  const facts = make("p", { class: "st-facts" });
  const notes = notesOf(model, bind);
  const draw = () => {
    const { phase = "idle", step = 0, count = 0, rate = 0, left = 0, message = "" } = model.get("progress");
    const runs = phase === "running" || phase === "drafting";
    bar.value = ["idle", "filling"].includes(phase) ? 1 : phase !== "failed" && count ? step / count : 0;
    bar.classList.toggle("st-done", !runs);
    cancel.disabled = !runs;
    const speed = rate ? ` · ${rate < 10 ? rate.toFixed(1) : Math.round(rate)} it/s · ${seconds(left)} left` : "";
    text.textContent = runs
      ? `step ${step} of ${count}${speed}`
      : { idle: message || "at rest", filling: "at rest", cancelled: `cancelled at ${step} of ${count}`, failed: "failed" }[phase] ?? phase;
    if (said.textContent !== phase) said.textContent = phase;
    const { evaluations, reused, seconds: time } = model.get("cost");
    facts.textContent =
      time === undefined ? "" : `${evaluations} evaluations${reused ? `, ${reused} reused` : ""}, ${seconds(time)}`;
  };
  bind("progress cost", draw);
  bind("can", () => {
    const { undo: past, redo: ahead } = model.get("can");
    [undo.disabled, redo.disabled] = [!past, !ahead];
  });
  // At once, without the kernel: the change is marked as requested.
  const asked = () => {
    text.textContent = "asked…";
    bar.classList.remove("st-done");
  };
  const node = make(
    "div",
    { class: "st-progress" },
    bar,
    make("div", { class: "ctrl-row" }, text, said, make("span", { class: "ctrl-gap" }), undo, redo, cancel, save),
    facts,
    notes,
  );
  return { node, asked, draw };
}

// The notes on the picture: one line, which opens.
function notesOf(model, bind) {
  const count = make("b"),
    first = make("span"),
    list = make("ul");
  const node = make("details", { class: "st-notes" }, make("summary", {}, count, first), list);
  bind("notes", () => {
    const notes = model.get("notes");
    node.hidden = !notes.length;
    count.textContent = notes.length === 1 ? "Note" : `${notes.length} notes`;
    first.textContent = notes[0] ?? "";
    list.replaceChildren(...notes.map((text) => make("li", { text })));
  });
  return node;
}
