// The labelling page. The server says what to show; every text enters the page through textContent.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const LABELS = {
    pairwise: [["first", "1", "First"], ["tie", "T", "Tie"], ["second", "2", "Second"]],
    yes_no: [["yes", "1", "Yes"], ["no", "2", "No"]],
  };
  const OTHER_KEYS = new Map([["0", "t"], ["=", "t"], ["3", "t"], ["y", "1"]]);
  const KEPT = "perl-eval-token";
  const PAUSE_MS = 1500;
  let session = null;
  let task = null;
  let last = null;
  let busy = true;

  // The token stands behind the # of the link, which no server and no other site is sent; it moves to the tab's own store.
  const token = () => {
    const given = location.hash.slice(1);
    if (given && given !== "work") {
      sessionStorage.setItem(KEPT, given);
      history.replaceState(null, "", location.pathname);
    }
    return sessionStorage.getItem(KEPT) || "";
  };

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
  const say = (text) => {
    byId("status").textContent = text;
  };
  const complain = (text) => {
    byId("trouble").textContent = text;
    byId("trouble").hidden = text === "";
  };
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));

  // Ask until there is an answer: every call may be repeated, for saying a thing twice is saying it once.
  const ask = async (method, path, body) => {
    for (;;) {
      try {
        const answer = await fetch(path, {
          method,
          headers: { Authorization: `Bearer ${token()}`, "Content-Type": "application/json" },
          body: body === undefined ? undefined : JSON.stringify(body),
          cache: "no-store",
          credentials: "omit",
          redirect: "error",
        });
        if (answer.status !== 503 && answer.status !== 500) {
          complain("");
          return { status: answer.status, ...(await answer.json()) };
        }
      } catch (error) {
        if (!(error instanceof TypeError) && !(error instanceof SyntaxError)) throw error;
      }
      complain("The server does not answer. Trying again; your answer is not lost.");
      await wait(PAUSE_MS);
    }
  };

  const textBlock = (text) => {
    const block = make("div", text === "" ? "text empty" : "text", text === "" ? "(empty)" : text);
    block.dir = "auto";
    return block;
  };

  // A picture needs the token too, which an <img> cannot send: it is fetched, and shown from memory.
  const picture = (name) => {
    const image = make("img");
    image.alt = "Picture of the prompt";
    const fetched = fetch(`/api/pictures/${encodeURIComponent(name)}`, {
      headers: { Authorization: `Bearer ${token()}` },
      credentials: "omit",
    });
    fetched
      .then((answer) => (answer.ok ? answer.blob() : Promise.reject(new TypeError(String(answer.status)))))
      .then((blob) => {
        image.src = URL.createObjectURL(blob);
        image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
      })
      .catch(() => image.replaceWith(make("p", "empty", "(the picture could not be loaded; reload the page)")));
    return image;
  };

  const saidItem = (one) => {
    const names = Object.fromEntries(LABELS[session.kind].map(([choice, , name]) => [choice, name]));
    const item = add(make("li"), make("strong", "", names[one.choice]));
    if (one.note) item.append(": ", make("q", "", one.note));
    return item;
  };

  const showTask = () => {
    byId("prompt").replaceChildren(
      ...task.images.map(picture),
      ...task.prompt.map((turn) => add(make("div", "turn"), make("h2", "", turn.role), textBlock(turn.text))),
    );
    const pair = task.answers.length > 1;
    byId("answers").replaceChildren(
      ...task.answers.map((text, place) => {
        const part = make("article", pair ? ["answer is-first", "answer is-second"][place] : "answer");
        const heading = make("h2");
        if (pair) add(heading, make("span", "badge", String(place + 1)), ["First answer", "Second answer"][place]);
        else heading.textContent = "Answer";
        return add(part, heading, textBlock(text));
      }),
    );
    byId("said").hidden = task.said.length === 0;
    byId("said").replaceChildren(
      make("h2", "", "What people said"),
      add(make("ul"), ...task.said.map(saidItem)),
    );
    byId("note").value = task.note;
    for (const button of byId("choices").children) {
      button.setAttribute("aria-pressed", String(button.dataset.choice === task.choice));
    }
  };

  const showProgress = (progress) => {
    last = progress.last;
    const done = progress.mine + progress.skipped;
    byId("bar").max = Math.max(1, done + progress.left);
    byId("bar").value = done;
    const n = (value) => value.toLocaleString("en");
    const skipped = progress.skipped ? `, ${n(progress.skipped)} skipped` : "";
    byId("count").textContent = `${n(progress.mine)} labelled${skipped}, ${n(progress.left)} left for you · all: ${n(progress.given)} of ${n(progress.wanted)}`;
    byId("progress").hidden = false;
  };

  const settle = () => {
    byId("work").hidden = task === null;
    byId("bench").hidden = session === null || (task === null && last === null);
    for (const button of byId("choices").children) button.disabled = busy || task === null;
    byId("skip").disabled = busy || task === null;
    byId("undo").disabled = busy || last === null;
    byId("note").disabled = task === null;
    document.body.setAttribute("aria-busy", String(busy));
  };

  const show = (answer, words) => {
    task = answer.task;
    showProgress(answer.progress);
    if (task !== null) showTask();
    const end = answer.decided ? "It is decided: no more labels are needed. Thank you." : "There is nothing left for you to label. Thank you.";
    say(task === null ? `${words}${end}` : words);
    window.scrollTo(0, 0);
    byId("question").focus({ preventScroll: true });
  };

  // One thing at a time: what is pressed meanwhile is not heard.
  const alone = async (work) => {
    if (busy) return;
    busy = true;
    settle();
    try {
      await work();
    } finally {
      busy = false;
      settle();
    }
  };

  const refused = (answer) => {
    if (answer.status === 401) {
      session = null;
      task = null;
      complain("This page opens by your own link, as printed where the server was started.");
      return true;
    }
    return answer.status !== 200;
  };

  const next = async (words) => {
    const answer = await ask("POST", "/api/next");
    if (!refused(answer)) show(answer, words);
  };

  const give = (choice, name) =>
    alone(async () => {
      if (task === null) return;
      const answer = await ask("POST", "/api/label", { unit: task.unit, choice, note: byId("note").value });
      if (answer.status === 409) return next(`Not saved: ${answer.error}. `);
      if (refused(answer)) {
        if (answer.status !== 401) complain(`Not saved: ${answer.error}.`);
        return undefined;
      }
      return next(`Saved: ${name}. `);
    });

  const undo = () =>
    alone(async () => {
      if (last === null) return;
      const answer = await ask("POST", "/api/undo", { unit: last });
      if (answer.status === 409) return next(`Not undone: ${answer.error}. `);
      if (refused(answer)) {
        if (answer.status !== 401) complain(`Not undone: ${answer.error}.`);
        return undefined;
      }
      return show(answer, "Undone; answer again. ");
    });

  const buildChoices = () => {
    const buttons = LABELS[session.kind].map(([choice, key, name]) => {
      const button = make("button", `is-${choice}`, `${name} `);
      button.type = "button";
      button.dataset.choice = choice;
      button.dataset.key = key.toLowerCase();
      button.addEventListener("click", () => give(choice, name));
      return add(button, make("kbd", "", key));
    });
    byId("choices").replaceChildren(...buttons);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.target === byId("note")) {
      if (event.key === "Escape") byId("question").focus({ preventScroll: true });
      return;
    }
    const key = event.key.toLowerCase();
    if (key === "n" && task !== null) {
      byId("note").focus();
      event.preventDefault();
      return;
    }
    const meant = OTHER_KEYS.get(key) || key;
    const wanted = [...document.querySelectorAll("#bench button")].find((button) => button.dataset.key === meant);
    if (wanted && !byId("bench").hidden && !wanted.disabled) {
      event.preventDefault();
      wanted.click();
    }
  });
  byId("skip").addEventListener("click", () => give("skip", "skipped"));
  byId("undo").addEventListener("click", undo);

  const begin = async () => {
    const answer = await ask("GET", "/api/session");
    if (!refused(answer)) {
      session = answer;
      document.title = `Labelling: ${session.question}`;
      byId("question").textContent = session.question;
      byId("note").maxLength = session.note_limit;
      buildChoices();
      const rules = session.role === "adjudicator";
      await next(rules ? `You decide, as ${session.annotator}, where people disagree. ` : `You label as ${session.annotator}. `);
    } else if (answer.status !== 401) complain(answer.error);
    busy = false;
    settle();
  };
  window.addEventListener("hashchange", () => {
    if (location.hash.slice(1) && location.hash !== "#work") location.reload();
  });
  settle();
  begin();
})();
