// Knobs that show a trait and set it: a choice, a slider with its field, a check box. They follow the model until
// `life` ends; `moved` is called where a person has given one another value.

function knobs(model, life, moved = () => {}) {
  const get = (name) => model.get(name);
  const set = (values) => {
    const news = Object.entries(values).filter(([name, value]) => JSON.stringify(get(name)) !== JSON.stringify(value));
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    if (news.length) moved();
  };

  // Show traits now and whenever one changes.
  function bind(traits, refresh) {
    for (const trait of traits.split(" ")) {
      model.on(`change:${trait}`, refresh);
      life.addEventListener("abort", () => model.off(`change:${trait}`, refresh));
    }
    refresh();
  }

  // Buttons of which one is pressed; `options` are pairs of value and text, or value, name and icon.
  function choice(trait, label, options) {
    const buttons = options.map(([value, text, path]) => {
      const press = () => set({ [trait]: value });
      const button = path ? iconButton(text, path, press) : textButton(text, press);
      button.dataset.value = value;
      return button;
    });
    bind(trait, () =>
      buttons.forEach((button) => button.setAttribute("aria-pressed", get(trait) === button.dataset.value)),
    );
    return make("div", { class: "ctrl-group", role: "group", "aria-label": label }, ...buttons);
  }

  // A slider and a field, which show `scale` times the trait plus `first`; `more` is set with it. The field takes
  // values up to `most`.
  function slider(trait, label, { min, max, step, most = max, scale = 1, first = 0, unit = null, more = {} }) {
    const shown = (value) => Number((value * scale + first).toFixed(2));
    const keep = (value) => set({ ...more, [trait]: Number(((value - first) / scale).toFixed(6)) });
    const limits = { min: shown(min), max: shown(max), step: step * scale, "aria-label": label };
    const field = numberField("", { ...limits, max: shown(most), unit, onvalue: keep });
    const range = make("input", { type: "range", ...limits, oninput: () => keep(range.valueAsNumber) });
    bind(trait, () => {
      range.max = Math.max(limits.max, shown(get(trait)));
      range.value = field.input.value = shown(get(trait));
    });
    return [range, field.node];
  }

  function toggle(trait, label) {
    const box = make("input", { type: "checkbox", onchange: () => set({ [trait]: box.checked }) });
    bind(trait, () => {
      box.checked = get(trait);
    });
    return make("label", {}, box, label);
  }

  return { get, set, bind, choice, slider, toggle };
}
