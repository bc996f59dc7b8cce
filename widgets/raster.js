// Pictures made in the browser: colour maps, PNG with text inside, animated GIF. Pure functions of bytes.

// Colour maps whose lightness rises all the way, so they read without colour vision and on any background: cividis
// (Nuñez 2018), batlow (Crameri 2018), inferno (Smith and van der Walt 2015), and grey, as equally spaced stops.
const COLOUR_MAPS = {
  inferno: "000004 1b0c42 4b0c6b 781c6d a52c60 cf4446 ed6925 fb9a06 f7d03c fcffa4",
  cividis: "00204d 00336f 39486b 575c6d 707173 8a8779 a69d75 c4b56c e4cf5b ffea46",
  batlow: "011959 103f60 1c5a62 3c6d56 687b3e 9d892b d29343 f8a17b fdb7bc faccfa",
  grey: "101010 ffffff",
};

function hexColour(hex) {
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// 256 × 3 bytes of a colour map.
function colourTable(name) {
  const stops = COLOUR_MAPS[name].split(" ").map(hexColour);
  const table = new Uint8Array(768);
  for (let at = 0; at < 256; at++) {
    const place = (at / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    for (let c = 0; c < 3; c++) {
      table[at * 3 + c] = Math.round(stops[low][c] + (place - low) * (stops[low + 1][c] - stops[low][c]));
    }
  }
  return table;
}

// A map (h, w) enlarged to (height, width) by Catmull-Rom interpolation, or, with `cells`, each cell as a square.
function enlarge(map, w, h, width, height, cells) {
  const [columns, rows] = [taps(w, width, cells), taps(h, height, cells)];
  const wide = new Float32Array(h * width);
  const out = new Float32Array(height * width);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = x * 4; k < x * 4 + 4; k++) sum += columns.weights[k] * map[y * w + columns.cells[k]];
      wide[y * width + x] = sum;
    }
  }
  for (let y = 0; y < height; y++) {
    for (let k = y * 4; k < y * 4 + 4; k++) {
      const [weight, from, to] = [rows.weights[k], rows.cells[k] * width, y * width];
      for (let x = 0; x < width; x++) out[to + x] += weight * wide[from + x];
    }
  }
  return out;
}

// For every pixel of a side, the four cells it is made of and their weights.
function taps(count, pixels, nearest) {
  const [cells, weights] = [new Uint16Array(pixels * 4), new Float32Array(pixels * 4)];
  for (let at = 0; at < pixels; at++) {
    const place = ((at + 0.5) * count) / pixels - 0.5;
    const first = Math.floor(place);
    const t = place - first;
    const cubic = [((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t];
    const square = t < 0.5 ? [0, 2, 0, 0] : [0, 0, 2, 0];
    (nearest ? square : cubic).forEach((weight, k) => {
      cells[at * 4 + k] = clamp(first - 1 + k, 0, count - 1);
      weights[at * 4 + k] = weight / 2;
    });
  }
  return { cells, weights };
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// A PNG with one more text chunk (iTXt, UTF-8) after its header.
function pngWithText(png, keyword, text) {
  const encoder = new TextEncoder();
  const body = new Uint8Array([...encoder.encode("iTXt" + keyword), 0, 0, 0, 0, 0, ...encoder.encode(text)]);
  const out = new Uint8Array(png.length + body.length + 8);
  const view = new DataView(out.buffer);
  const header = 33; // signature and IHDR
  out.set(png.subarray(0, header));
  view.setUint32(header, body.length - 4);
  out.set(body, header + 4);
  view.setUint32(header + 4 + body.length, crc32(body));
  out.set(png.subarray(header), header + 8 + body.length);
  return out;
}

// An endless GIF of RGBA frames, `delay` in hundredths of a second, with one palette and a comment (GIF89a).
function animatedGif(frames, width, height, delay, comment) {
  const palette = commonColours(frames);
  const indexed = paletteIndices(palette);
  const out = [..."GIF89a"].map((c) => c.charCodeAt(0));
  const word = (value) => out.push(value & 255, value >> 8);
  word(width);
  word(height);
  out.push(0xf7, 0, 0, ...palette.flat());
  out.push(0x21, 0xff, 11, ...[..."NETSCAPE2.0"].map((c) => c.charCodeAt(0)), 3, 1, 0, 0, 0);
  out.push(0x21, 0xfe);
  blocks(out, new TextEncoder().encode(comment));
  for (const frame of frames) {
    out.push(0x21, 0xf9, 4, 4);
    word(delay);
    out.push(0, 0, 0x2c, 0, 0, 0, 0);
    word(width);
    word(height);
    out.push(0, 8);
    blocks(out, lzw(indexed(frame)));
  }
  out.push(0x3b);
  return new Uint8Array(out);
}

// Bytes in the sub-blocks of a GIF, at most 255 each, closed by an empty one.
function blocks(out, bytes) {
  for (let at = 0; at < bytes.length; at += 255) {
    const part = bytes.slice(at, at + 255);
    out.push(part.length, ...part);
  }
  out.push(0);
}

// Indices of 8 bits in GIF's variable-length LZW.
function lzw(indices) {
  const out = [];
  let [held, bits, size, next] = [0, 0, 9, 258];
  let table = new Map();
  const write = (code) => {
    held |= code << bits;
    bits += size;
    for (; bits >= 8; bits -= 8, held >>>= 8) out.push(held & 255);
  };
  write(256);
  let prefix = indices[0];
  for (let at = 1; at < indices.length; at++) {
    const key = (prefix << 8) | indices[at];
    const known = table.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    write(prefix);
    if (next === 4096) {
      write(256);
      [table, size, next] = [new Map(), 9, 258];
    } else {
      if (next === 1 << size) size++;
      table.set(key, next++);
    }
    prefix = indices[at];
  }
  write(prefix);
  write(257);
  if (bits > 0) out.push(held & 255);
  return out;
}

// The means of the 256 fullest of 16 × 16 × 16 boxes of colours.
function commonColours(frames) {
  const boxes = new Map();
  for (const frame of frames) {
    for (let at = 0; at < frame.length; at += 4) {
      const key = ((frame[at] >> 4) << 8) | (frame[at + 1] & 240) | (frame[at + 2] >> 4);
      if (!boxes.has(key)) boxes.set(key, [0, 0, 0, 0]);
      const box = boxes.get(key);
      for (let c = 0; c < 3; c++) box[c] += frame[at + c];
      box[3]++;
    }
  }
  const fullest = [...boxes.values()].sort((a, b) => b[3] - a[3]).slice(0, 256);
  return Array.from({ length: 256 }, (_, at) =>
    [0, 1, 2].map((c) => (fullest[at] ? Math.round(fullest[at][c] / fullest[at][3]) : 0)),
  );
}

// A function from an RGBA frame to its nearest palette indices.
function paletteIndices(palette) {
  const nearest = new Map();
  const find = (r, g, b) => {
    let [best, least] = [0, Infinity];
    palette.forEach((colour, at) => {
      const far = 2 * (colour[0] - r) ** 2 + 4 * (colour[1] - g) ** 2 + (colour[2] - b) ** 2;
      if (far < least) [best, least] = [at, far];
    });
    return best;
  };
  return (frame) =>
    Uint8Array.from({ length: frame.length / 4 }, (_, at) => {
      const [r, g, b] = frame.subarray(at * 4, at * 4 + 3).map((c) => c & 252);
      const key = (r << 16) | (g << 8) | b;
      if (!nearest.has(key)) nearest.set(key, find(r, g, b));
      return nearest.get(key);
    });
}
