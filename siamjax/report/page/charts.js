// Elements and charts. All text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const INKS = ["var(--same)", "var(--different)", "var(--right)", "var(--wrong)", "#8a63c9", "#0d8f8f", "#a8842a", "#7a8794"];

/** An HTML element with attributes; children are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function draw(tag, attributes = {}, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/**
 * An empty chart with axes. `x` and `y` are {low, high, label, log, format}.
 * Returns the svg, and functions that place a value on each axis.
 */
function chart(about, x, y) {
  const [width, height, left, right, top, bottom] = [360, 250, 60, 14, 10, 40];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": about });
  const on = (axis, from, to) => (value) => {
    const place = (each) => (axis.log ? Math.log10(Math.max(each, axis.low)) : each);
    return from + ((place(value) - place(axis.low)) / (place(axis.high) - place(axis.low) || 1)) * (to - from);
  };
  const px = on(x, left, width - right);
  const py = on(y, height - bottom, top);
  const marks = (axis, count) => {
    if (!axis.log) return ticks(axis.low, axis.high, count);
    const found = [];
    for (let power = Math.ceil(Math.log10(axis.low) - 1e-9); 10 ** power <= axis.high * 1.001; power++) found.push(10 ** power);
    return found;
  };
  const shown = (axis, value) => (axis.format ? axis.format(value) : String(+value.toPrecision(4)));
  for (const value of marks(y, 4)) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: py(value), y2: py(value), class: "grid-line" }));
    svg.append(draw("text", { x: left - 6, y: py(value) + 4, "text-anchor": "end" }, shown(y, value)));
  }
  for (const value of marks(x, 5)) {
    svg.append(draw("text", { x: px(value), y: height - bottom + 16, "text-anchor": "middle" }, shown(x, value)));
  }
  svg.append(draw("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "grid-line" }));
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, x.label));
  const turned = { x: -(top + height - bottom) / 2, y: 10, "text-anchor": "middle", transform: "rotate(-90)" };
  svg.append(draw("text", turned, y.label));
  return { svg, px, py, top, floor: height - bottom };
}

/** A line through points, which are marked where they are few. */
function line(at, xs, ys, ink) {
  const points = xs.map((value, i) => `${at.px(value).toFixed(1)},${at.py(ys[i]).toFixed(1)}`).join(" ");
  at.svg.append(draw("polyline", { points, class: "line", style: `stroke:${ink}` }));
  if (xs.length < 30) {
    xs.forEach((value, i) => at.svg.append(draw("circle", { cx: at.px(value), cy: at.py(ys[i]), r: 2.5, style: `fill:${ink}` })));
  }
}

function framed(title, note, ...content) {
  return make("figure", {}, make("figcaption", {}, title, note ? make("span", {}, ` ${note}`) : ""), ...content);
}

/** Names of colours: [name, ink] each. */
function key(...inks) {
  return make("div", { class: "key" }, ...inks.map(([name, ink]) => make("span", {}, make("i", { style: `background:${ink}` }), name)));
}

/** A table; cells are text, and columns of numbers (all but the first) stand right. */
function grid(head, rows, kind = "") {
  const cell = (tag) => (text, i) => make(tag, i && !kind ? { class: "right" } : {}, text);
  const body = rows.map((row) => make("tr", {}, ...row.map(cell("td"))));
  const table = make("table", kind ? { class: kind } : {}, make("thead", {}, make("tr", {}, ...head.map(cell("th")))), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": head.join(", ") }, table);
}

/** Opens the tip with `content` near a place of the window, within its edges. */
function showTip(content, x, y) {
  const tip = document.getElementById("tip");
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const below = y + 16 + height < innerHeight ? y + 16 : y - height - 16;
  tip.style.left = `${Math.max(6, Math.min(x + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${Math.max(6, below)}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
