// The selection in TokenHeat and what it shows. No element is changed here.

const INFLUENCE = "influence"; // the source whose shares say who decided a place
const ITSELF = "the model itself"; // the last of them: what no word or picture added, nearly everywhere the most
const LOOKS = { heat: "Heat", spotlight: "Spotlight", outline: "Outline", decided: "Who decided" };
const WHEN = { all: "All steps", one: "One step" };

class HeatChoice {
  // `get` reads a trait; `word` and `hovered` are under the pointer.
  constructor(data, get) {
    Object.assign(this, { data, get, word: null, hovered: [] });
    this.sources = [...new Set(data.words.map((word) => word.source))];
  }

  get layers() {
    const on = this.get("active_layers").filter((at) => at < this.data.layers.length);
    return on.length ? on : [...this.data.layers.keys()];
  }

  get step() {
    return Math.min(this.get("step"), this.data.steps.length - 1);
  }

  get steps() {
    return this.get("when") === "one" ? [this.step] : [...this.data.steps.keys()];
  }

  get place() {
    return this.get("place").length ? this.get("place") : this.hovered;
  }

  // The cells of the place, or null for the whole picture.
  get cells() {
    return this.place.length ? cellsOf(this.place, this.data.w, this.data.h) : null;
  }

  get pinned() {
    return this.get("pinned").filter((at) => at < this.data.words.length);
  }

  of(source) {
    return [...this.data.words.keys()].filter((at) => this.data.words[at].source === source);
  }

  // The parties among which a place is decided: without the model itself, where two others are left.
  get rivals() {
    const all = this.of(INFLUENCE);
    const others = all.filter((at) => this.data.words[at].text !== ITSELF);
    return others.length > 1 ? others : all;
  }

  map(word, when = this.steps) {
    return this.data.mean(word, this.layers, when);
  }

  // The share of every word at the place.
  get shares() {
    const { cells } = this;
    return this.data.words.map((_, at) => average(this.map(at), cells));
  }

  label(at) {
    const { text, source } = this.data.words[at];
    const alike = this.of(source).filter((other) => this.data.words[other].text === text);
    return alike.length > 1 ? `${text} (${alike.indexOf(at) + 1} of ${alike.length})` : text;
  }

  hue(at) {
    const party = this.of(INFLUENCE).indexOf(at);
    const pair = this.pinned.length === 2 ? this.pinned.indexOf(at) : -1;
    return party < 0 && pair < 0 ? "var(--c-accent)" : `#${HUES[Math.max(party, pair) % HUES.length]}`;
  }

  // What the strongest colour stands for: the map's own maximum, or that of all words of its source.
  top(map, word, when) {
    const shared = this.get("same_scale") && word !== undefined;
    const maps = shared ? this.of(this.data.words[word].source).map((at) => this.map(at, when)) : [map];
    return Math.max(...maps.map(highest)) || 1;
  }

  wordMap(word, when) {
    const { w, h, words, unit } = this.data;
    const map = this.map(word, when);
    const of = words[word].source === INFLUENCE ? "of what was added" : unit;
    return { word, label: this.label(word), map, w, h, unit: of, top: this.top(map, word, when) };
  }

  // The maps to show and their painter: a hovered word before pinned words before a place.
  subject(when = this.steps) {
    const [look, rivals] = [this.get("look"), this.rivals];
    if (look === "decided" && rivals.length && this.word === null) {
      return { painter: look, maps: rivals.map((at) => ({ ...this.wordMap(at, when), top: 1 })) };
    }
    const words = this.word === null ? this.pinned : [this.word];
    const maps = words.map((at) => this.wordMap(at, when));
    if (!maps.length && this.place.length && this.data.hasPlaces) {
      const found = this.data.attention(this.place);
      maps.push({ ...found, label: "", unit: this.data.unit, top: this.top(found.map) });
    }
    return { painter: maps.length > 1 ? "pair" : look === "decided" ? "heat" : look, maps };
  }

  // A title and a sentence about a subject.
  sentences({ painter, maps }) {
    const chosen = `${this.layerWords}, ${this.stepWords}`;
    if (painter === "decided") {
      const beside = this.rivals.length < this.of(INFLUENCE).length ? `, beside ${ITSELF},` : "";
      return ["Who decided each place", `The party${beside} with the largest share of what was added; ${chosen}.`];
    }
    if (!maps.length) {
      return ["Point at a word or at the picture", "Click to keep it. Draw around an area to ask about all of it."];
    }
    const [{ label, map, unit }] = maps;
    const most = `Up to ${maps.map((one) => percent(highest(one.map))).join(" and ")} ${unit}`;
    if (maps.length > 1) return [maps.map((one) => `“${one.label}”`).join(" and "), `${most}; ${chosen}.`];
    if (label) return [`“${label}”`, `${most}, ${percent(average(map))} on average; ${chosen}.`];
    const even = `${most} in one cell; evenly spread it would be ${percent(1 / map.length)}.`;
    return [`Where this ${this.place.length > 2 ? "area" : "place"} attends`, even];
  }

  get layerWords() {
    const all = this.layers.length === this.data.layers.length;
    return all ? "all layers" : this.layers.map((at) => this.data.layers[at]).join(", ");
  }

  get stepWords() {
    const when = this.get("when");
    return when === "one" ? `step ${this.step + 1} of ${this.data.steps.length}` : WHEN[when].toLowerCase();
  }

  // The code that Python gave for each map and for a place, with the selection put in.
  python({ maps }) {
    const { data, layers, place } = this;
    const list = (value) => JSON.stringify(value).replaceAll(/([\]"\d]),(?=[["\d])/g, "$1, ");
    const names = layers.map((at) => data.layers[at]);
    const chosen = names.length < data.layers.length ? `, layers=${list(names)}` : "";
    const step = this.get("when") === "one" && data.steps.length > 1 ? `.steps[${data.first + this.step}]` : "";
    const of = (word) => data.words[word].code.replace("{chosen}", () => chosen).replace("{step}", step);
    const words = maps.filter(({ word }) => word !== undefined).map(({ word }) => of(word));
    const rounded = (points) => list(points.map((point) => point.map((value) => Number(value.toFixed(3)))));
    const asked = place.length ? this.get("code").replace("{place}", () => rounded(this.outline)) : "";
    return [...(words.length || asked ? words : [of(0)]), asked].filter(Boolean).join("\n");
  }

  // The corners of the place: of its cell, for a point.
  get outline() {
    const { data, place } = this;
    if (place.length > 2) return place;
    const cell = (at, count) => clamp(Math.floor(at * count), 0, count - 1) / count;
    const [x, y] = [cell(place[0][0], data.w), cell(place[0][1], data.h)];
    const [right, under] = [x + 0.99 / data.w, y + 0.99 / data.h]; // a polygon fills its last pixels too
    return [[x, y], [right, y], [right, under], [x, under]];
  }

  // The metadata of an exported file.
  settings({ maps }, steps) {
    const shown = maps.map(({ label, top, unit }) => ({ label, top, unit }));
    const layers = this.layers.map((at) => this.data.layers[at]);
    return JSON.stringify({
      shown,
      place: this.place,
      layers,
      steps,
      look: this.get("look"),
      colours: this.get("colours"),
    });
  }
}
