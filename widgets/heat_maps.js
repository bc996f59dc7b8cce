// The numbers and the paint of TokenHeat: shares of attention as arrays, and pictures of them.

// Okabe and Ito's colours, distinct without full colour vision: for two pinned words, and for the parties of influence.
const HUES = ["e69f00", "56b4e9", "009e73", "cc79a7", "f0e442", "d55e00", "0072b2"];

const highest = (map) => map.reduce((top, value) => Math.max(top, value), 0);
const percent = (share) => `${Number((share * 100).toPrecision(share < 0.001 ? 1 : share < 0.1 ? 2 : 3))} %`;

// The mean over some cells, or over all.
function average(map, cells) {
  if (!cells) return map.reduce((sum, value) => sum + value, 0) / map.length;
  return cells.reduce((sum, cell) => sum + map[cell], 0) / cells.length;
}

// What a "heat" message brings, bytes with a scale each, as shares. Null where the bytes are not whole.
function readHeat(content, [, maps, scales, attends, attendsScales, ...pictures]) {
  const [layers, steps, words, h, w] = content.shape;
  const [rows, columns] = content.places;
  const [size, count, places] = [h * w, layers * steps * words, rows * columns];
  const floats = (data) => new Float32Array(data.slice().buffer);
  if (
    maps.length !== count * size ||
    scales.length !== count * 4 ||
    attends.length !== places ** 2 ||
    attendsScales.length !== places * 4
  )
    return null;
  const [mapScales, placeScales, kept] = [floats(scales), floats(attendsScales), new Map()];

  // The mean of a word's maps over layers and steps, (h · w).
  function mean(word, chosen, when) {
    const key = [word, ...chosen, "/", ...when].join();
    if (kept.has(key)) return kept.get(key);
    const out = new Float32Array(size);
    for (const layer of chosen) {
      for (const step of when) {
        const at = (layer * steps + step) * words + word;
        const scale = mapScales[at] / 255 / (chosen.length * when.length);
        for (let i = 0; i < size; i++) out[i] += maps[at * size + i] * scale;
      }
    }
    if (kept.size > 2000) kept.clear();
    kept.set(key, out);
    return out;
  }

  // Where a place attends: the mean over its cells, (rows · columns).
  function attention(place) {
    const out = new Float32Array(places);
    const cells = cellsOf(place, columns, rows);
    for (const cell of cells) {
      const scale = placeScales[cell] / 255 / cells.length;
      for (let i = 0; i < places; i++) out[i] += attends[cell * places + i] * scale;
    }
    return { map: out, w: columns, h: rows };
  }

  return { ...content, h, w, mean, attention, pictures, hasPlaces: places > 0 };
}

// The cells of a grid that a place covers: the one that holds a point, or those whose centre an outline encloses.
function cellsOf(place, w, h) {
  const cellAt = ([x, y]) => clamp(Math.floor(y * h), 0, h - 1) * w + clamp(Math.floor(x * w), 0, w - 1);
  if (place.length < 3) return place.slice(0, 1).map(cellAt);
  const inside = Array.from({ length: w * h }, (_, cell) => cell).filter((cell) =>
    encloses(place, ((cell % w) + 0.5) / w, (Math.floor(cell / w) + 0.5) / h),
  );
  return inside.length ? inside : [cellAt(place[0])];
}

function encloses(outline, x, y) {
  let inside = false;
  outline.forEach(([x1, y1], at) => {
    const [x0, y0] = outline.at(at - 1);
    if (y0 > y !== y1 > y && x < x0 + ((y - y0) / (y1 - y0)) * (x1 - x0)) inside = !inside;
  });
  return inside;
}

// ---- paint ----------------------------------------------------------------------------------------------------

// Each painter changes RGBA pixels in place. A map is given at their size and divided by its top.
const PAINTERS = {
  heat(pixels, [map], { table, strength }) {
    for (let i = 0; i < map.length; i++) {
      const level = clamp(map[i], 0, 1);
      const colour = Math.round(level * 255) * 3;
      cover(pixels, i * 4, strength * Math.min(1, 2.2 * level), table[colour], table[colour + 1], table[colour + 2]);
    }
  },
  spotlight(pixels, [map], { strength }) {
    for (let i = 0; i < map.length; i++) shade(pixels, i * 4, 1 - strength * (1 - clamp(1.25 * map[i], 0, 1)));
  },
  outline(pixels, [map], { width, threshold, strength }) {
    const inside = map.map((level) => level >= threshold);
    const edge = (i, far) =>
      inside[i - far] === 0 || inside[i + far] === 0 || inside[i - far * width] === 0 || inside[i + far * width] === 0;
    for (let i = 0; i < map.length; i++) {
      if (!inside[i]) shade(pixels, i * 4, 1 - 0.6 * strength);
      else if (edge(i, 2)) pixels.fill(255, i * 4, i * 4 + 4);
      else if (edge(i, 4)) shade(pixels, i * 4, 0);
    }
  },
  pair(pixels, [first, second], { strength }) {
    const [[r, g, b], [red, green, blue]] = HUES.map(hexColour);
    for (let i = 0; i < first.length; i++) {
      const [one, other] = [clamp(first[i], 0, 1), clamp(second[i], 0, 1)];
      const part = other / (one + other || 1);
      const most = strength * Math.max(one, other);
      cover(pixels, i * 4, most, r + part * (red - r), g + part * (green - g), b + part * (blue - b));
    }
  },
  decided(pixels, maps, { strength }) {
    const hues = maps.map((_, at) => hexColour(HUES[at % HUES.length]));
    for (let i = 0; i < maps[0].length; i++) {
      let first = 0;
      for (let at = 1; at < maps.length; at++) if (maps[at][i] > maps[first][i]) first = at;
      const [red, green, blue] = hues[first];
      cover(pixels, i * 4, strength * (0.35 + 0.5 * maps[first][i]), red, green, blue);
    }
  },
};

// A colour over a pixel that is paler and darker than it was, so that the colour stands out.
function cover(pixels, at, part, red, green, blue) {
  const grey = 0.135 * pixels[at] + 0.265 * pixels[at + 1] + 0.05 * pixels[at + 2];
  const kept = 1 - part;
  pixels[at] = kept * (0.4 * pixels[at] + grey) + part * red;
  pixels[at + 1] = kept * (0.4 * pixels[at + 1] + grey) + part * green;
  pixels[at + 2] = kept * (0.4 * pixels[at + 2] + grey) + part * blue;
}

function shade(pixels, at, light) {
  for (let c = 0; c < 3; c++) pixels[at + c] *= light;
}

// Paint a subject { painter, maps } over a picture on a canvas.
function paintSubject(context, picture, { painter, maps }, { cells, colours, ...look }) {
  const { width, height } = context.canvas;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  if (!maps.length) return;
  const pixels = context.getImageData(0, 0, width, height);
  const large = maps.map(({ map, top, w, h }) =>
    enlarge(
      map.map((share) => share / top),
      w,
      h,
      width,
      height,
      cells,
    ),
  );
  PAINTERS[painter](pixels.data, large, { width, table: colourTable(colours), ...look });
  context.putImageData(pixels, 0, 0);
}

// A picture with a line of words under it, on white.
function captioned(picture, words) {
  const { width, height } = picture.canvas;
  const sheet = blank(width, height + 40);
  sheet.fillStyle = "#fff";
  sheet.fillRect(0, 0, width, height + 40);
  sheet.drawImage(picture.canvas, 0, 0);
  sheet.fillStyle = "#111";
  sheet.font = "14px system-ui, sans-serif";
  sheet.fillText(words, 8, height + 26, width - 16);
  return sheet;
}

function blank(width, height) {
  return make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
}
