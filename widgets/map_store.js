// What all views of one MapPad share: its planes and palette with their history, and what Python has of them.

class MapStore {
  constructor(model) {
    Object.assign(this, { model, sent: {}, queue: Promise.resolve(), views: new Set(), backdrop: null });
    Object.assign(this, { loaded: false, number: 0, send: () => {} });
    this.size = [model.get("width"), model.get("height")];
    this.past = timeline({ planes: {}, palette: model.get("palette") }, 60);
  }

  // Width by height as it is shown.
  get wide() {
    return this.model.get("shape") || this.size[0] / this.size[1];
  }

  get now() {
    return this.past.now;
  }

  // A new state: shown in every view, its palette a trait, its changed planes sent.
  commit(planes, palette = this.now.palette) {
    this.past.push({ planes, palette });
    this.publish();
  }

  step(way) {
    if (this.past[way]()) this.publish();
  }

  publish() {
    const { palette, planes } = this.now;
    const active = this.model.get("active");
    this.model.set("palette", palette);
    if (!palette.some(({ id }) => id === active)) this.model.set("active", palette[0]?.id ?? "");
    this.model.save_changes();
    for (const id of new Set([...Object.keys(planes), ...Object.keys(this.sent)])) {
      if (this.sent[id] !== planes[id]) this.sendPlane(id, planes[id]);
    }
    this.show();
  }

  show() {
    for (const view of this.views) view.show();
  }

  // One after the other, since packing and unpacking take time.
  later(act) {
    this.queue = this.queue.then(act);
  }

  sendPlane(id, plane) {
    this.sent[id] = plane;
    this.later(async () => {
      const data = plane && (await deflate(plane));
      if (this.now.planes[id] !== plane) return;
      this.send("plane", { id }, data ? [data] : []);
      this.count();
    });
  }

  // Counted here, since marimo runs the cells that read a leaf only for a trait that the browser has set.
  count() {
    this.model.set("revision", this.model.get("revision") + 1);
    this.model.save_changes();
  }

  // A plane from Python. Every view hears of it, and the first one takes it.
  takePlane({ id, opening, number }, [data], problem) {
    this.later(async () => {
      if (number <= this.number || (opening && this.loaded)) return;
      this.number = number;
      const plane = await inflate(data);
      if (plane.length !== this.size[0] * this.size[1]) {
        return problem({ what: "The map did not arrive whole.", next: "Run this cell again." });
      }
      this.sent[id] = plane;
      this.commit({ ...this.now.planes, [id]: plane });
    });
  }

  // What Python had when the first view opened cannot be undone.
  opened() {
    this.later(() => {
      if (!this.loaded) Object.assign(this, { loaded: true, past: timeline(this.now, 60) });
      this.show();
    });
  }

  async takeBackdrop([data]) {
    this.backdrop = data ? await fittedPixels(new Blob([data]), this.size, "stretch") : null;
    this.show();
  }

  // Python may change the palette too.
  takePalette() {
    const palette = this.model.get("palette");
    if (JSON.stringify(palette) !== JSON.stringify(this.now.palette)) this.commit(this.now.planes, palette);
  }

  // -- regions

  addRegion() {
    const { palette, planes } = this.now;
    const free = (named) => {
      let n = 1;
      while (palette.some((one) => Object.values(one).includes(named(n)))) n++;
      return named(n);
    };
    const unused = COLOURS.find((colour) => !palette.some((one) => one.colour === colour));
    const colour = unused ?? COLOURS[palette.length % COLOURS.length];
    const region = { id: free((n) => `r${n}`), name: free((n) => `region ${n}`), colour };
    this.commit(planes, [...palette, region]);
    this.model.set("active", region.id);
    this.model.save_changes();
  }

  changeRegion(id, change) {
    const palette = this.now.palette.map((one) => (one.id === id ? { ...one, ...change } : one));
    this.commit(this.now.planes, palette);
  }

  removeRegion(id) {
    const { [id]: _, ...planes } = this.now.planes;
    this.commit(
      planes,
      this.now.palette.filter((one) => one.id !== id),
    );
  }

  // A name that no other region has.
  rename(id, wanted) {
    const taken = this.now.palette.filter((one) => one.id !== id).map((one) => one.name);
    const name = wanted.trim().slice(0, 60) || "region";
    let free = name;
    for (let n = 2; taken.includes(free); n++) free = `${name} ${n}`;
    this.changeRegion(id, { name: free });
  }

  clear(layer) {
    const { map, ...regions } = this.now.planes;
    this.commit(layer === "map" ? regions : map ? { map } : {});
  }
}

const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999"];

// A picture as RGBA at a size: stretched, or cut or padded to its proportions, as shown `wide` by 1.
async function fittedPixels(source, [w, h], fit, wide = w / h) {
  const bitmap = source instanceof Blob ? await createImageBitmap(source) : source;
  const context = make("canvas", { width: w, height: h }).getContext("2d", { willReadFrequently: true });
  const across = (bitmap.width / bitmap.height / wide) * w; // if it is as high as the map
  const scale = (fit === "cut" ? Math.max : Math.min)(w / across, 1);
  const [width, height] = fit === "stretch" ? [w, h] : [across * scale, h * scale];
  context.fillRect(0, 0, w, h);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (w - width) / 2, (h - height) / 2, width, height);
  return context.getImageData(0, 0, w, h).data;
}
