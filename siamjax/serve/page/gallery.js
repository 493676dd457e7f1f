// Identities: enrolled, recognised, renamed, merged, removed.

import { drop } from "./drop.js";
import { ask, element, find, line, shown, warn } from "./service.js";

export async function start(network) {
  let count = 0, names = [], query;

  async function list() {
    const { identities } = await ask("v1/identities");
    count = identities.length;
    names = identities.map(({ identity }) => identity);
    find("names").replaceChildren(...names.map((value) => element("option", { value })));
    let number = 1;
    while (names.includes(`identity ${number}`)) number += 1;
    find("name").placeholder = `identity ${number}`;
    find("enrolled").textContent = count ? `Enrolled: ${count}` : "Nobody is enrolled yet";
    find("identities").replaceChildren(...identities.map(card));
  }

  function card({ identity, images, thumbnail }) {
    const remove = element("button", { type: "button", textContent: "Remove", ariaLabel: `Remove ${identity}` });
    remove.addEventListener("click", () => shown(async () => {
      await ask(`v1/identities/${encodeURIComponent(identity)}`, undefined, "DELETE");
      await changed();
    }));
    const rename = element("button", { type: "button", textContent: "Rename", ariaLabel: `Rename ${identity}` });
    const controls = element("div", { className: "controls" }, rename, remove);
    rename.addEventListener("click", () => {
      const form = renaming(identity);
      controls.replaceWith(form);
      form.querySelector("input").select();
      form.addEventListener("reset", () => form.replaceWith(controls));
    });
    const picture = thumbnail ? [element("img", { src: thumbnail, alt: "" })] : [];
    const number = element("span", { className: "soft", textContent: images === 1 ? "1 image" : `${images} images` });
    return element("li", {}, ...picture, element("strong", { textContent: identity }), number, controls);
  }

  // With the name of another identity, the two are merged, which the button says before.
  function renaming(identity) {
    const input = element("input", { type: "search", value: identity, maxLength: 200, ariaLabel: `New name of ${identity}` });
    input.setAttribute("list", "names");
    const save = element("button", { type: "submit", textContent: "Rename" });
    const form = element("form", {}, input, save, element("button", { type: "reset", textContent: "Cancel" }));
    const name = () => input.value.trim().normalize("NFC");  // As the gallery stores it.
    input.addEventListener("input", () => {
      save.textContent = name() !== identity && names.includes(name()) ? "Merge" : "Rename";
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      shown(async () => {
        if (name() !== identity) await ask("v1/rename", { identity, to: name() });
        await changed();
      });
    });
    return form;
  }

  async function enrol(images) {
    const name = find("name").value.trim() || find("name").placeholder;
    await ask("v1/enroll", { identity: name, images });
    find("name").value = "";
    await changed();
  }

  // The gallery is another one: so is, perhaps, the answer.
  async function changed() {
    await list();
    cleared();
    if (query && count) await who(query);
  }

  function cleared() {
    find("answer").textContent = "";
    find("matches").replaceChildren();
    find("stranger").hidden = true;
  }

  // Without a threshold, the network finds the most similar images, and decides nothing.
  async function who(images) {
    query = images;
    const decides = network.threshold !== null;
    const { answers: [answer] = [], matches: [found] = [] } = await ask(decides ? "v1/identify" : "v1/search", { images, k: 5 });
    if (images !== query) return; // Another image was dropped meanwhile.
    if (decides) {
      find("answer").textContent = answer.identity ?? "Unknown";
      warn("stranger", [answer.familiar], network.ink);
    }
    const ranked = decides ? answer.ranked : found;
    find("matches").replaceChildren(...ranked.map((match, place) =>
      line(match.thumbnail, match.identity, match, place === 0)));
  }

  drop(find("who"), "Drop an image here", who, {
    cleared: () => {
      query = undefined;
      cleared();
    },
  });
  drop(find("new"), "Drop images of one identity here", enrol, { several: true });
  await list();
}
