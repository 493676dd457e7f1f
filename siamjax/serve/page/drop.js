// A place for an image, or several: dropped, chosen, or taken by the camera of a phone.

import { ask, element, shown } from "./service.js";

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

// Asks the service to prepare the images, and says in an error which file it is about.
async function seenOf(files, contents) {
  try {
    return (await ask("v1/inputs", { images: contents })).images;
  } catch (error) {
    throw new Error(error.message.replace(/^images\[(\d+)\]/, (_, number) => files[number].name), { cause: error });
  }
}

// Fills `place`; `taken` is called with the content of each image in base64, and shows what it does with them; before
// that `cleared`, as what was there is gone. More than one image only if `several`.
export function drop(place, label, taken, { cleared = () => {}, several = false } = {}) {
  const pictures = element("div", { className: "pictures" });
  const made = element("div", { className: "drop" }, pictures);
  const buttons = element("div", { className: "buttons" });
  let latest = 0;

  async function take(all) {
    const files = several ? [...all] : [...all].slice(0, 1);
    if (!files.length) return;
    const mine = ++latest;
    pictures.replaceChildren();
    cleared();
    const contents = await Promise.all(files.map(read));
    const images = await seenOf(files, contents);
    if (mine !== latest) return; // Others were dropped meanwhile.
    const own = element("img", { alt: "the image", src: URL.createObjectURL(files[0]) });
    own.addEventListener("error", () => own.remove()); // A type that the browser does not show, such as TIFF.
    const seen = element("img", { className: "seen", alt: "as the network sees it", src: `data:image/png;base64,${images[0]}` });
    const captions = ["image", "as the network sees it"].map((text) => element("figcaption", { textContent: text }));
    pictures.replaceChildren(...[own, seen].map((image, number) => element("figure", {}, image, captions[number])));
    await taken(contents);
  }

  function button(text, camera) {
    const input = element("input", { type: "file", accept: "image/*", multiple: several && !camera, hidden: true, ariaLabel: `${label}: ${text}` });
    if (camera) input.setAttribute("capture", "environment");
    input.addEventListener("change", () => {
      const chosen = [...input.files];
      input.value = ""; // So that the same file can be chosen again.
      shown(() => take(chosen));
    });
    const pressed = element("button", { type: "button", textContent: text });
    pressed.addEventListener("click", () => input.click());
    buttons.append(input, pressed);
  }

  button(several ? "Choose images" : "Choose an image", false);
  // Where there is no touch screen, browsers ignore that a camera is asked for.
  if (matchMedia("(pointer: coarse)").matches) button("Camera", true);
  made.append(element("p", { className: "soft", textContent: label }), buttons);
  made.addEventListener("dragover", (event) => {
    event.preventDefault();
    made.classList.add("over");
  });
  made.addEventListener("dragleave", () => made.classList.remove("over"));
  made.addEventListener("drop", (event) => {
    event.preventDefault();
    made.classList.remove("over");
    shown(() => take(event.dataTransfer.files));
  });
  place.append(made);
}
