// Figures as values: { body: 18 × [x, y, shown], hand_left, hand_right: 21 ×, face: 70 × }, in fractions of the canvas.
// Nothing here changes a figure in place. SKELETON (limbs, colours, poses in thousandths) comes from ctrl.skeleton.

const PARTS = ["body", "hand_left", "hand_right", "face"];
const [NOSE, NECK, R_WRIST, L_WRIST, R_HIP, L_HIP] = [0, 1, 4, 7, 8, 11];
const POSES = Object.fromEntries(
  Object.entries(SKELETON.poses).map(([name, pose]) => [name, pose.map(([x, y, seen]) => [x / 1000, y / 1000, seen])]),
);
const STANDING = POSES.standing;

const mapPart = (points, change) => points.map(([x, y, shown]) => [...change(x, y), shown]);
const mapFigure = (figure, change) =>
  Object.fromEntries(PARTS.map((part) => [part, mapPart(figure[part] ?? [], change)]));
const newFigure = (body) => ({ body, hand_left: [], hand_right: [], face: [] });

// Of everything shown: { x, y, width, height }, or null for a figure without a shown joint.
function bounds(figure) {
  const seen = PARTS.flatMap((part) => figure[part] ?? []).filter(([, , shown]) => shown);
  if (!seen.length) return null;
  const xs = seen.map((point) => point[0]),
    ys = seen.map((point) => point[1]);
  const x = Math.min(...xs),
    y = Math.min(...ys);
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

// Scales and turns about a point, then moves; lengths keep their ratio on a canvas that is not square.
function transformed(figure, { about = [0.5, 0.5], scale = 1, turn = 0, move = [0, 0] }, ratio) {
  const cos = Math.cos(turn) * scale,
    sin = Math.sin(turn) * scale,
    [cx, cy] = about;
  return mapFigure(figure, (x, y) => {
    const dx = (x - cx) * ratio,
      dy = y - cy;
    return [cx + (dx * cos - dy * sin) / ratio + move[0], cy + dx * sin + dy * cos + move[1]];
  });
}

// One joint elsewhere. A hand follows its wrist, a face the nose.
function withJoint(figure, joint, x, y) {
  const [fromX, fromY] = figure.body[joint];
  const follow = { [R_WRIST]: "hand_right", [L_WRIST]: "hand_left", [NOSE]: "face" }[joint];
  const body = figure.body.map((point, i) => (i === joint ? [x, y, 1] : point));
  const moved = { ...figure, body };
  if (follow) moved[follow] = mapPart(figure[follow], (px, py) => [px + x - fromX, py + y - fromY]);
  return moved;
}

const withoutJoint = (figure, joint) => ({
  ...figure,
  body: figure.body.map((point, i) => (i === joint ? [point[0], point[1], 0] : point)),
});

// A hidden joint shown again, where it was, or where a standing figure of this size would have it.
function withJointShown(figure, joint) {
  const [x, y] = figure.body[joint];
  if (x || y) return withJoint(figure, joint, x, y);
  const box = bounds(newFigure(figure.body)),
    standing = bounds(newFigure(STANDING));
  if (!box) return withJoint(figure, joint, ...STANDING[joint]);
  const scale = Math.max(box.height, 0.1) / standing.height,
    [sx, sy] = STANDING[joint];
  const anchor = figure.body[NECK][2] ? NECK : figure.body.findIndex((point) => point[2]);
  return withJoint(
    figure,
    joint,
    figure.body[anchor][0] + (sx - STANDING[anchor][0]) * scale,
    figure.body[anchor][1] + (sy - STANDING[anchor][1]) * scale,
  );
}

// As in a mirror, on the same spot: left and right change sides, joints keep their names.
function mirrored(figure) {
  const box = bounds(figure) ?? { x: 0, width: 1 },
    middle = 2 * box.x + box.width;
  const turned = mapFigure(figure, (x, y) => [middle - x, y]);
  return {
    ...turned,
    body: SKELETON.mirrored.map((joint) => turned.body[joint]),
    hand_left: turned.hand_right,
    hand_right: turned.hand_left,
  };
}

const torso = (body) =>
  Math.hypot(
    body[NECK][0] - (body[R_HIP][0] + body[L_HIP][0]) / 2,
    body[NECK][1] - (body[R_HIP][1] + body[L_HIP][1]) / 2,
  );

// A named pose; in place of `old` it takes that one's neck and the length of its torso.
function posed(name, old) {
  const figure = newFigure(POSES[name]);
  const whole = old && [NECK, R_HIP, L_HIP].every((joint) => old.body[joint][2]);
  if (!whole) return figure;
  const scale = clamp(torso(old.body) / torso(figure.body), 0.1, 4),
    [x, y] = figure.body[NECK],
    [toX, toY] = old.body[NECK];
  return mapFigure(figure, (px, py) => [toX + (px - x) * scale, toY + (py - y) * scale]);
}

// As large as the canvas allows with a margin, in its middle.
function fitted(figure, margin = 0.05) {
  const box = bounds(figure);
  if (!box) return figure;
  const scale = Math.min((1 - 2 * margin) / Math.max(box.width, 0.01), (1 - 2 * margin) / Math.max(box.height, 0.01));
  return mapFigure(figure, (x, y) => [
    0.5 + (x - box.x - box.width / 2) * scale,
    0.5 + (y - box.y - box.height / 2) * scale,
  ]);
}

// Moved back onto the canvas, and made smaller where it is larger than that.
function inside(figure) {
  const box = bounds(figure);
  if (!box) return figure;
  if (box.width > 1 || box.height > 1) return fitted(figure, 0);
  const dx = clamp(box.x, 0, 1 - box.width) - box.x,
    dy = clamp(box.y, 0, 1 - box.height) - box.y;
  return dx || dy ? mapFigure(figure, (x, y) => [x + dx, y + dy]) : figure;
}

// OpenPose's JSON, in pixels.
function toOpenPose(figures, width, height) {
  const flat = (points) =>
    (points ?? []).flatMap(([x, y, shown]) => (shown ? [x * width, y * height, shown] : [0, 0, 0]));
  const people = figures.map((figure) => ({
    pose_keypoints_2d: flat(figure.body),
    face_keypoints_2d: flat(figure.face),
    hand_left_keypoints_2d: flat(figure.hand_left),
    hand_right_keypoints_2d: flat(figure.hand_right),
  }));
  return JSON.stringify({ people, canvas_width: width, canvas_height: height });
}

function distanceToLimb([x, y], [x1, y1], [x2, y2]) {
  const length = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const along = length ? clamp(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length, 0, 1) : 0;
  return Math.hypot(x - x1 - along * (x2 - x1), y - y1 - along * (y2 - y1));
}
