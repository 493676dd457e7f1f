// A place for an image: dropped, chosen, or taken by the camera of a phone.

import { ask, element, shown } from "./service.js";

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

// Fills `place`; `taken` is called with the content of an image in base64, and shows what it does with it.
export function drop(place, label, taken) {
  const pictures = element("div", { className: "pictures" });
  const made = element("div", { className: "drop" }, pictures);
  const buttons = element("div", { className: "buttons" });

  async function take(file) {
    if (!file) return;
    const content = await read(file);
    const { images } = await ask("v1/inputs", { images: [content] });
    const own = element("img", { alt: "the image", src: URL.createObjectURL(file) });
    own.addEventListener("error", () => own.remove()); // A type that the browser does not show, such as TIFF.
    const seen = element("img", { className: "seen", alt: "as the network sees it", src: `data:image/png;base64,${images[0]}` });
    const captions = ["image", "as the network sees it"].map((text) => element("figcaption", { textContent: text }));
    pictures.replaceChildren(...[own, seen].map((image, number) => element("figure", {}, image, captions[number])));
    await taken(content);
  }

  function button(text, camera) {
    const input = element("input", { type: "file", accept: "image/*", hidden: true, ariaLabel: `${label}: ${text}` });
    if (camera) input.setAttribute("capture", "environment");
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = ""; // So that the same file can be chosen again.
      shown(() => take(file));
    });
    const pressed = element("button", { type: "button", textContent: text });
    pressed.addEventListener("click", () => input.click());
    buttons.append(input, pressed);
  }

  button("Choose an image", false);
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
    shown(() => take(event.dataTransfer.files[0]));
  });
  place.append(made);
}
