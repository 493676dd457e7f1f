// What the parts of the page share: requests, elements, and messages.

export async function ask(path, body, method = body === undefined ? "GET" : "POST") {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// An element with properties and children; texts are never markup.
export function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

export const find = (name) => document.getElementById(name);

export const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

// What a user is told of an error.
export const reason = (error) =>
  error instanceof TypeError ? "The service does not answer. Is it still running?" : error.message;

let begun = 0, atError = 0;  // how many works have begun, and how many had when an error was last shown

// Shows the message of an error until something succeeds that has begun after it.
export async function shown(work) {
  const place = find("error"), number = ++begun;
  try {
    const result = await work();
    if (number > atError) place.hidden = true;
    return result;
  } catch (error) {
    place.textContent = reason(error);
    place.hidden = false;
    atError = begun;
    return undefined;
  }
}

// Warns of images of another kind than the network knows; `familiar` says of each image whether it is of that kind.
export function warn(name, familiar, inked) {
  const strange = familiar.filter((known) => !known).length, place = find(name);
  const which = familiar.length === 1 ? "This image is" : strange === 1 ? "One of these images is" : "These images are";
  const kind = inked ? " It knows drawings in dark ink on light paper." : "";
  place.textContent = `${which} unlike those that the network was fitted to: its answer means nothing.${kind}`;
  place.hidden = !strange;
}

// A line of a ranking: a picture (or none), a name, and a probability (or a score).
export function line(picture, name, match, best) {
  const image = picture ? element("img", { src: picture, alt: "" }) : element("span", { className: "blank" });
  const known = match.probability !== null;
  const middle = element("div", {}, element("span", { className: "name", textContent: name }));
  if (known) middle.append(element("meter", { min: 0, max: 1, value: match.probability }));
  const figure = known ? percent(match.probability) : match.score.toFixed(2);
  return element("li", { className: best ? "best" : "" }, image, middle,
    element("span", { className: "number", textContent: figure }));
}
