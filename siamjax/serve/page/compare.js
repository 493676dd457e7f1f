// Two images: the same, or not? With the score, and a threshold to move.

import { drop } from "./drop.js";
import { ask, find, percent } from "./service.js";

const AROUND = 6; // on the axis: scores whose probabilities are within 1 / (1 + exp(∓6))

export function start(network) {
  const given = {}, slider = find("threshold");
  const low = network.even - AROUND / network.slope, high = network.even + AROUND / network.slope;
  Object.assign(slider, { min: low, max: high, step: (high - low) / 500 });
  slider.value = network.threshold;
  slider.addEventListener("input", show);

  function show() {
    if (!given.answer) return;
    const { score, probability } = given.answer, threshold = Number(slider.value);
    const share = (value) => `${100 * Math.min(1, Math.max(0, (value - low) / (high - low)))}%`;
    const same = score > threshold;
    find("verdict").textContent = same ? "Same" : "Different";
    find("verdict").className = `verdict ${same ? "right" : "wrong"}`;
    find("probability").textContent = `Probability of the same: ${percent(probability)}; score ${score.toFixed(3)}`;
    find("threshold-shown").textContent = threshold.toFixed(3);
    document.querySelector(".axis b").style.left = share(score);
    document.querySelector(".axis i").style.left = share(threshold);
  }

  async function compare() {
    if (!given.first || !given.second) return;
    const { answers } = await ask("v1/verify", { image: given.first, references: [given.second] });
    [given.answer] = answers;
    find("compared").hidden = false;
    show();
  }

  for (const name of ["first", "second"]) {
    drop(find(name), `Drop the ${name} image here`, (content) => {
      given[name] = content;
      return compare();
    });
  }
}
