// The browser of judgements. Every text enters the page through textContent.
"use strict";
(() => {
  const source = document.getElementById("data");
  const byId = (id) => document.getElementById(id);

  // A link to a run card or a section opens what it points to, if that is folded.
  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  window.addEventListener("hashchange", unfold);
  unfold();
  if (!source) return;

  const { prompts, pictures, rows } = JSON.parse(source.textContent);
  const PAGE = 20;
  const facets = [
    ["outcome", "Outcome", (row) => [row.outcome]],
    ["judge", "Judge", (row) => [row.judge]],
    ["pair", "Comparison", (row) => [row.pair]],
    ["label", "People say", (row) => [row.label || "nobody asked", ...(row.differs ? ["something else than the judge"] : [])]],
    ["dataset", "Data set", (row) => [row.dataset]],
    ["run", "Run", (row) => [row.run]],
  ];
  const selects = new Map();
  let found = rows;
  let page = 0;

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

  // Text searched in, built once a row when the first search is made.
  const haystacks = new Map();
  const haystack = (row) => {
    if (!haystacks.has(row)) {
      const parts = [row.id, row.item, row.reason || ""];
      for (const turn of prompts[row.prompt]) parts.push(turn[1]);
      for (const answer of row.answers) parts.push(answer[1]);
      for (const ballot of row.ballots) parts.push(ballot.raw, ballot.reason || "");
      for (const person of row.people) parts.push(person[0], person[2]);
      haystacks.set(row, parts.join("\n").toLowerCase());
    }
    return haystacks.get(row);
  };

  const block = (title, text, className) => {
    const part = make("section", className || "text");
    const heading = make("h3", "", title);
    const body = make("pre", "", text === "" ? "(empty)" : text);
    if (text === "") body.className = "empty";
    body.tabIndex = 0;
    body.dir = "auto";
    body.setAttribute("role", "region");
    body.setAttribute("aria-label", title);
    return add(part, heading, body);
  };

  const chance = (of, p) => (p === null ? "" : `, p(${of}) = ${p.toFixed(3)}`);
  const shownFirst = (row, order) => {
    if (order === "none" || row.answers.length < 2) return "";
    return `${row.answers[order === "ab" ? 0 : 1][0]} shown first: `;
  };
  const verdictOf = (row, ballot) => {
    if (ballot.verdict === null) return `no verdict: ${ballot.reason || "no reason given"}`;
    if (row.answers.length < 2 || ballot.verdict === "tie") return ballot.verdict;
    const first = ballot.order === "ba" ? 1 : 0;
    const place = ballot.verdict === "first" ? first : 1 - first;
    return `prefers ${row.answers[place][0]}`;
  };

  const fill = (details, row) => {
    const pair = row.answers.length > 1;
    const prompt = make("section", "prompt");
    row.images.forEach((place, n) => {
      const title = row.images.length > 1 ? `picture ${n + 1} of the prompt` : "picture of the prompt";
      if (!pictures[place]) {
        prompt.append(make("p", "by", `${title}: it cannot be shown`));
        return;
      }
      const image = make("img");
      image.alt = title;
      image.src = pictures[place]; // a JPEG made by the report itself; the policy allows data URLs for pictures only
      prompt.append(image);
    });
    for (const [role, text] of prompts[row.prompt]) prompt.append(block(role || "prompt", text, "turn"));
    const answers = make("div", "answers");
    row.answers.forEach(([policy, text], place) => {
      const letter = pair ? ["a: ", "b: "][place] : "";
      answers.append(block(letter + policy, text, "answer"));
    });
    const ballots = make("div", "ballots");
    for (const ballot of row.ballots) {
      const title = shownFirst(row, ballot.order) + verdictOf(row, ballot) + chance(pair ? "first" : "yes", ballot.p);
      const part = block(title, ballot.raw, "ballot");
      if (ballot.model) part.append(make("p", "by", ballot.model));
      ballots.append(part);
    }
    details.append(prompt, answers);
    if (row.reason) details.append(block("why it is unjudged", row.reason));
    details.append(ballots);
    if (row.people.length) {
      const people = make("ul", "people");
      for (const [annotator, label, note, simulated] of row.people) {
        const item = make("li", "", `${annotator} says ${label}${note ? `: ${note}` : ""}`);
        if (simulated) add(item, " ", make("span", "tag", "simulated"));
        people.append(item);
      }
      details.append(people);
    }
    const foot = make("p", "by", `judgement ${row.id}, item ${row.item}, ${row.dataset}, ${row.run}${chance(pair ? "a" : "yes", row.p)}`);
    if (row.simulated) add(foot, " ", make("span", "tag", "simulated judge"));
    details.append(foot);
  };

  const entry = (row) => {
    const details = make("details", "judgement");
    const summary = make("summary");
    const names = make("span", "names", `${row.pair} · ${row.judge}`);
    const badge = make("span", `badge is-${row.outcome}`, row.outcome);
    add(summary, badge, " ", names);
    if (row.label) add(summary, " ", make("span", "said", `people: ${row.label}`));
    const turns = prompts[row.prompt];
    const last = turns.length ? turns[turns.length - 1][1] : "";
    add(summary, make("span", "teaser", last.slice(0, 140)));
    details.append(summary);
    const once = () => {
      if (details.children.length === 1) fill(details, row);
    };
    summary.addEventListener("click", once); // before it opens, so that the next Tab finds what is inside
    details.addEventListener("toggle", once);
    return add(make("li"), details);
  };

  const show = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    byId("list").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(entry));
    byId("list").start = page * PAGE + 1;
    byId("found").textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} match`;
    byId("place").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    byId("pages").hidden = pages === 1;
  };

  const search = make("input");
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    found = rows.filter(
      (row) =>
        facets.every(([name, , values]) => {
          const select = selects.get(name);
          return select.value === "" || values(row).includes(select.value.slice(1));
        }) && (wanted === "" || haystack(row).includes(wanted)),
    );
    page = 0;
    show();
  };

  const control = (title, node) => add(make("label"), make("span", "", title), node);
  const filters = byId("filters");
  for (const [name, title, values] of facets) {
    const counts = new Map();
    for (const row of rows) for (const value of values(row)) counts.set(value, (counts.get(value) || 0) + 1);
    const select = make("select");
    select.id = `filter-${name}`;
    const every = make("option", "", "any");
    every.value = "";
    select.append(every);
    for (const [value, n] of [...counts].sort((a, b) => b[1] - a[1])) {
      const option = make("option", "", `${value} (${n.toLocaleString("en")})`);
      option.value = `=${value}`; // an empty name stays apart from "any"
      select.append(option);
    }
    selects.set(name, select);
    select.addEventListener("change", filter);
    const label = control(title, select);
    label.hidden = counts.size < 2;
    filters.append(label);
  }
  search.type = "search";
  search.id = "filter-search";
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 150);
  });
  filters.append(control("Search", search));
  const reset = make("button", "", "Clear");
  reset.type = "button";
  reset.addEventListener("click", () => {
    for (const select of selects.values()) select.value = "";
    search.value = "";
    filter();
  });
  filters.append(reset);
  filters.hidden = false;

  const turn = (step) => {
    page += step;
    show();
    byId("found").scrollIntoView({ block: "nearest" });
  };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));

  // A count in a comparison shows its judgements.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-outcome]");
    if (!link) return;
    for (const [name, select] of selects) {
      const value = link.dataset[name];
      select.value = value === undefined ? "" : `=${value}`;
      if (select.selectedIndex < 0) select.value = "";
    }
    search.value = "";
    filter();
  });
  show();
})();
