// The 2.5-D look of a map: its pixels lifted by their brightness, lit from the upper left and turned.

const NEAR = 0.45; // how far white comes forward, of the longer side

// Draw `pixels` (RGBA, w × h) lifted by `heights` (bytes) on a canvas, turned by `yaw` and `pitch` (radians).
function drawRelief(context, pixels, heights, [w, h], yaw, pitch) {
  const { width, height } = context.canvas;
  const step = Math.max(1, Math.round(Math.max(w, h) / 300));
  const [columns, rows] = [Math.floor((w - 1) / step), Math.floor((h - 1) / step)];
  const scale = (0.95 * Math.min(width / w, height / h)) / (1 + 0.25 * Math.abs(Math.sin(yaw)));
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const out = context.createImageData(width, height);
  const depth = new Float32Array(width * height).fill(-Infinity);
  const size = Math.ceil(step * scale) + 1;
  const lift = (NEAR * Math.max(w, h)) / 255;

  function dot(x, y, level, at, light) {
    const [px, py, pz] = [x - w / 2, y - h / 2, (level - 128) * lift];
    const z = pz * cy - px * sy;
    const left = Math.round(width / 2 + scale * (px * cy + pz * sy) - size / 2);
    const top = Math.round(height / 2 + scale * (py * cp - z * sp) - size / 2);
    const near = z * cp + py * sp;
    for (let v = Math.max(0, top); v < Math.min(height, top + size); v++) {
      for (let u = Math.max(0, left); u < Math.min(width, left + size); u++) {
        const to = v * width + u;
        if (near <= depth[to]) continue;
        depth[to] = near;
        for (let c = 0; c < 3; c++) out.data[to * 4 + c] = pixels[at * 4 + c] * light;
        out.data[to * 4 + 3] = 255;
      }
    }
  }

  const levelAt = (column, row) => heights[Math.min(row, rows) * step * w + Math.min(column, columns) * step];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = (row * w + column) * step;
      const level = heights[at];
      const slope = level - levelAt(column + 3, row) + level - levelAt(column, row + 3);
      const steep = Math.max(Math.abs(heights[at + step] - level), Math.abs(heights[at + step * w] - level));
      const light = clamp(1 + slope / 300, 0.6, 1.25) * clamp(1 - (steep * lift) / step / 24, 0.5, 1);
      dot(column * step, row * step, level, at, light);
      fill(column * step, row * step, level, heights[at + step], step, 0, at, light);
      fill(column * step, row * step, level, heights[at + step * w], 0, step, at, light);
    }
  }

  // Dots between neighbours of different height, darker where that makes a cliff.
  function fill(x, y, level, next, dx, dy, at, light) {
    const count = Math.min(60, Math.floor((Math.abs(next - level) * lift) / step));
    const higher = next > level ? at + dx + dy * w : at;
    for (let k = 1; k <= count; k++)
      dot(
        x + (dx * k) / (count + 1),
        y + (dy * k) / (count + 1),
        level + ((next - level) * k) / (count + 1),
        higher,
        light,
      );
  }
  context.putImageData(out, 0, 0);
}
