// The planes of MapPad, bytes of width × height: one grey map, and one soft mask a region. Pure functions, nothing is
// changed in place but the coverage of the stroke that is being drawn.

// Raise `cover` to 255 along a line from `a` to `b` (pixels), fading from the inner part of `radius` outwards. Gives
// the box [x0, y0, x1, y1) it may have changed.
function coverLine(cover, [w, h], a, b, radius, soft) {
  const box = [
    Math.min(a[0], b[0]) - radius - 1,
    Math.min(a[1], b[1]) - radius - 1,
    Math.max(a[0], b[0]) + radius + 2,
    Math.max(a[1], b[1]) + radius + 2,
  ];
  const [x0, y0, x1, y1] = box.map((side, at) => clamp(Math.floor(side), 0, at % 2 ? h : w));
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy || 1;
  const fade = Math.max(1, radius * soft);
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const along = clamp(((x + 0.5 - a[0]) * dx + (y + 0.5 - a[1]) * dy) / length, 0, 1);
      const far = Math.hypot(x + 0.5 - a[0] - along * dx, y + 0.5 - a[1] - along * dy);
      const part = clamp((radius + 0.5 - far) / fade, 0, 1);
      const level = 255 * part * part * (3 - 2 * part);
      if (level > cover[y * w + x]) cover[y * w + x] = level;
    }
  }
  return [x0, y0, x1, y1];
}

// Coverage of the inside of an outline of points (pixels), its edge blurred over `feather` pixels.
function coverOutline([w, h], points, feather) {
  const context = make("canvas", { width: w, height: h }).getContext("2d", { willReadFrequently: true });
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.fill();
  let cover = Uint8Array.from(
    { length: w * h },
    (
      (data) => (_, at) =>
        data[at * 4 + 3]
    )(context.getImageData(0, 0, w, h).data),
  );
  const radius = Math.round(feather / 2);
  for (let pass = 0; radius > 0 && pass < 2; pass++)
    cover = blurred(blurred(cover, w, h, 1, w, radius), h, w, w, 1, radius);
  return cover;
}

// The running mean over 2 · radius + 1 bytes along lines of `count` bytes, `step` apart; lines start `line` apart.
function blurred(bytes_, count, lines, step, line, radius) {
  const out = new Uint8Array(bytes_.length);
  const at = (start, i) => bytes_[start + clamp(i, 0, count - 1) * step];
  for (let l = 0; l < lines; l++) {
    const start = l * line;
    let sum = 0;
    for (let i = -radius; i <= radius; i++) sum += at(start, i);
    for (let i = 0; i < count; i++) {
      out[start + i * step] = sum / (2 * radius + 1);
      sum += at(start, i + radius + 1) - at(start, i - radius);
    }
  }
  return out;
}

// Coverage that falls from 255 at `a` to 0 at `b` (pixels).
function coverGradient([w, h], a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy || 1;
  return Uint8Array.from(
    { length: w * h },
    (_, at) => 255 * clamp(1 - (((at % w) + 0.5 - a[0]) * dx + (Math.floor(at / w) + 0.5 - a[1]) * dy) / length, 0, 1),
  );
}

// Coverage of all that joins the pixel at `start` and differs from it by no more than `tolerance`, by `level(index)`.
function coverAlike([w, h], level, [x, y], tolerance) {
  const cover = new Uint8Array(w * h);
  const first = clamp(Math.floor(y), 0, h - 1) * w + clamp(Math.floor(x), 0, w - 1);
  const wanted = level(first);
  const queue = [first];
  cover[first] = 255;
  const visit = (at) => {
    if (cover[at] || level(at).some((value, c) => Math.abs(value - wanted[c]) > tolerance)) return;
    cover[at] = 255;
    queue.push(at);
  };
  while (queue.length) {
    const at = queue.pop();
    if (at % w > 0) visit(at - 1);
    if (at % w < w - 1) visit(at + 1);
    if (at >= w) visit(at - w);
    if (at < w * (h - 1)) visit(at + w);
  }
  return cover;
}

// A stroke on planes { id: bytes }: `over(box)` writes what `cover` makes of them there into `after`. On the map the
// covered part takes `value`; a region takes what is covered from the others, and value 0 takes it from all.
function stroke(before, ids, target, value, [w, h]) {
  const cover = new Uint8Array(w * h);
  const touched = target === "map" ? ["map"] : ids.filter((id) => before[id] || (id === target && value));
  const after = { ...before };
  for (const id of touched) after[id] = (before[id] ?? cover).slice();
  const over = ([x0, y0, x1, y1] = [0, 0, w, h]) => {
    for (const id of touched) {
      const [old, now, goal] = [
        before[id] ?? new Uint8Array(w * h),
        after[id],
        target === "map" ? value : id === target && value ? 255 : 0,
      ];
      for (let y = y0; y < y1; y++) {
        for (let at = y * w + x0; at < y * w + x1; at++)
          now[at] = Math.round(old[at] + ((goal - old[at]) * cover[at]) / 255);
      }
    }
  };
  return { cover, after, over };
}

// The byte a map shows for a stored one, by its range and whether it is inverted, and back.
const shownLevels = ({ low, high, inverted }) =>
  Uint8Array.from({ length: 256 }, (_, value) => {
    const level = Math.round(low + (value * (high - low)) / 255);
    return inverted ? 255 - level : level;
  });
const storedLevel = (shown, { low, high, inverted }) =>
  clamp(Math.round((((inverted ? 255 - shown : shown) - low) * 255) / Math.max(1, high - low)), 0, 255);

// Paint a box of the planes into RGBA pixels: the map or the backdrop, and the regions in their colours over it.
function compose(pixels, [w], [x0, y0, x1, y1], { planes, palette, regions, backdrop, veil, levels }) {
  const colours = regions
    ? palette.map(({ id, colour }) => [planes[id], hexColour(colour.slice(1))]).filter(([plane]) => plane)
    : [];
  const dim = regions && !backdrop ? 0.4 : 1;
  for (let y = y0; y < y1; y++) {
    for (let at = y * w + x0; at < y * w + x1; at++) {
      const grey = dim * levels[planes.map?.[at] ?? 0];
      for (let c = 0; c < 3; c++) {
        let value = backdrop ? grey + veil * (backdrop[at * 4 + c] - grey) : grey;
        for (const [plane, colour] of colours) value += ((0.62 * plane[at]) / 255) * (colour[c] - value);
        pixels[at * 4 + c] = value;
      }
      pixels[at * 4 + 3] = 255;
    }
  }
}

function hexColour(hex) {
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

const packed = async (data, stream) =>
  new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(stream)).arrayBuffer());
const deflate = (data) => packed(data, new CompressionStream("deflate"));
const inflate = (data) => packed(data, new DecompressionStream("deflate"));
