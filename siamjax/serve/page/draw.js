// Boxes to draw in, and a ranking that follows the pen.

import { ask, element, find, line, shown } from "./service.js";

const EXAMPLES = 6;
// As in Omniglot: drawings on 105 × 105 pixels, with lines of 5, and 68 in the middle of their longest sides.
const SIDE = 105, WIDTH = 5, LONGEST = 68;
const LEAST = 0.08; // of a box: what is smaller is a dot, and not enlarged

function trace(context, strokes, place) {
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.map(place);
    context.beginPath();
    context.moveTo(...points[0]);
    if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
    points.slice(1).forEach((point) => context.lineTo(...point));
    context.stroke();
  }
}

// The address of a PNG file of strokes, drawn as Omniglot is: centred, and of its size and width of lines.
function picture(strokes) {
  const canvas = element("canvas", { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE, SIDE);
  const points = strokes.flat();
  const [left, right] = [0, 1].map((end) => Math[end ? "max" : "min"](...points.map((point) => point[0])));
  const [top, bottom] = [0, 1].map((end) => Math[end ? "max" : "min"](...points.map((point) => point[1])));
  const longest = Math.max(right - left, bottom - top);
  const scale = longest < LEAST ? SIDE : (LONGEST - WIDTH) / longest;
  context.lineWidth = WIDTH;
  const place = ([x, y]) => [SIDE / 2 + (x - (left + right) / 2) * scale, SIDE / 2 + (y - (top + bottom) / 2) * scale];
  trace(context, strokes, place);
  return canvas.toDataURL("image/png");
}

// A box to draw in: its strokes are lists of [x, y], 0..1. `changed` is called while one draws.
function box(label, changed) {
  const canvas = element("canvas", { role: "img", ariaLabel: label });
  const clear = element("button", { type: "button", textContent: "×", title: "clear", ariaLabel: `clear ${label}` });
  const made = { strokes: [], element: element("div", { className: "box" }, canvas, clear) };

  function paint() {
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    context.lineWidth = Math.max(3, side * 0.045);
    context.strokeStyle = "#1d2126";
    trace(context, made.strokes, ([x, y]) => [x * side, y * side]);
  }

  function add(event) {
    const area = canvas.getBoundingClientRect();
    for (const each of event.getCoalescedEvents?.().concat(event) ?? [event]) {
      made.strokes.at(-1).push([(each.clientX - area.left) / area.width, (each.clientY - area.top) / area.height]);
    }
    paint();
    changed();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    made.strokes.push([]);
    add(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) add(event);
  });
  clear.addEventListener("click", () => {
    made.strokes = [];
    paint();
    changed();
  });
  new ResizeObserver(paint).observe(canvas);
  return made;
}

export function start() {
  let running = false, again = false;
  const examples = Array.from({ length: EXAMPLES }, (_, number) => box(`example ${number + 1}`, update));
  const query = box("query", update);
  find("examples").append(...examples.map((each) => each.element));
  find("query").append(query.element);

  // One request at a time, and another one if something was drawn meanwhile.
  async function update() {
    again = true;
    if (running) return;
    running = true;
    find("ranking").ariaBusy = "true";
    while (again) {
      again = false;
      await shown(rank);
    }
    running = false;
    find("ranking").ariaBusy = "false";
  }

  async function rank() {
    const drawn = examples.flatMap((each, number) => each.strokes.length ? [[number, picture(each.strokes)]] : []);
    const complete = drawn.length > 0 && query.strokes.length > 0;
    find("ranking-hint").hidden = complete;
    if (!complete) return find("ranking").replaceChildren();
    const content = (address) => address.split(",")[1];
    const { answers } = await ask("v1/verify", {
      image: content(picture(query.strokes)), references: drawn.map(([, address]) => content(address)),
    });
    const rows = drawn.map(([number, address], place) => ({ number, address, answer: answers[place] }));
    rows.sort((one, other) => other.answer.score - one.answer.score);
    find("ranking").replaceChildren(...rows.map(({ number, address, answer }, place) =>
      line(address, `Example ${number + 1}`, answer, place === 0)));
  }
}
