// Two images: the same, or not? With the score among those of the network's own test, and a threshold to move.

import { drop } from "./drop.js";
import { ask, find, percent, warn } from "./service.js";

const SVG = "http://www.w3.org/2000/svg";
const AROUND = 6; // on the axis: scores whose probabilities are within 1 / (1 + exp(∓6))
const WIDTH = 600, HEIGHT = 160;

function drawn(kind, attributes) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  find("scores").append(made);
  return made;
}

// The bars of a histogram, each kind as a share of its own pairs; `place` puts a score on the axis.
function bars({ edges, same, different }, place) {
  const shares = [same, different].map((counts) => {
    const total = counts.reduce((sum, count) => sum + count, 0) || 1;
    return counts.map((count) => count / total);
  });
  const highest = Math.max(...shares.flat());
  ["different", "same"].forEach((kind, number) => shares[1 - number].forEach((share, bin) => {
    const height = share / highest * (HEIGHT - 8), x = place(edges[bin]);
    if (share) drawn("rect", { class: kind, x, width: Math.max(1, place(edges[bin + 1]) - x), y: HEIGHT - height, height });
  }));
}

// How many of the pairs of the test a threshold decides wrongly, as far as the bins tell.
function wrong({ edges, same, different }, threshold) {
  const middle = (bin) => (edges[bin] + edges[bin + 1]) / 2;
  const share = (counts, counted) => {
    const chosen = counts.filter((_, bin) => counted(middle(bin))).reduce((sum, count) => sum + count, 0);
    return percent(chosen / (counts.reduce((sum, count) => sum + count, 0) || 1));
  };
  return [share(different, (score) => score > threshold), share(same, (score) => score <= threshold)];
}

export function start(network) {
  const given = {}, slider = find("threshold"), { histogram } = network;
  let low = network.even - AROUND / network.slope, high = network.even + AROUND / network.slope;
  if (histogram) [low, high] = [Math.min(low, histogram.edges[0]), Math.max(high, histogram.edges.at(-1))];
  const place = (score) => WIDTH * Math.min(1, Math.max(0, (score - low) / (high - low)));
  Object.assign(slider, { min: low, max: high, step: "any" });
  slider.value = network.threshold;
  slider.addEventListener("input", show);
  if (histogram) bars(histogram, place);
  find("scores").classList.toggle("bare", !histogram);
  find("scores-about").textContent = histogram
    ? `Scores of different and of same pairs, each as shares of their own: ${histogram.pairs}.`
    : "No test of this network has stored the scores of its pairs.";
  const above = drawn("rect", { class: "above", y: 0, height: HEIGHT }), line = drawn("line", { class: "threshold", y1: 0, y2: HEIGHT });
  const mark = drawn("line", { class: "mark", y1: 0, y2: HEIGHT });

  function show() {
    if (!given.answer) return;
    const { score, probability } = given.answer, threshold = Number(slider.value);
    const same = score > threshold;
    find("verdict").textContent = same ? "Same" : "Different";
    find("verdict").className = given.familiar ? `verdict ${same ? "right" : "wrong"}` : "verdict";
    find("probability").textContent = `Probability of the same: ${percent(probability)}; score ${score.toFixed(3)}`;
    find("threshold-shown").textContent = threshold.toFixed(3);
    for (const [each, at] of [[line, threshold], [mark, score]]) {
      each.setAttribute("x1", place(at));
      each.setAttribute("x2", place(at));
    }
    above.setAttribute("x", place(threshold));
    above.setAttribute("width", WIDTH - place(threshold));
    find("scores").ariaLabel = `The score ${score.toFixed(3)}, the threshold ${threshold.toFixed(3)}`;
    if (!histogram) return;
    const [accepted, rejected] = wrong(histogram, threshold);
    find("counted").textContent = `At this threshold, about ${accepted} of the different pairs are taken for the same, and ${rejected} of the same pairs for different ones.`;
  }

  async function compare() {
    const { first, second } = given;
    if (!first || !second) return;
    const { answers, familiar } = await ask("v1/verify", { image: first, references: [second] });
    if (first !== given.first || second !== given.second) return; // Others were dropped meanwhile.
    [given.answer] = answers;
    given.familiar = familiar.every(Boolean);
    warn("strange", familiar, network.ink);
    find("compared").hidden = false;
    show();
  }

  for (const name of ["first", "second"]) {
    const cleared = () => {
      given[name] = undefined;
      find("compared").hidden = true;
    };
    drop(find(name), `Drop the ${name} image here`, ([content]) => {
      given[name] = content;
      return compare();
    }, { cleared });
  }
}
