"use strict";
// Draws the points of the document's "data" element; see scatter.py for what is in it.
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("plot");
const tip = document.getElementById("tip");
const [thumbnail, tipClass, tipName] = tip.children;
const pen = canvas.getContext("2d");
const shown = data.classes.map(() => true);
const buttons = [];
let emphasised = -1; // class under the mouse or focus in the legend
let hovered = -1;
const view = { scale: 1, x: 0, y: 0 };

const sheets = data.sheets.map((source) => {
  const image = new Image();
  image.src = source;
  return image;
});

const SHAPES = {
  circle: (p, x, y, r) => p.arc(x, y, r, 0, 2 * Math.PI),
  square: (p, x, y, r) => p.rect(x - 0.85 * r, y - 0.85 * r, 1.7 * r, 1.7 * r),
  triangle: (p, x, y, r) => polygon(p, [[x, y - 1.2 * r], [x + 1.1 * r, y + 0.8 * r], [x - 1.1 * r, y + 0.8 * r]]),
  diamond: (p, x, y, r) => polygon(p, [[x, y - 1.25 * r], [x + 1.25 * r, y], [x, y + 1.25 * r], [x - 1.25 * r, y]]),
  cross: (p, x, y, r) => {
    const [a, b] = [1.2 * r, 0.4 * r];
    const corners = [[-b, -a], [b, -a], [b, -b], [a, -b], [a, b], [b, b], [b, a], [-b, a], [-b, b], [-a, b], [-a, -b], [-b, -b]];
    polygon(p, corners.map(([dx, dy]) => [x + dx, y + dy]));
  },
};

function polygon(p, corners) {
  for (const [x, y] of corners) p.lineTo(x, y);
  p.closePath();
}

const screenX = (i) => view.x + view.scale * data.x[i];
const screenY = (i) => view.y - view.scale * data.y[i];
const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function drawPoint(i, radius) {
  const { colour, shape } = data.classes[data.labels[i]];
  pen.fillStyle = colour;
  pen.beginPath();
  SHAPES[shape](pen, screenX(i), screenY(i), radius);
  pen.fill();
  pen.stroke();
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.lineWidth = 0.7;
  pen.strokeStyle = cssColour("--card");
  const radius = Math.max(3, Math.min(6, 90 / Math.sqrt(data.x.length)));
  for (let i = 0; i < data.x.length; i++) {
    if (!shown[data.labels[i]] || data.labels[i] === emphasised) continue;
    pen.globalAlpha = emphasised < 0 ? 0.9 : 0.12;
    drawPoint(i, radius);
  }
  pen.globalAlpha = 1;
  for (let i = 0; i < data.x.length; i++) if (data.labels[i] === emphasised && shown[emphasised]) drawPoint(i, radius);
  if (data.labelled) drawLabels(width, height);
  if (hovered >= 0) {
    pen.strokeStyle = cssColour("--ink");
    pen.lineWidth = 2;
    drawPoint(hovered, radius + 2.5);
  }
}

// Names beside the points, but none over another: zooming in makes room.
function drawLabels(width, height) {
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = cssColour("--ink");
  pen.lineWidth = 3; // a rim around the letters
  const taken = [];
  for (let i = 0; i < data.x.length; i++) {
    const x = screenX(i) + 8;
    const y = screenY(i) + 4;
    if (!shown[data.labels[i]] || x < 0 || y < 0 || x > width || y > height) continue;
    const name = data.classes[data.labels[i]].name;
    const end = x + pen.measureText(name).width + 4;
    const free = taken.every(([left, right, top]) => end < left || x > right || Math.abs(y - top) > 15);
    if (!free) continue;
    taken.push([x, end, y]);
    pen.strokeText(name, x, y);
    pen.fillText(name, x, y);
  }
}

// The whole cloud in the middle.
function fit() {
  const { clientWidth: width, clientHeight: height } = canvas;
  const [left, right, low, high] = [Math.min(...data.x), Math.max(...data.x), Math.min(...data.y), Math.max(...data.y)];
  const margin = data.labelled ? 60 : 24;
  const across = Math.max(width - 2 * margin, 50) / (right - left || 1);
  const along = Math.max(height - 2 * margin, 50) / (high - low || 1);
  view.scale = Math.min(across, along);
  view.x = width / 2 - (view.scale * (left + right)) / 2;
  view.y = height / 2 + (view.scale * (low + high)) / 2;
  hover(-1);
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  view.scale *= factor;
  view.x = x + (view.x - x) * factor;
  view.y = y + (view.y - y) * factor;
  hover(-1);
}

function pan(dx, dy) {
  view.x += dx;
  view.y += dy;
  hover(-1);
}

function nearest(x, y) {
  let best = -1;
  let distance = 14; // pixels
  for (let i = 0; i < data.x.length; i++) {
    const away = Math.hypot(screenX(i) - x, screenY(i) - y);
    if (shown[data.labels[i]] && away < distance) [best, distance] = [i, away];
  }
  return best;
}

function hover(i) {
  hovered = i;
  tip.hidden = i < 0;
  draw();
  if (i < 0) return;
  const at = data.thumbnails[i];
  thumbnail.hidden = at < 0;
  if (at >= 0) drawThumbnail(at);
  tipClass.textContent = data.classes[data.labels[i]].name;
  tipName.textContent = data.names[i];
  const left = screenX(i) + 14 + tip.offsetWidth > canvas.clientWidth ? screenX(i) - 14 - tip.offsetWidth : screenX(i) + 14;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, Math.min(screenY(i) - 20, canvas.clientHeight - tip.offsetHeight))}px`;
}

function drawThumbnail(at) {
  const side = data.tile;
  const cell = at % data.perSheet;
  const sheet = sheets[Math.floor(at / data.perSheet)];
  const brush = thumbnail.getContext("2d");
  brush.drawImage(sheet, (cell % data.columns) * side, Math.floor(cell / data.columns) * side, side, side,
    0, 0, thumbnail.width, thumbnail.height);
}

// Mouse, pen and fingers: one drags, two pinch, a tap shows the image.
const pointers = new Map();
let travelled = 0;
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  travelled = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const now = [event.offsetX, event.offsetY];
  const before = pointers.get(event.pointerId);
  if (!before) return hover(nearest(...now));
  travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, now);
  if (!other) return pan(now[0] - before[0], now[1] - before[1]);
  const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
  return zoom(spread(now) / spread(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    pointers.delete(event.pointerId);
    if (kind === "pointerup" && travelled < 5) hover(nearest(event.offsetX, event.offsetY));
  });
}
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-0.0015 * event.deltaY), event.offsetX, event.offsetY);
}, { passive: false });

const KEYS = {
  "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: fit,
  ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function show(label, wanted) {
  shown[label] = wanted;
  buttons[label].setAttribute("aria-pressed", wanted);
}

function emphasise(label) {
  emphasised = label;
  hover(-1);
}

data.classes.forEach((entry, label) => {
  const button = document.createElement("button");
  const swatch = document.createElement("canvas");
  swatch.width = swatch.height = 24;
  const brush = swatch.getContext("2d");
  brush.fillStyle = entry.colour;
  SHAPES[entry.shape](brush, 12, 12, 8);
  brush.fill();
  button.append(swatch, document.createTextNode(entry.name));
  button.title = entry.name;
  button.addEventListener("click", () => {
    show(label, !shown[label]);
    hover(-1);
  });
  button.addEventListener("pointerenter", () => emphasise(label));
  button.addEventListener("focus", () => button.matches(":focus-visible") && emphasise(label)); // not after a tap
  for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => emphasise(-1));
  buttons.push(button);
  document.getElementById("legend").append(button);
});

for (const [id, action] of Object.entries({
  closer: KEYS["+"], farther: KEYS["-"], fit,
  all: () => { data.classes.forEach((_, label) => show(label, true)); hover(-1); },
  none: () => { data.classes.forEach((_, label) => show(label, false)); hover(-1); },
})) {
  document.getElementById(id).addEventListener("click", action);
}

data.classes.forEach((_, label) => show(label, true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(fit).observe(canvas);
fit();
