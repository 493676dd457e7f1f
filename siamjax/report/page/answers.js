// The images of a report, and the list of its pairs and trials.

/** Makes thumbnails of the answers' images from their one sheet, and tells what an image is called. */
function pictures(answers) {
  const sheet = answers.sheet;
  if (sheet) {
    const rule = `.thumb{background-image:url("${sheet.data}")}`;
    document.head.append(make("style", {}, rule));
  }
  const name = (place) => (answers.groups.length ? `${answers.groups[place]} · ${answers.names[place]}` : answers.names[place]);
  const file = (place) => answers.files[place] || "";
  const thumb = (place, kind, longest) => {
    if (!sheet) return null;
    const scale = longest / Math.max(sheet.width, sheet.height);
    const [width, height] = [sheet.width * scale, sheet.height * scale];
    const rows = Math.ceil(answers.names.length / sheet.columns);
    const style =
      `width:${width}px;height:${height}px;background-size:${width * sheet.columns}px ${height * rows}px;` +
      `background-position:${-(place % sheet.columns) * width}px ${-Math.floor(place / sheet.columns) * height}px`;
    const image = make("div", { class: "thumb", role: "img", "aria-label": name(place), style });
    return make("div", { class: `framed ${kind}`, title: [name(place), file(place)].filter(Boolean).join("\n") }, image);
  };
  return { thumb, name, file };
}

function pairItem(answers, show, pair, verdict) {
  const [first, second, same, score] = pair;
  const said = verdict.right ? `✓ rightly ${verdict.accepted ? "the same" : "different"}` : `✗ ${verdict.kind}`;
  const kind = verdict.right ? "right" : "wrong";
  const probability = percent(probabilityOf(answers.decision, score));
  const names = same ? [show.name(first)] : [show.name(first), show.name(second)];
  const files = [show.file(first), show.file(second)].filter(Boolean);
  return make(
    "li",
    { class: "item" },
    make("div", { class: "images" }, show.thumb(first, "", 64), show.thumb(second, "", 64)),
    make("p", {}, make("span", { class: `verdict ${kind}` }, said), make("span", { class: "soft number" }, ` score ${score.toPrecision(4)}, probability ${probability}`)),
    make("p", {}, same ? "two of " : "", names.join(" and ")),
    files.length ? make("p", { class: "files" }, files.join(" · ")) : null,
  );
}

function trialItem(answers, show, trial) {
  const right = trial.rank === 0;
  const place = Math.min(trial.rank, trial.ranked.length - 1);
  const query = show.thumb(trial.query, "", 48);
  const ranked = trial.ranked.map((image, i) => show.thumb(image, i === place ? "right" : i === 0 ? "wrong" : "", 32));
  const said = right ? "✓ right" : `✗ wrong, the right one ranks ${trial.rank + 1}/${answers.trials.ways}`;
  const lines = [`${show.name(trial.query)}`];
  if (!right) lines.push(`taken for ${show.name(trial.ranked[0])}`);
  const scores = right ? `score ${trial.scores[0].toPrecision(4)}` : `score ${trial.scores[place].toPrecision(4)}, against ${trial.scores[0].toPrecision(4)}`;
  const files = [trial.query, ...(right ? [] : [trial.ranked[0]])].map(show.file).filter(Boolean);
  return make(
    "li",
    { class: "item" },
    query ? make("div", { class: "images" }, query, make("span", { class: "arrow", "aria-hidden": "true" }, "→"), ...ranked) : null,
    make("p", {}, make("span", { class: `verdict ${right ? "right" : "wrong"}` }, said), make("span", { class: "soft number" }, ` ${scores}`)),
    make("p", {}, lines.join(", ")),
    files.length ? make("p", { class: "files" }, files.join(" · ")) : null,
  );
}

/** The filterable list; `state.threshold` decides on pairs, and `state.changed` holds functions to call after a change. */
function answersSection(answers, show, state) {
  const kinds = { pairs: ["wrong", "false accept", "false reject", "right", "all"], trials: ["wrong", "right", "all"] };
  const views = answers.trials ? ["trials", "pairs"] : ["pairs"];
  const names = { trials: "Who is this?", pairs: "Same or not?" };
  let view = views[0];
  let most = 12;
  const about = make("p", { class: "soft" });
  const list = make("ul", { class: "list", id: "answers-list" });
  const more = make("button", { type: "button" }, "Show more");
  const kind = make("select", { "aria-label": "which answers" });
  const search = make("input", { type: "search", placeholder: "name or file", "aria-label": "name or file" });
  const buttons = views.map((each) => make("button", { type: "button", "data-view": each }, names[each]));

  const texts = (places) => places.flatMap((place) => [show.name(place), show.file(place)]);
  const found = () => {
    if (view === "trials") {
      return answers.trials.rows
        .map((trial) => ({ trial, verdict: { right: trial.rank === 0, kind: trial.rank === 0 ? "right" : "wrong" } }))
        .filter(({ trial, verdict }) => matches(kind.value, search.value, verdict, texts([trial.query, trial.ranked[0]])))
        .map(({ trial }) => () => trialItem(answers, show, trial));
    }
    return answers.shown
      .map((pair) => ({ pair, verdict: judged(pair, state.threshold) }))
      .filter(({ pair, verdict }) => matches(kind.value, search.value, verdict, texts(pair.slice(0, 2))))
      .map(({ pair, verdict }) => () => pairItem(answers, show, pair, verdict));
  };
  const update = () => {
    const items = found();
    list.replaceChildren(...items.slice(0, most).map((item) => item()));
    if (!items.length) list.append(make("li", { class: "soft" }, "No answer of this kind among those stored in this page."));
    more.hidden = items.length <= most;
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.view === view)));
    const stored = view === "trials" ? answers.trials.rows.length : answers.shown.length;
    const all = view === "trials" ? answers.trials.count : answers.pairs.same + answers.pairs.different;
    about.textContent =
      view === "trials"
        ? `${grouped(all)} trials were drawn for this page, and ${grouped(answers.trials.wrong)} are wrong. Each shows the query, then its candidates, ` +
          `highest score first; solid frame: the right one, dashed: a wrong choice. ${items.length} of the ${stored} stored here match.`
        : `Judged at the threshold ${state.threshold.toPrecision(4)}. Of ${grouped(all)} pairs, this page stores ${stored}: the worst mistakes first, ` +
          `right answers near the threshold, and random ones. ${items.length} match.`;
  };
  const choose = (next) => {
    view = next;
    most = 12;
    kind.replaceChildren(...kinds[view].map((each) => make("option", { value: each }, each.startsWith("false") ? `${each}s` : `${each} answers`)));
    if (!found().length) kind.value = "all";
    update();
  };
  const restart = () => { most = 12; update(); };
  buttons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.view)));
  kind.addEventListener("change", restart);
  search.addEventListener("input", restart);
  more.addEventListener("click", () => { most += 24; update(); });
  state.changed.push(() => view === "pairs" && update());
  choose(view);
  return make("section", { id: "answers" }, make("h2", {}, "Answers"), about, make("div", { class: "controls" }, ...(views.length > 1 ? buttons : []), kind, search), list, make("div", { class: "controls" }, more));
}
