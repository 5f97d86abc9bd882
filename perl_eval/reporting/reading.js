// How a judgement is shown, and the list of judgements with its filters.
report.rows = ({ prompts, pictures }) => {
  const { make, add } = report;

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

  const prompt = (row) => {
    const part = make("section", "prompt");
    row.images.forEach((place, n) => {
      const title = row.images.length > 1 ? `picture ${n + 1} of the prompt` : "picture of the prompt";
      if (!pictures[place]) {
        part.append(make("p", "by", `${title}: it cannot be shown`));
        return;
      }
      const image = make("img");
      image.alt = title;
      image.src = pictures[place]; // a JPEG made by the report itself; the policy allows data URLs for pictures only
      part.append(image);
    });
    for (const [role, text] of prompts[row.prompt]) part.append(block(role || "prompt", text, "turn"));
    return part;
  };

  const answers = (row) => {
    const part = make("div", "answers");
    row.answers.forEach(([policy, text], place) => {
      const letter = row.answers.length > 1 ? ["a: ", "b: "][place] : "";
      part.append(block(letter + policy, text, "answer"));
    });
    return part;
  };

  const thought = (text) => {
    const folded = make("details", "thought");
    return add(folded, make("summary", "", "thoughts"), block("thoughts", text, "ballot"));
  };

  const ballots = (row) => {
    const part = make("div", "ballots");
    for (const ballot of row.ballots) {
      const of = row.answers.length > 1 ? "first" : "yes";
      const title = shownFirst(row, ballot.order) + verdictOf(row, ballot) + chance(of, ballot.p);
      const one = block(title, ballot.raw, "ballot");
      if (ballot.thought) one.append(thought(ballot.thought));
      if (ballot.model) one.append(make("p", "by", ballot.model));
      part.append(one);
    }
    return part;
  };

  const people = (row) => {
    const part = make("ul", "people");
    for (const [annotator, label, note, simulated] of row.people) {
      const item = make("li", "", `${annotator} says ${label}${note ? `: ${note}` : ""}`);
      if (simulated) add(item, " ", make("span", "tag", "simulated"));
      part.append(item);
    }
    return part;
  };

  const foot = (row, hash) => {
    const of = row.answers.length > 1 ? "a" : "yes";
    const words = `judgement ${row.id}, item ${row.item}, ${row.dataset}, ${row.run}${chance(of, row.p)} `;
    const part = make("p", "by", words);
    if (row.simulated) add(part, make("span", "tag", "simulated judge"), " ");
    const link = make("a", "", "link to this");
    link.href = `#${hash}`;
    link.setAttribute("aria-label", `link to judgement ${row.id}`);
    return add(part, link);
  };

  const teaser = (row) => {
    const turns = prompts[row.prompt];
    const last = turns.length ? turns[turns.length - 1][1] : "";
    return make("span", "teaser", last.slice(0, 140));
  };

  const badge = (kind, text) => make("span", `badge is-${kind}`, text);

  // Opened, a folded row is filled, once; before it opens, so that the next Tab finds what is inside.
  const lazily = (details, summary, fill) => {
    const once = () => {
      if (details.children.length === 1) fill(details);
    };
    summary.addEventListener("click", once);
    details.addEventListener("toggle", once);
    return once;
  };

  return { block, prompt, answers, ballots, people, foot, teaser, badge, lazily };
};

// A list that is shown a page at a time, and walked by keys.
report.pager = ({ list, found, place, previous, next, pages, size, entry, say }) => {
  const { byId } = report;
  let rows = [];
  let page = 0;
  let cursor = -1;
  const show = () => {
    const all = Math.max(1, Math.ceil(rows.length / size));
    page = Math.min(Math.max(page, 0), all - 1);
    list.replaceChildren(...rows.slice(page * size, (page + 1) * size).map(entry));
    list.start = page * size + 1;
    found.textContent = say(rows.length);
    place.textContent = `page ${page + 1} of ${all}`;
    previous.disabled = page === 0;
    next.disabled = page === all - 1;
    pages.hidden = all === 1;
  };
  const turn = (step) => {
    page += step;
    cursor = -1;
    show();
    found.scrollIntoView({ block: "nearest" });
  };
  const open = (at) => {
    if (at < 0 || at >= rows.length) return;
    if (Math.floor(at / size) !== page) {
      page = Math.floor(at / size);
      show();
    }
    for (const other of list.querySelectorAll(":scope > li > details[open]")) other.open = false;
    cursor = at;
    const details = list.children[at - page * size].querySelector("details");
    const summary = details.querySelector("summary");
    summary.click();
    summary.focus({ preventScroll: true });
    details.scrollIntoView({ block: "start" });
  };
  const here = () => {
    const item = document.activeElement.closest && document.activeElement.closest("li");
    return item && item.parentElement === list ? page * size + [...list.children].indexOf(item) : cursor;
  };
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  return {
    set: (given) => {
      rows = given;
      page = 0;
      cursor = -1;
      show();
    },
    open,
    keys: {
      j: () => open(here() < 0 ? page * size : here() + 1),
      k: () => open(here() - 1),
      n: () => next.disabled || turn(1),
      p: () => previous.disabled || turn(-1),
    },
  };
};

report.reading = (data) => {
  const { byId, make, add, control, button, option, count } = report;
  const { prompts } = data;
  const rows = data.rows.filter((row) => !row.extra);
  const parts = report.rows(data);
  const facets = [
    ["outcome", "Outcome", (row) => [row.outcome]],
    ["judge", "Judge", (row) => [row.judge]],
    ["pair", "Comparison", (row) => [row.pair]],
    ["label", "People say", (row) => [row.label || "nobody asked", ...(row.differs ? ["something else than the judge"] : [])]],
    ["dataset", "Data set", (row) => [row.dataset]],
    ["run", "Run", (row) => [row.run]],
  ];
  const selects = new Map();

  // Text searched in, built once a row when the first search is made.
  const haystacks = new Map();
  const haystack = (row) => {
    if (!haystacks.has(row)) {
      const texts = [row.id, row.item, row.reason || ""];
      for (const turn of prompts[row.prompt]) texts.push(turn[1]);
      for (const answer of row.answers) texts.push(answer[1]);
      for (const ballot of row.ballots) texts.push(ballot.raw, ballot.thought, ballot.reason || "");
      for (const person of row.people) texts.push(person[0], person[2]);
      haystacks.set(row, texts.join("\n").toLowerCase());
    }
    return haystacks.get(row);
  };

  const fill = (details, row) => {
    details.append(parts.prompt(row), parts.answers(row));
    if (row.reason) details.append(parts.block("why it is unjudged", row.reason));
    details.append(parts.ballots(row));
    if (row.people.length) details.append(parts.people(row));
    details.append(parts.foot(row, `j-${row.key}`));
  };

  const entry = (row) => {
    const details = make("details", "judgement");
    const summary = make("summary");
    add(summary, parts.badge(row.is, row.outcome), " ", make("span", "names", `${row.pair} · ${row.judge}`));
    if (row.label) add(summary, " ", make("span", "said", `people: ${row.label}`));
    summary.append(parts.teaser(row));
    details.append(summary);
    parts.lazily(details, summary, (node) => fill(node, row));
    return add(make("li"), details);
  };

  const pager = report.pager({
    list: byId("list"),
    found: byId("found"),
    place: byId("place"),
    previous: byId("previous"),
    next: byId("next"),
    pages: byId("pages"),
    size: 20,
    entry,
    say: (n) => `${count(n)} of ${count(rows.length)} match`,
  });

  const search = make("input");
  let found = rows;
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    found = rows.filter(
      (row) =>
        facets.every(([name, , values]) => {
          const select = selects.get(name);
          return select.value === "" || values(row).includes(select.value.slice(1));
        }) && (wanted === "" || haystack(row).includes(wanted)),
    );
    pager.set(found);
  };

  const filters = byId("filters");
  for (const [name, title, values] of facets) {
    const counts = new Map();
    for (const row of rows) for (const value of values(row)) counts.set(value, (counts.get(value) || 0) + 1);
    const select = add(make("select"), option("", "any"));
    select.id = `filter-${name}`;
    for (const [value, n] of [...counts].sort((a, b) => b[1] - a[1])) {
      select.append(option(`=${value}`, `${value} (${count(n)})`)); // an empty name stays apart from "any"
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
  const clear = () => {
    for (const select of selects.values()) select.value = "";
    search.value = "";
    filter();
  };
  filters.append(button("Clear", clear), report.keysSwitch("keys: j, k next and previous, n, p pages"));
  filters.hidden = false;

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

  report.walkers.push([byId("judgements"), pager.keys]);
  report.routes.push([
    "j-",
    (key) => {
      clear();
      const at = found.findIndex((row) => row.key === key);
      if (at >= 0) pager.open(at);
      else byId("found").textContent = "The judgement that the link names is not among those on this page.";
      if (at < 0) byId("judgements").scrollIntoView();
    },
  ]);
  filter();
};
