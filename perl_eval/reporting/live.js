// Follows run folders. Every text enters the page through textContent.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const draw = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const count = (n) => n.toLocaleString("en");
  const short = (value) => Number(value.toPrecision(3)).toString();

  const rate = (found) => {
    const part = make("div", "rate-line");
    const interval = `${found.low.toFixed(3)} to ${found.high.toFixed(3)}`;
    const words = `${found.name} ${found.value === null ? "" : found.value.toFixed(3)} (${interval}, holds at every moment), n = ${count(found.n)}`;
    part.append(make("b", "", found.decided ? "Decided: " : ""), words);
    const svg = draw("svg", { class: "rate", width: "100%", height: "36", role: "img", "aria-label": words });
    svg.append(draw("line", { class: "axis", x1: "0%", y1: 9, x2: "100%", y2: 9 }));
    for (const at of [0, 25, 50, 75, 100]) {
      svg.append(draw("line", { class: "axis", x1: `${at}%`, x2: `${at}%`, y1: at === 50 ? 2 : 6, y2: at === 50 ? 16 : 12 }));
      const anchor = at === 0 ? "start" : at === 100 ? "end" : "middle";
      const text = draw("text", { x: `${at}%`, y: 30, "text-anchor": anchor });
      text.textContent = String(at / 100);
      svg.append(text);
    }
    svg.append(draw("line", { class: "reach", x1: `${100 * found.low}%`, x2: `${100 * found.high}%`, y1: 9, y2: 9 }));
    if (found.value !== null) svg.append(draw("circle", { class: "point", cx: `${100 * found.value}%`, cy: 9, r: 5 }));
    part.append(svg);
    return part;
  };

  const curve = ({ metric, points }) => {
    const [width, height, left, bottom] = [320, 170, 46, 22];
    const xs = points.map((point) => point[0]);
    const ys = points.map((point) => point[1]);
    const span = (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return low === high ? [low - (Math.abs(low) / 2 || 1), high + (Math.abs(high) / 2 || 1)] : [low, high];
    };
    const [x0, x1] = span(xs);
    const [y0, y1] = span(ys);
    const across = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - 10);
    const down = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - bottom - 10);
    const figure = make("figure", "panel");
    figure.append(make("figcaption", "", `${metric}: ${short(ys[ys.length - 1])}`));
    const words = `${metric} over step, from ${short(ys[0])} to ${short(ys[ys.length - 1])}`;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
    for (const y of [y0, (y0 + y1) / 2, y1]) {
      svg.append(draw("line", { class: "grid", x1: left, x2: width - 10, y1: down(y), y2: down(y) }));
      const text = draw("text", { x: left - 5, y: down(y) + 4, "text-anchor": "end" });
      text.textContent = short(y);
      svg.append(text);
    }
    for (const [x, anchor] of [[x0, "start"], [x1, "end"]]) {
      const text = draw("text", { x: across(x), y: height - 5, "text-anchor": anchor });
      text.textContent = short(x);
      svg.append(text);
    }
    if (points.length === 1) svg.append(draw("circle", { class: "dot style-0", cx: across(xs[0]), cy: down(ys[0]), r: 3 }));
    else svg.append(draw("path", { class: "line style-0", d: `M${points.map(([x, y]) => `${across(x)} ${down(y)}`).join("L")}` }));
    figure.append(svg);
    return figure;
  };

  const STATES = { running: "running", stopped: "stopped: the same command goes on", finished: "finished" };
  const folder = (one) => {
    const part = make("article", `decision run-${one.state}`);
    const title = make("h2", "", one.label);
    const state = make("p", "sentence");
    state.append(make("span", "state", STATES[one.state]), ` ${one.verb}${one.judge ? `, judge ${one.judge}` : ""}`);
    if (one.simulated) state.append(" ", make("span", "tag", "simulated"));
    part.append(title, state);
    for (const alarm of one.alarms) {
      const line = make("p", "banner", alarm);
      line.setAttribute("role", "alert");
      part.append(line);
    }
    if (one.progress) {
      const { done, total, outcomes } = one.progress;
      const bar = make("progress");
      bar.max = Math.max(total, 1);
      bar.value = done;
      bar.setAttribute("aria-label", `${one.label}: judged`);
      const said = Object.entries(outcomes).map(([name, n]) => `${name} ${count(n)}`);
      part.append(bar, make("p", "by", `${count(done)} of ${count(total)} judged${said.length ? `: ${said.join(", ")}` : ""}`));
      if (one.progress.rate) part.append(rate(one.progress.rate));
    }
    if (one.cost && one.cost.requests !== undefined) {
      part.append(make("p", "by", `${count(one.cost.requests)} requests, ${count(one.cost.tokens)} tokens, ${one.cost.cost_usd.toFixed(2)} USD so far`));
    }
    if (one.seconds !== undefined) part.append(make("p", "by", `took ${one.seconds.toFixed(1)} s`));
    for (const line of one.said) part.append(make("p", "by", line));
    if (one.curves.length) {
      const panels = make("div", "panels");
      panels.append(...one.curves.map(curve));
      part.append(panels);
    }
    return part;
  };

  const known = new Map(); // a folder that did not change stays as it is, with its focus and its selection
  const show = (state) => {
    const nodes = state.folders.map((one) => {
      const text = JSON.stringify(one);
      const before = known.get(one.label);
      if (before && before.text === text) return before.node;
      const node = folder(one);
      known.set(one.label, { text, node });
      return node;
    });
    const main = document.getElementById("folders");
    const now = [...main.children];
    if (nodes.length !== now.length || nodes.some((node, n) => node !== now[n])) main.replaceChildren(...nodes);
    const running = state.folders.filter((one) => one.state === "running").length;
    const words = `${running} running, ${state.folders.length - running} other run folders.`;
    const seen = document.getElementById("seen");
    if (seen.textContent !== words) seen.textContent = words;
    document.documentElement.dataset.ready = "yes";
  };

  const look = async () => {
    try {
      const answer = await fetch("state.json");
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.json());
    } catch (error) {
      document.getElementById("seen").textContent = "The server is gone; what is below is the last that it said.";
    }
    setTimeout(look, 2000);
  };
  look();
})();
