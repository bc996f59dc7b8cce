// FrameView: what all views of one model share, and a layer that shows one picture.

const REST = 300; // milliseconds that a scrubbed picture stands before the lossless one is requested
const STILL = 1000; // the same for a draft: in a run another one follows soon, which needs the time more

function openFrames(model, signal) {
  const life = new AbortController();
  signal?.addEventListener("abort", () => life.abort());
  const views = new Set();
  const held = {
    now: null,
    before: null,
    pinned: false,
    set: 0,
    runs: [],
    captions: [],
    stills: new Map(),
    note: "",
    caption: "",
  };
  const asked = new Set();
  let acknowledged = 0,
    resting = 0;
  const tell = () => views.forEach((view) => view());
  const link = wire(
    model,
    { layout, frame, still, words },
    (text) => {
      held.note = text;
      tell();
    },
    life.signal,
  );
  life.signal.addEventListener("abort", () => clearTimeout(resting));

  function layout(content) {
    if (content.set !== held.set) {
      held.stills.clear();
      asked.clear();
    }
    Object.assign(held, {
      set: content.set,
      runs: content.runs,
      captions: content.captions,
      pinned: content.pinned,
      caption: content.caption,
    });
    if (!content.before) held.before = null;
    if (!content.now || content.runs.length) held.now = null;
    tell();
    if (held.runs.length) fetchStills();
  }

  function frame(content, [data]) {
    const place = content.place,
      old = held[place];
    const newer =
      !old || content.number > old.number || (content.number === old.number && content.lossless && !old.lossless);
    if (place === "now" && !views.size) shown(content.number);
    if (!newer && place === "now") return shown(content.number);
    held[place] = { ...content, blob: new Blob([data], { type: content.lossless ? "image/png" : "image/jpeg" }) };
    if (place === "now" && !content.lossless) sharpenAtRest(content.number);
    tell();
  }

  function sharpenAtRest(number) {
    clearTimeout(resting);
    resting = setTimeout(() => {
      if (held.now?.number === number) link.send("sharpen", { number });
    }, STILL);
  }

  function words(content) {
    held.caption = content.caption;
    if (held.now) held.now = { ...held.now, caption: content.caption, alt: content.alt };
    tell();
  }

  function shown(number) {
    if (number <= acknowledged) return;
    acknowledged = number;
    link.send("shown", { number });
  }

  // Stills are pulled, two at a time, so that a long run does not flood the channel.
  function fetchStills() {
    for (let run = 0; run < held.runs.length; run++) {
      for (let index = held.runs[run] - 1; index >= 0 && asked.size < 2; index--) {
        if (!held.stills.has(`${run}/${index}`)) ask(run, index, false);
      }
    }
  }

  function ask(run, index, lossless) {
    if (asked.has(`${run}/${index}`)) return;
    asked.add(`${run}/${index}`);
    link.send("still", { set: held.set, run, index, lossless });
  }

  function still(content, [data]) {
    if (content.set !== held.set) return;
    const key = `${content.run}/${content.index}`;
    asked.delete(key);
    held.stills.set(key, {
      ...content,
      quality: "",
      blob: new Blob([data], { type: content.lossless ? "image/png" : "image/jpeg" }),
    });
    tell();
    fetchStills();
  }

  return {
    held,
    shown,
    ask,
    end: () => life.abort(),
    pin(pinned) {
      held.before = pinned ? held.now : null;
      held.pinned = pinned;
      link.send("pin", { pinned });
      tell();
    },
    follow(view, until) {
      views.add(view);
      until.addEventListener("abort", () => views.delete(view));
    },
  };
}

function pictureLayer() {
  const image = make("img", { alt: "", draggable: "false" });
  const plane = make("div", { class: "plane" }, image);
  const node = make("div", { class: "clip" }, plane);
  let blob = null,
    url = "";
  return {
    node,
    plane,
    image,
    // Shows a picture once it is decoded; the old one stands until then.
    show(picture, done, failed) {
      node.hidden = !picture;
      if ((picture?.blob ?? null) === blob) return;
      blob = picture?.blob ?? null;
      const old = url,
        mine = blob;
      url = "";
      if (!blob) {
        URL.revokeObjectURL(old);
        return image.removeAttribute("src");
      }
      const next = new Image(),
        address = URL.createObjectURL(blob);
      url = address;
      next.onload = () => {
        if (mine === blob) image.src = address;
        URL.revokeObjectURL(old);
        done();
      };
      next.onerror = () => {
        URL.revokeObjectURL(old);
        if (mine === blob) failed();
      };
      next.src = address;
    },
    end() {
      URL.revokeObjectURL(url);
      blob = null;
    },
  };
}
