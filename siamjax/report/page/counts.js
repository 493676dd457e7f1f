"use strict";

// What follows from the table of mistakes by threshold; nothing here needs a page.

/** Counts and rates where pairs are the same above the threshold of a row; `pairs` is how many there are of each kind. */
function countsOf(table, row, pairs) {
  const falseAccepts = table.false_accepts[row];
  const falseRejects = table.false_rejects[row];
  return {
    threshold: table.threshold[row],
    falseAccepts,
    falseRejects,
    trueAccepts: pairs.same - falseRejects,
    trueRejects: pairs.different - falseAccepts,
    far: falseAccepts / pairs.different,
    frr: falseRejects / pairs.same,
    accuracy: 1 - (falseAccepts + falseRejects) / (pairs.same + pairs.different),
  };
}

/** The probability of "same" of a score, as calibrated. */
function probabilityOf(decision, score) {
  const likely = 1 / (1 + Math.exp(-decision.slope * (score - decision.even)));
  return Math.min(Math.max(likely, decision.least ?? 0), decision.most ?? 1); // Older pages have no bounds.
}

/** Whether a pair [first, second, same, score] is right, and what a wrong one is called. */
function judged(pair, threshold) {
  const accepted = pair[3] > threshold;
  if (accepted === pair[2]) return { accepted, right: true, kind: "right" };
  return { accepted, right: false, kind: accepted ? "false accept" : "false reject" };
}

/** Whether an answer of a list is to be shown: `kind` is "all", "right", "wrong" or the name of a mistake. */
function matches(kind, words, verdict, texts) {
  const fits = kind === "all" || kind === verdict.kind || (kind === "wrong" && !verdict.right);
  const wanted = words.toLowerCase().trim();
  return fits && (!wanted || texts.some((text) => text.toLowerCase().includes(wanted)));
}

/** About `count` round numbers from `low` to `high`. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step || 0);
  return found;
}

/** A share 0..1 in per cent, with an interval if there is one. */
function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

function interval(bounds, digits = 1) {
  return bounds ? `${(100 * bounds[0]).toFixed(digits)}–${(100 * bounds[1]).toFixed(digits)}` : "–";
}

function grouped(number) {
  return Number(number).toLocaleString("en-US");
}
