// Two runs, judges, prompts or dates side by side: what flipped first.
report.sides = (data) => {
  const { byId, make, add, control, option, count } = report;
  const section = byId("sides");
  if (!section || !data.compared) return;
  const { sides, runs, slices } = data.compared;
  const parts = report.rows(data);
  const letters = data.compared.letters; // of each its outcome, the word for it, its mirror, and whether it names a side
  const [OUTCOME, WORD, MIRROR, NAMES] = [0, 1, 2, 3];
  const rowsOf = sides.map(() => new Map());
  for (const row of data.rows) rowsOf[row.side].set(row.unit, row);
  const starts = [];
  runs.reduce((sum, n) => (starts.push(sum), sum + n), 0);

  const versus = (side) => (side.second ? `${side.first} against ${side.second}` : side.first);
  const named = (side) => `${side.judge} · ${versus(side)} · ${side.run} · ${side.prompt} · ${side.dated}`;
  const word = (side, code) => {
    const [outcome, said, , names] = letters[code];
    if (!names || !side.second) return said;
    return `prefers ${outcome === "win" ? side.first : side.second}`;
  };

  // What only one side has a place for is no pair. Of other answers to the same item the k-th meets the k-th.
  const paired = (left, right) => {
    const same = [];
    for (let at = 0; at < left.said.length; at++) if (left.said[at] !== "." && right.said[at] !== ".") same.push([at, at]);
    if (same.length) return { pairs: same, answers: "the same answers", mirrored: false };
    const pairs = [];
    runs.forEach((n, item) => {
      const places = [...Array(n).keys()].map((k) => starts[item] + k);
      const ours = places.filter((at) => left.said[at] !== ".");
      const theirs = places.filter((at) => right.said[at] !== ".");
      for (let k = 0; k < Math.min(ours.length, theirs.length); k++) pairs.push([ours[k], theirs[k]]);
    });
    const mirrored = left.second !== "" && (left.first === right.second || left.second === right.first);
    return { pairs, answers: "answers to the same prompts", mirrored };
  };
  const gravity = (one, other) => {
    if (one === other) return 0;
    const unjudged = [one, other].some((code) => letters[code][OUTCOME] === "unjudged");
    return unjudged ? 1 : 1 + letters[one][NAMES] + letters[other][NAMES];
  };

  const pickers = ["left", "right"].map((name) => {
    const select = make("select");
    select.id = `side-${name}`;
    sides.forEach((side, number) => select.append(option(String(number), named(side))));
    return select;
  });
  const slicer = add(make("select"), option("", "all"));
  slicer.id = "side-slice";
  slices.forEach(([name, names], which) =>
    names.forEach((part, number) => slicer.append(option(`${which}:${number}`, `${name}: ${part}`))),
  );
  const shift = add(make("select"), option("flips", "what flipped"), option("", "everything"));
  shift.id = "side-shift";
  let state = null;

  const pager = report.pager({
    list: byId("side-list"),
    found: byId("side-found"),
    place: byId("side-place"),
    previous: byId("side-previous"),
    next: byId("side-next"),
    pages: byId("side-pages"),
    size: 20,
    entry: (pair) => entry(pair),
    say: (n) => say(n),
  });

  const say = (n) => {
    const missing = state.chosen - n;
    const rest = missing ? `; the texts of ${count(missing)} more are not on this page; a report of these two runs alone has them` : "";
    return `${count(n)} to read${rest}`;
  };

  const hashOf = ([at, other]) =>
    `s-${state.left.key}-${state.right.key}-${rowsOf[state.sides[0]].get(at).key}-${rowsOf[state.sides[1]].get(other).key}`;

  const people = (side, label) => {
    const preferred = { win: side.first, loss: side.second }[label];
    return preferred ? `people prefer ${preferred}` : `people: ${label}`;
  };

  const entry = (pair) => {
    const [ours, theirs] = [rowsOf[state.sides[0]].get(pair[0]), rowsOf[state.sides[1]].get(pair[1])];
    const details = make("details", "judgement");
    const summary = make("summary");
    const codes = [state.left.said[pair[0]], state.right.said[pair[1]]];
    add(summary, parts.badge(letters[codes[0]][OUTCOME], word(state.left, codes[0])), " → ");
    add(summary, parts.badge(letters[codes[1]][OUTCOME], word(state.right, codes[1])), " ", make("span", "names", ours.item));
    if (ours.label) add(summary, " ", make("span", "said", people(state.left, ours.label)));
    summary.append(parts.teaser(ours));
    details.append(summary);
    parts.lazily(details, summary, (node) => {
      const columns = make("div", "columns");
      const same = pair[0] === pair[1];
      node.append(parts.prompt(ours));
      if (same) node.append(parts.answers(ours));
      for (const [side, row] of [[state.left, ours], [state.right, theirs]]) {
        const column = add(make("section", "column"), make("p", "names", named(side)));
        if (!same) column.append(parts.answers(row));
        if (row.reason) column.append(parts.block("why it is unjudged", row.reason));
        columns.append(add(column, parts.ballots(row)));
      }
      node.append(columns);
      if (ours.people.length) node.append(parts.people(ours));
      node.append(parts.foot(ours, hashOf(pair)));
    });
    return add(make("li"), details);
  };

  // A table whose cells say on a narrow screen what they are of; roles, for there it is no table to the browser.
  const table = (head, rows) => {
    const cell = (tag, role, className, content) => {
      const node = make(tag, className);
      node.setAttribute("role", role);
      node.append(content);
      return node;
    };
    const line = () => cell("tr", "row", "", "");
    const group = (tag) => cell(tag, "rowgroup", "", "");
    const top = add(line(), ...head.map((name, n) => cell("th", "columnheader", n ? "num" : "", name)));
    const body = group("tbody");
    for (const [name, ...cells] of rows) {
      const row = add(line(), cell("th", "rowheader", "", name));
      cells.forEach((content, n) => {
        const node = cell("td", "cell", content === "0" ? "num nothing" : "num", content);
        node.dataset.label = head[n + 1];
        row.append(node);
      });
      body.append(row);
    }
    return add(cell("table", "table", "", ""), add(group("thead"), top), body);
  };

  const changes = (left, right, pairs) => {
    const counts = new Map();
    for (const pair of pairs) {
      const key = left.said[pair[0]] + state.turn(right.said[pair[1]]);
      counts.set(key, (counts.get(key) || 0) + 1);
    }
    const used = Object.keys(letters).filter((code) => [...counts.keys()].some((key) => key.includes(code)));
    const cell = (key) => {
      const n = counts.get(key) || 0;
      if (!n) return "0";
      const link = report.button(count(n), () => {
        shift.value = key;
        if (shift.selectedIndex < 0) shift.append(option(key, "")), (shift.value = key);
        list();
        byId("side-found").scrollIntoView({ block: "nearest" });
      });
      link.className = key[0] === key[1] ? "cell same" : "cell";
      link.setAttribute("aria-label", `${count(n)}: ${word(left, key[0])} on the left, ${word(left, key[1])} on the right`);
      return link;
    };
    const rows = used.map((one) => [`left ${word(left, one)}`, ...used.map((other) => cell(one + other))]);
    while (shift.options.length > 2) shift.remove(2);
    for (const key of counts.keys()) shift.append(option(key, `${word(left, key[0])} → ${word(left, key[1])}`));
    return table(["", ...used.map((code) => `right ${word(left, code)}`)], rows);
  };

  const bySlice = (pairs) => {
    const rows = [];
    slices.forEach(([name, names, places]) => {
      const all = names.map(() => 0);
      const flips = names.map(() => 0);
      for (const pair of pairs) {
        all[places[pair[0]]] += 1;
        if (state.gravity(pair) > 1) flips[places[pair[0]]] += 1;
      }
      names.forEach((part, n) => {
        if (all[n]) rows.push([flips[n] / all[n], `${name}: ${part}`, count(all[n]), count(flips[n]), `${((100 * flips[n]) / all[n]).toFixed(1)} %`]);
      });
    });
    rows.sort((one, other) => other[0] - one[0]);
    return table(["slice", "both judged", "flipped", "share"], rows.map(([, ...cells]) => cells));
  };

  const list = () => {
    const [which, part] = slicer.value.split(":").map(Number);
    const inSlice = slicer.value === "" ? () => true : (pair) => slices[which][2][pair[0]] === part;
    const wanted = shift.value;
    const fits = (pair) => {
      if (wanted === "") return true;
      if (wanted === "flips") return state.gravity(pair) > 1;
      return state.left.said[pair[0]] + state.turn(state.right.said[pair[1]]) === wanted;
    };
    const chosen = state.pairs.filter((pair) => inSlice(pair) && fits(pair));
    chosen.sort((one, other) => state.gravity(other) - state.gravity(one) || one[0] - other[0]);
    state.chosen = chosen.length;
    const readable = chosen.filter((pair) => rowsOf[state.sides[0]].has(pair[0]) && rowsOf[state.sides[1]].has(pair[1]));
    state.readable = readable;
    pager.set(readable);
  };

  const compare = () => {
    const numbers = pickers.map((select) => Number(select.value));
    const [left, right] = numbers.map((number) => sides[number]);
    const { pairs, answers, mirrored } = paired(left, right);
    const turn = (code) => (mirrored ? letters[code][MIRROR] : code);
    const grave = (pair) => gravity(left.said[pair[0]], turn(right.said[pair[1]]));
    state = { left, right, sides: numbers, pairs, turn, gravity: grave, chosen: 0, readable: [] };
    const flipped = pairs.filter((pair) => grave(pair) > 1).length;
    const round = pairs.filter((pair) => grave(pair) === 3).length;
    const share = pairs.length ? ` (${((100 * flipped) / pairs.length).toFixed(1)} %)` : "";
    byId("side-sum").textContent = pairs.length
      ? `Of ${count(pairs.length)} units that both judged (${answers}), ${count(flipped)} flipped${share}: ${count(round)} to the other side, ${count(flipped - round)} between decided and undecided.`
      : "The two have nothing in common: no item is judged in both.";
    byId("side-changes").replaceChildren(changes(left, right, pairs));
    byId("side-slices").replaceChildren(slices.length ? bySlice(pairs) : make("p", "note", "There is one slice only."));
    shift.value = "flips";
    list();
  };

  // To begin with, the two that say most differently of the same answers.
  const best = [0, Math.min(1, sides.length - 1), -1];
  sides.slice(0, 8).forEach((left, one) =>
    sides.slice(0, 8).forEach((right, other) => {
      if (one >= other) return;
      const weights = [0.001, 0.001, 0.01, 1];
      let value = 0;
      for (let at = 0; at < left.said.length; at++) {
        if (left.said[at] !== "." && right.said[at] !== ".") value += weights[gravity(left.said[at], right.said[at])];
      }
      if (value > 0 && value > best[2]) best.splice(0, 3, one, other, value);
    }),
  );
  pickers[0].value = String(best[0]);
  pickers[1].value = String(best[1]);
  pickers.forEach((select) => select.addEventListener("change", compare));
  slicer.addEventListener("change", list);
  shift.addEventListener("change", list);
  const swap = report.button("Swap", () => {
    [pickers[0].value, pickers[1].value] = [pickers[1].value, pickers[0].value];
    compare();
  });
  add(byId("side-tools"), control("Left", pickers[0]), control("Right", pickers[1]), swap, control("Show", shift));
  add(byId("side-tools"), control("Slice", slicer), report.keysSwitch("keys: j, k next and previous, n, p pages"));
  byId("side-tools").hidden = false;
  report.walkers.push([section, pager.keys]);
  report.routes.push([
    "s-",
    (hash) => {
      const [left, right, ours, theirs] = hash.split("-");
      const numbers = [left, right].map((key) => sides.findIndex((side) => side.key === key));
      section.scrollIntoView();
      report.unfold(section);
      if (numbers.includes(-1)) {
        byId("side-found").textContent = "A run that the link names is not in this report.";
        return;
      }
      pickers.forEach((select, n) => (select.value = String(numbers[n])));
      slicer.value = "";
      compare();
      shift.value = "";
      list();
      const key = (n, at) => rowsOf[numbers[n]].get(at).key;
      const at = state.readable.findIndex((pair) => key(0, pair[0]) === ours && key(1, pair[1]) === theirs);
      if (at >= 0) pager.open(at);
      else byId("side-found").textContent = "The judgement that the link names is not among those on this page.";
    },
  ]);
  compare();
};
