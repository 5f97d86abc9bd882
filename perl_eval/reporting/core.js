// What every part of the page's script shares. Every text enters the page through textContent.
"use strict";
const report = (() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const add = (parent, ...children) => {
    parent.append(...children);
    return parent;
  };
  const control = (title, node) => add(make("label"), make("span", "", title), node);
  const button = (text, act) => {
    const node = make("button", "", text);
    node.type = "button";
    node.addEventListener("click", act);
    return node;
  };
  const option = (value, text) => {
    const node = make("option", "", text);
    node.value = value;
    return node;
  };
  const count = (n) => n.toLocaleString("en");

  // What the page holds of judgements: compressed, for 2,000 of them are several megabytes of text.
  const read = async () => {
    const source = byId("data");
    if (!source) return null;
    const packed = Uint8Array.from(atob(source.textContent), (char) => char.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(stream).text());
  };

  // A link opens what it points to, if that is folded, and whatever lies around it.
  const unfold = (target) => {
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  };
  const routes = []; // [start of the hash, what shows it]
  const follow = () => {
    const hash = location.hash.slice(1);
    const route = hash && routes.find(([start]) => hash.startsWith(start));
    if (route) {
      route[1](hash.slice(route[0].length));
      return;
    }
    const target = hash && byId(hash);
    if (!target) return;
    unfold(target);
    target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
    if (target.tagName === "TR") target.focus({ preventScroll: true });
  };
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]'); // the same link once more changes no hash
    if (link && link.hash === location.hash) follow();
  });

  // Keys that walk: the part of the page that has the focus gets them, else the first that is in sight.
  const walkers = []; // [section, {key: act}]
  const inSight = (node) => {
    const box = node.getBoundingClientRect();
    return !node.hidden && box.top < innerHeight && box.bottom > 0;
  };
  let walking = true;
  document.addEventListener("keydown", (event) => {
    if (!walking || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, select, textarea, pre")) return;
    const walker =
      walkers.find(([section]) => section.contains(document.activeElement)) || walkers.find(([section]) => inSight(section));
    const act = walker && walker[1][event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  const keysSwitch = (words) => {
    const box = make("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      walking = box.checked;
      for (const other of document.querySelectorAll(".keys input")) other.checked = walking;
    });
    return add(make("label", "keys"), box, make("span", "", words));
  };

  return { byId, make, add, control, button, option, count, read, unfold, follow, routes, walkers, keysSwitch };
})();
