// The page: one run, or a comparison of several.

function links(sections) {
  const found = sections.filter((section) => section && section.id && section.querySelector("h2"));
  return make("nav", { "aria-label": "parts of this report" }, ...found.map((section) => make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)));
}

function onePage(run) {
  const { answers } = run;
  const state = { threshold: answers ? answers.decision.threshold : 0, changed: [] };
  const show = answers && pictures(answers);
  const curves = curveFigures([run]);
  const sections = [
    answers && answersSection(answers, show, state),
    answers && thresholdSection(run, state),
    answers && make("section", { id: "reliability" }, make("h2", {}, "Can its probabilities be believed?"), make("div", { class: "beside" }, reliabilityFigure(run), aboutReliability(answers.pairs))),
    answers && answers.map && mapSection(answers, show),
    curves.length && make("section", { id: "training" }, make("h2", {}, "Training"), make("div", { class: "grid" }, ...curves)),
    Object.keys(run.results).length && figuresSection(run),
    settingsSection(run),
    missingSection([run]),
  ].filter(Boolean);
  return [headerSection(run), links(sections), headlineSection(run), ...sections];
}

/** Settings of the data that only say where it is stored, or how it is trained on. */
const NOT_JUDGED = /^data\.(data_dir|manual_dir|stream|turns|variants|glyphs\.(alphabets|joined|share))$/;

function names(runs) {
  const titles = runs.map((run) => (run.evaluation ? `${run.name} · ${run.evaluation}` : run.name));
  return titles.map((title, i) => (titles.indexOf(title) === titles.lastIndexOf(title) ? title : `${title} (${i + 1})`));
}

/** Settings that are not the same in all runs: [key, value of each]. */
function differing(runs) {
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.all_settings)))].sort();
  return keys
    .map((name) => [name, ...runs.map((run) => JSON.stringify(run.all_settings[name]) ?? "–")])
    .filter((row) => new Set(row.slice(1)).size > 1);
}

function comparedFigures(runs, titles) {
  const rows = (of, value, bounds) => {
    const found = [...new Set(runs.flatMap((run) => Object.keys(of(run))))];
    return found.map((name) => [words(name), ...runs.map((run) => (name in of(run) ? `${value(name, of(run)[name])} (${bounds(run, name)})` : "–"))]);
  };
  const accuracies = rows((run) => run.results, (_, row) => (100 * row.accuracy).toFixed(2), (run, name) => interval(run.results[name].ci95));
  const share = (name, value) => (name === "log_loss" ? value.toFixed(3) : (100 * value).toFixed(2));
  const pairs = rows((run) => run.verification.test || {}, share, (run, name) => interval(((run.verification.intervals || {}).test || {})[name]));
  return [grid(["accuracy in % (95 %)", ...titles], accuracies), pairs.length ? grid(["test pairs, in % (95 %)", ...titles], pairs) : null];
}

function comparedCurves(runs) {
  const drawn = runs.map((run, i) => ({ run, ink: INKS[i % INKS.length] })).filter(({ run }) => run.answers);
  if (!drawn.length) return [];
  const low = Math.min(...drawn.map(({ run }) => leastRate(run.answers.pairs.different)));
  const at = chart("DET curves: false reject rate by false accept rate", { ...AT_FAR, low }, { ...AT_FAR, low, label: "false reject rate" });
  at.svg.append(draw("line", { x1: at.px(low), y1: at.py(low), x2: at.px(1), y2: at.py(1), class: "guide" }));
  for (const { run, ink } of drawn) {
    const { table, pairs } = run.answers;
    const rates = table.threshold.map((_, row) => countsOf(table, row, pairs));
    const shown = rates.filter((each) => each.far >= low && each.frr >= low);
    line(at, shown.map((each) => each.far), shown.map((each) => each.frr), ink);
  }
  return [framed("DET", "of test pairs; lower is better", at.svg)];
}

function comparedPage(runs) {
  const titles = names(runs);
  const data = [...new Set(runs.map((run) => run.evaluated.data))];
  const trials = runs.map((run) => JSON.stringify(Object.entries(run.all_settings).filter(([name]) => /^(data|evaluation)\./.test(name) && !NOT_JUDGED.test(name))));
  const warning =
    data.length > 1
      ? `Evaluated on different data (${data.join("; ")}): the figures do not compare the networks alone.`
      : new Set(trials).size > 1
        ? "Settings of the data or the evaluation differ (see below): trials and pairs may not be the same."
        : "";
  const rows = differing(runs);
  const missing = missingSection(runs);
  const sections = [
    make("section", { id: "figures" }, make("h2", {}, "Figures"), warning ? make("p", { class: "note" }, warning) : null, ...comparedFigures(runs, titles).filter(Boolean), make("p", { class: "soft" }, "Intervals are over identities, alphabets or runs, and do not cover another training of the same settings.")),
    make("section", { id: "curves" }, make("h2", {}, "Curves"), key(...titles.map((title, i) => [title, INKS[i % INKS.length]])), make("div", { class: "grid" }, ...comparedCurves(runs), ...curveFigures(runs))),
    make("section", { id: "settings" }, make("h2", {}, "Settings that differ"), rows.length ? grid(["setting", ...titles], rows, "settings") : make("p", { class: "soft" }, "None.")),
    missing,
  ].filter(Boolean);
  return [make("header", {}, make("h1", {}, `${runs.length} runs compared`), make("p", { class: "soft" }, titles.join(", "))), links(sections), ...sections];
}

function fill() {
  const { runs } = JSON.parse(document.getElementById("data").textContent);
  document.getElementById("report").replaceChildren(...(runs.length > 1 ? comparedPage(runs) : onePage(runs[0])));
}

fill();
