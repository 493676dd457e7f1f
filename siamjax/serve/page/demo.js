// The page of `siamjax demo`: the tabs that make sense for the network.

import * as compare from "./compare.js";
import * as draw from "./draw.js";
import * as gallery from "./gallery.js";
import { ask, element, find, reason, shown } from "./service.js";

// Name of a tab -> what fills it, and for which networks.
const TABS = {
  Draw: [draw.start, (network) => network.ink && network.threshold !== null],
  Compare: [compare.start, (network) => network.threshold !== null],
  Gallery: [gallery.start, (network) => network.gallery],
};

function open(chosen) {
  for (const button of find("tabs").children) {
    const panel = find(button.id.replace("tab-", ""));
    panel.hidden = button !== chosen;
    button.setAttribute("aria-selected", String(button === chosen));
    button.tabIndex = button === chosen ? 0 : -1;
  }
}

// The service answers before its network is loaded and its programs are compiled.
async function loaded() {
  for (;;) {
    const { status } = await (await fetch("status")).json();
    if (status !== "loading") return status;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function compiled() {
  find("waiting").textContent = "Its programs are being compiled: first answers take some seconds longer.";
  let status = "warming up";
  while (status === "warming up") {
    await new Promise((resolve) => setTimeout(resolve, 500));
    ({ status } = await (await fetch("status")).json());
  }
  if (status === "ok") {
    find("waiting").style.visibility = "hidden";  // Its place and its text stay: nothing moves away under the pen.
  } else {
    find("waiting").textContent = "Some of its programs could not be compiled; the output of the service says why.";
  }
}

shown(async () => {
  const status = await loaded();
  find("waiting").hidden = status === "ok";
  const network = await ask("v1/network");
  const suiting = Object.entries(TABS).filter(([, [, suits]]) => suits(network));
  for (const [name] of suiting) {
    const id = name.toLowerCase(), tab = element("button", { type: "button", id: `tab-${id}`, textContent: name });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", id);
    tab.addEventListener("click", () => open(tab));
    find("tabs").append(tab);
  }
  open(find("tabs").firstElementChild);
  find("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], tabs = [...find("tabs").children];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    open(next);
    next.focus();
  });
  if (status !== "ok") {
    compiled().catch((error) => {  // Not by `shown`, which would hide the errors of others.
      find("waiting").textContent = reason(error);
    });
  }
  await Promise.all(suiting.map(([, [start]]) => start(network)));
});
