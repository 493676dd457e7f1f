// The parts of a page on one run, each made of the JSON of `siamjax.report.content`.

const AT_FAR = { low: 1e-4, high: 1, log: true, label: "false accept rate", format: (value) => `${+(100 * value).toPrecision(2)} %` };
const SHARE = { low: 0, high: 1, format: (value) => `${Math.round(100 * value)} %` };

/** The name of a figure, to read: "between_5way_1shot" is "between 5-way 1-shot". */
function words(name) {
  const spelt = { auc: "AUC", eer: "EER", map: "MAP", tar: "TAR", far: "FAR", dir: "DIR", r: "R", koch: "Koch" };
  const parts = name.split("_").map((part) => spelt[part] || part.replace(/^(\d+)(way|shot)$/, "$1-$2"));
  return parts.join(" ");
}

/** The lowest rate that a curve can show: less than one of so many pairs, as a power of ten from 1e-4 to 1e-1. */
function leastRate(pairs) {
  return Math.min(0.1, Math.max(1e-4, 10 ** Math.floor(Math.log10(1 / pairs))));
}

function headerSection(run) {
  const { trained, evaluated } = run;
  const facts = [`Trained on ${trained.data}`];
  const sizes = trained.sizes.train;
  if (sizes) facts.push(`${grouped(sizes[0])} inputs of ${grouped(sizes[1])} identities`);
  if (trained.steps) facts.push(`${grouped(trained.steps)} steps`);
  if (trained.seconds) facts.push(trained.seconds < 100 ? `${trained.seconds.toFixed(0)} s` : `${(trained.seconds / 60).toFixed(0)} min`);
  if (trained.started) facts.push(`started ${trained.started.slice(0, 16).replace("T", " ")} UTC`);
  const { encoder, head, loss } = trained.parts;
  return make(
    "header",
    {},
    make("h1", {}, run.name, run.evaluation ? ` · ${run.evaluation}` : ""),
    make("p", { class: "soft" }, `${facts.join(", ")}. Encoder ${encoder}, head ${head}, loss ${loss}.`),
    trained.command ? make("p", {}, make("code", {}, trained.command)) : null,
  );
}

/** The value of a figure, its interval, and what it means in a sentence. */
function headlineSection(run) {
  const { results, verification, answers } = run;
  const name = results.verification ? "verification" : Object.keys(results)[0];
  if (!name) return make("p", { class: "note" }, "This run has no figures yet.");
  const row = results[name];
  const where = answers && run.evaluated.data ? ` of ${grouped(answers.data.identities)} identities` : "";
  const over = row.over ? ` over ${row.over}` : " over trials";
  const what = name === "verification" ? `of ${grouped(row.trials)} pairs${where} are judged correctly: the same, or not` : `of ${grouped(row.trials)} trials (${words(name)}) are right`;
  const [whole, part] = (100 * row.accuracy).toFixed(1).split(".");
  const tiles = [];
  const other = Object.keys(results).find((each) => each !== name && !/validation|tutorial/.test(each));
  const tile = (title, value, bounds) => tiles.push(make("div", { class: "tile" }, title, make("b", { class: "number" }, percent(value)), make("span", { class: "soft number" }, bounds ? interval(bounds) : "no interval")));
  if (other) tile(words(other), results[other].accuracy, results[other].ci95);
  const test = verification.test || {};
  const bounds = (verification.intervals || {}).test || {};
  for (const [key_, title] of [["eer", "equal error rate"], ["auc", "AUC"]]) if (key_ in test) tile(title, test[key_], bounds[key_]);
  return make(
    "div",
    { class: "headline" },
    make(
      "div",
      {},
      make("div", { class: "value number", id: "headline" }, `${whole}.${part}`, make("small", {}, " %")),
      make("p", { class: "sentence" }, `${what}, on ${run.evaluated.data}.`),
      row.ci95 ? make("div", { class: "track", "aria-hidden": "true" }, make("i", { style: `left:${100 * row.ci95[0]}%;width:${100 * (row.ci95[1] - row.ci95[0])}%` }), make("b", { style: `left:${100 * row.accuracy}%` })) : null,
      make("p", { class: "soft number", id: "headline-interval" }, row.ci95 ? `95 % interval${over}: ${interval(row.ci95)}\u00a0%` : "No interval: too few identities, or no mistake."),
    ),
    make("div", { class: "tiles" }, ...tiles),
  );
}

/** ROC, DET and histogram, with the threshold that moves them all. */
function thresholdSection(run, state) {
  const { table, pairs, points, histogram } = run.answers;
  const test = run.verification.test || {};
  const rates = table.threshold.map((_, row) => countsOf(table, row, pairs));
  const low = leastRate(pairs.different);
  const roc = chart("ROC curve: true accept rate by false accept rate", { ...AT_FAR, low }, { ...SHARE, label: "true accept rate" });
  const above = rates.filter((each) => each.far >= low);
  line(roc, above.map((each) => each.far), above.map((each) => 1 - each.frr), "var(--accent)");
  const least = leastRate(Math.min(pairs.different, pairs.same));
  const det = chart("DET curve: false reject rate by false accept rate", { ...AT_FAR, low }, { ...AT_FAR, low: least, label: "false reject rate" });
  const diagonal = Math.max(low, least);
  det.svg.append(draw("line", { x1: det.px(diagonal), y1: det.py(diagonal), x2: det.px(1), y2: det.py(1), class: "guide" }));
  const shown = above.filter((each) => each.frr >= least);
  line(det, shown.map((each) => each.far), shown.map((each) => each.frr), "var(--accent)");
  const here = [roc, det].map((at) => at.svg.appendChild(draw("circle", { r: 6, class: "here" })));
  const bars = histogramChart(histogram);
  const mark = bars.svg.appendChild(draw("line", { class: "mark", y1: bars.top, y2: bars.floor }));

  const slider = make("input", { type: "range", min: 0, max: table.threshold.length - 1, step: 1, id: "threshold", "aria-label": "threshold" });
  const value = make("b", { class: "number", id: "threshold-value" });
  const counts = make("div", { class: "counts number", id: "counts" });
  const buttons = points.map((point) => make("button", { type: "button", "data-row": point.row }, point.name));
  const count = (name, number, rate, bad) => make("div", bad ? { class: "bad", "data-count": name } : { "data-count": name }, name, make("b", {}, number), make("span", { class: "soft" }, rate));
  const update = () => {
    const row = Number(slider.value);
    const now = rates[row];
    state.threshold = now.threshold;
    value.textContent = now.threshold.toPrecision(5);
    counts.replaceChildren(
      count("false accepts", grouped(now.falseAccepts), `${percent(now.far, 2)} of ${grouped(pairs.different)} different pairs`, true),
      count("false rejects", grouped(now.falseRejects), `${percent(now.frr, 2)} of ${grouped(pairs.same)} same pairs`, true),
      count("true accepts", grouped(now.trueAccepts), `${percent(1 - now.frr, 2)} of the same pairs`),
      count("accuracy", percent(now.accuracy, 2), "of all pairs"),
    );
    slider.setAttribute("aria-valuetext", `threshold ${now.threshold.toPrecision(4)}: ${now.falseAccepts} false accepts, ${now.falseRejects} false rejects`);
    [[roc, 1 - now.frr], [det, now.frr]].forEach(([at, y], i) => {
      here[i].setAttribute("cx", at.px(now.far));
      here[i].setAttribute("cy", at.py(y));
    });
    const x = Math.min(bars.px(histogram.edges.at(-1)), Math.max(bars.px(histogram.edges[0]), bars.px(now.threshold)));
    mark.setAttribute("x1", x);
    mark.setAttribute("x2", x);
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.row) === row)));
    state.changed.forEach((call) => call());
  };
  const move = (row) => { slider.value = row; update(); };
  slider.addEventListener("input", update);
  buttons.forEach((button) => button.addEventListener("click", () => move(button.dataset.row)));
  move(points[0].row);
  const figure = (name, digits) => (name in test ? (digits ? test[name].toFixed(digits) : percent(test[name], 2)) : "");
  return make(
    "section",
    { id: "decision" },
    make("h2", {}, "Where to draw the line"),
    make("p", { class: "soft" }, "A pair is the same where its score is above the threshold. Move it to trade false accepts for false rejects, on the test pairs; the run's own was fitted to validation pairs. FAR: the lowest threshold with no larger false accept rate."),
    make("div", { class: "panel" }, make("label", { for: "threshold" }, "Threshold ", value), slider, make("div", { class: "controls" }, ...buttons), counts),
    make(
      "div",
      { class: "grid" },
      framed("Scores", "of test pairs", bars.svg, key(["same", "var(--same)"], ["different", "var(--different)"])),
      framed("ROC", figure("auc", 4) && `AUC ${figure("auc", 4)}`, roc.svg),
      framed("DET", figure("eer") && `EER ${figure("eer")}`, det.svg),
    ),
  );
}

function histogramChart({ edges, same, different }) {
  const most = Math.max(...same, ...different);
  const at = chart("histogram of the scores of same and different pairs", { low: edges[0], high: edges.at(-1), label: "score" }, { low: 0, high: most, label: "pairs", format: grouped });
  for (const [heights, ink] of [[different, "var(--different)"], [same, "var(--same)"]]) {
    heights.forEach((height, i) => {
      const [x, y] = [at.px(edges[i]), at.py(height)];
      if (height) at.svg.append(draw("rect", { x, y, width: Math.max(0.5, at.px(edges[i + 1]) - x), height: at.floor - y, style: `fill:${ink};fill-opacity:.55` }));
    });
  }
  return at;
}

function reliabilityFigure(run) {
  const { probability, share, count } = run.answers.reliability;
  const at = chart("reliability: the share of same pairs by predicted probability", { ...SHARE, label: "predicted probability of same" }, { ...SHARE, label: "share that is the same" });
  at.svg.append(draw("line", { x1: at.px(0), y1: at.py(0), x2: at.px(1), y2: at.py(1), class: "guide" }));
  line(at, probability, share, "var(--accent)");
  const most = Math.max(...count);
  count.forEach((number, i) => {
    const dot = draw("circle", { cx: at.px(probability[i]), cy: at.py(share[i]), r: 3 + 6 * Math.sqrt(number / most), style: "fill:var(--accent);fill-opacity:.35" });
    dot.append(draw("title", {}, `${grouped(number)} pairs: predicted ${percent(probability[i])}, the same ${percent(share[i])}`));
    at.svg.append(dot);
  });
  const loss = (run.verification.test || {}).log_loss;
  return framed("Reliability", loss === undefined ? "" : `log loss ${loss.toFixed(3)}; always ½: 0.693`, at.svg);
}

function aboutReliability({ same, different }) {
  return make(
    "p",
    { class: "soft" },
    "Of the test pairs with a predicted probability of 80\u00a0%, four in five should be the same: then the curve follows the dotted line. " +
      "Where it is steeper, the network knows more than it says; where it is flatter, less. Larger dots have more pairs. " +
      `Here, ${percent(same / (same + different), 0)} of the pairs are the same; where fewer are, the probabilities are too high.`,
  );
}

/** Loss and accuracies over the steps, of one run or several. */
function curveFigures(runs) {
  const titles = { loss: "Training loss", pair_accuracy: "Training pairs", validation_one_shot: "Validation, one-shot" };
  return Object.entries(titles).flatMap(([name, title]) => {
    const drawn = runs.map((run) => run.curves[name]);
    const ys = drawn.flatMap((curve) => curve[1]);
    if (!ys.length) return [];
    const most = Math.max(...drawn.flatMap((curve) => curve[0]));
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const y = name === "loss" ? { low: Math.min(0, low), high: high || 1, label: "loss" } : { ...SHARE, low: Math.floor(low * 10 - 1e-9) / 10, label: "accuracy" };
    const at = chart(`${title} by step`, { low: 0, high: most, label: "step", format: (value) => (value >= 10000 ? `${value / 1000}k` : value) }, y);
    drawn.forEach((curve, i) => line(at, curve[0], curve[1], runs.length > 1 ? INKS[i % INKS.length] : "var(--accent)"));
    return [framed(title, "", at.svg)];
  });
}

/** The embeddings in two dimensions; the nearest point to the pointer shows its image. */
function mapSection(answers, show) {
  const { x, y, identity, wrong, image } = answers.map;
  const [side, edge] = [700, 14];
  const tall = edge * 2 + Math.max(...y) * ((side - 2 * edge) / 1000);
  const svg = draw("svg", { viewBox: `0 0 ${side} ${tall}`, class: "map", tabindex: 0, role: "application", "aria-label": `map of ${x.length} test inputs; arrow keys go from one to the next` });
  const at = x.map((_, i) => [edge + x[i] * ((side - 2 * edge) / 1000), edge + y[i] * ((side - 2 * edge) / 1000)]);
  const missed = new Set(wrong);
  const radius = at.length < 200 ? 8 : 5;
  const dots = at.map(([cx, cy], i) => {
    const hue = Math.round((identity[i] * 137.508) % 360);
    return svg.appendChild(draw("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: radius, style: `fill:hsl(${hue} 58% var(--dot))` }));
  });
  const rings = new Map([...missed].map((i) => [i, svg.appendChild(draw("circle", { cx: at[i][0], cy: at[i][1], r: radius + 3, class: "error" }))]));
  const told = make("p", { class: "soft", "aria-live": "polite" });
  let current = -1;
  const select = (i) => {
    current = i;
    dots.forEach((dot, j) => {
      const quiet = i >= 0 && identity[j] !== identity[i];
      for (const drawn of [dot, rings.get(j)]) if (drawn) drawn.classList.toggle("quiet", quiet);
      dot.classList.toggle("chosen", j === i);
    });
    if (i < 0) return hideTip();
    const box = dots[i].getBoundingClientRect();
    const note = missed.has(i) ? make("div", { class: "verdict wrong" }, "most similar to another identity") : null;
    const file = show.file(image[i]);
    told.textContent = [show.name(image[i]), file].filter(Boolean).join(", ");
    showTip([show.thumb(image[i], "", 96), make("div", {}, show.name(image[i])), file ? make("div", { class: "soft" }, file) : null, note].filter(Boolean), box.x, box.y);
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = side / box.width;
    const [px, py] = [(event.clientX - box.x) * scale, (event.clientY - box.y) * scale];
    let best = -1;
    let least = (22 * scale) ** 2;
    at.forEach(([cx, cy], i) => {
      const distance = (cx - px) ** 2 + (cy - py) ** 2;
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  };
  svg.addEventListener("pointermove", (event) => { const i = nearest(event); if (i !== current) select(i); });
  svg.addEventListener("click", (event) => select(nearest(event)));
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && select(-1));
  svg.addEventListener("blur", () => select(-1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") select(-1);
    if (!step) return;
    event.preventDefault();
    select((current + step + at.length) % at.length);
  });
  addEventListener("scroll", () => current >= 0 && select(-1), { passive: true });
  return make(
    "section",
    { id: "map" },
    make("h2", {}, "Map of embeddings"),
    make("p", { class: "soft" }, `t-SNE of ${grouped(x.length)} of ${grouped(answers.data.images)} test inputs by their scores: close means similar, a colour is an identity. Red rings: the most similar one is of another identity (${grouped(wrong.length)}). Point at one, tap it, or use the arrow keys.`),
    make("figure", {}, svg, told),
  );
}

function figuresSection(run) {
  const accuracies = Object.entries(run.results).map(([name, row]) => [words(name), (100 * row.accuracy).toFixed(2), interval(row.ci95, 2), row.over ? `${grouped(row.units)} ${row.over}` : "trials", grouped(row.trials)]);
  const parts = [make("h2", {}, "All figures"), grid(["accuracy in %", "", "95 %", "over", "trials"], accuracies)];
  const intervals = run.verification.intervals || {};
  const titles = { test: "test pairs", retrieval: "search among the test data", open_set: "strangers" };
  for (const [part, title] of Object.entries(titles)) {
    const values = Object.entries(run.verification[part] || {}).filter(([name]) => name !== "enrolled");
    if (!values.length) continue;
    const rows = values.map(([name, value]) => [words(name), name === "log_loss" ? value.toFixed(3) : (100 * value).toFixed(2), interval((intervals[part] || {})[name], 2)]);
    parts.push(grid([`${title}, in %`, "", "95 % over identities"], rows));
  }
  return make("section", { id: "figures" }, ...parts);
}

function settingsSection(run) {
  const show = (value) => JSON.stringify(value);
  const rows = run.settings.map(([name, before, after]) => [name, show(after), show(before)]);
  const head = make("h2", {}, "Settings");
  if (!rows.length) return make("section", { id: "settings" }, head, make("p", { class: "soft" }, "All settings have their defaults."));
  return make("section", { id: "settings" }, head, make("p", { class: "soft" }, "Where they differ from the defaults of this version of siamjax."), grid(["setting", "value", "default"], rows, "settings"));
}

function missingSection(runs) {
  const lines = runs.flatMap((run) => run.missing.map((line_) => (runs.length > 1 ? `${run.name}: ${line_}` : line_)));
  if (!lines.length) return null;
  return make("section", { id: "missing" }, make("h2", {}, "Not in this report"), make("ul", { class: "soft" }, ...lines.map((line_) => make("li", {}, line_))));
}
