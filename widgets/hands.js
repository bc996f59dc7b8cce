// What every leaf does with pointers, history and files.

// Dragging by pointer capture on the element itself. `start(event)` returns what `move` and `end` are given, or
// null to leave the pointer alone.
function drag(node, { start, move, end = () => {} }, life) {
  const held = new Map();
  node.addEventListener(
    "pointerdown",
    (event) => {
      if (event.button !== 0) return;
      const grip = start(event);
      if (grip === null || grip === undefined) return;
      node.setPointerCapture(event.pointerId);
      held.set(event.pointerId, grip);
      event.preventDefault();
    },
    { signal: life },
  );
  node.addEventListener(
    "pointermove",
    (event) => {
      if (held.has(event.pointerId)) move(held.get(event.pointerId), event);
    },
    { signal: life },
  );
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"])
    node.addEventListener(
      type,
      (event) => {
        if (!held.has(event.pointerId)) return;
        const grip = held.get(event.pointerId);
        held.delete(event.pointerId);
        end(grip, event);
      },
      { signal: life },
    );
}

// Undo and redo of values that are never changed in place. `push` the new one; `undo` and `redo` return one or null.
function timeline(first, limit = 200) {
  let past = [],
    now = first,
    ahead = [];
  return {
    get now() {
      return now;
    },
    get canUndo() {
      return past.length > 0;
    },
    get canRedo() {
      return ahead.length > 0;
    },
    push(value) {
      past = [...past, now].slice(-limit);
      now = value;
      ahead = [];
    },
    undo() {
      if (!past.length) return null;
      ahead.push(now);
      now = past.pop();
      return now;
    },
    redo() {
      if (!ahead.length) return null;
      past.push(now);
      now = ahead.pop();
      return now;
    },
  };
}

// Once a frame at most, with the latest arguments.
function eachFrame(draw) {
  let latest = null;
  return (...args) => {
    if (latest === null)
      requestAnimationFrame(() => {
        const now = latest;
        latest = null;
        draw(...now);
      });
    latest = args;
  };
}

function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Files by drop and by paste on an element. `onfile` gets a File.
function takeFiles(node, onfile, life) {
  node.addEventListener(
    "dragover",
    (event) => {
      event.preventDefault();
      event.stopPropagation();
      node.dataset.drop = "";
    },
    { signal: life },
  );
  node.addEventListener("dragleave", () => delete node.dataset.drop, { signal: life });
  node.addEventListener(
    "drop",
    (event) => {
      event.preventDefault();
      event.stopPropagation();
      delete node.dataset.drop;
      for (const file of event.dataTransfer.files) onfile(file);
    },
    { signal: life },
  );
  node.addEventListener(
    "paste",
    (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      event.stopPropagation();
      files.forEach(onfile);
    },
    { signal: life },
  );
}

// A picture file as { blob, width, height, shrunk }: at most `pixels`, upright, WebP where it had to be made smaller.
async function readPicture(file, pixels = 1.5e6) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  const [width, height] = [
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
  ];
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, scale < 1 ? "image/webp" : "image/png", 0.92));
  return { blob, width, height, shrunk: scale < 1 };
}
