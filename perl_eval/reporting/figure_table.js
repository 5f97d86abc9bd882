// The table of all figures: filtered, and as a file.
report.figureTable = () => {
  const { byId, make, add, control, button, count } = report;
  const table = byId("figure-table");
  if (!table) return;
  const bodies = [...table.tBodies].map((body) => {
    const [subject, ...rows] = body.rows;
    return [body, rows.map((row) => [row, `${subject.textContent} ${row.textContent}`.toLowerCase()])];
  });
  const all = bodies.reduce((sum, [, rows]) => sum + rows.length, 0);
  const search = make("input");
  search.type = "search";
  search.id = "figure-search";
  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [body, rows] of bodies) {
      let some = false;
      for (const [row, text] of rows) {
        row.hidden = !wanted.every((part) => text.includes(part));
        if (!row.hidden) {
          some = true;
          shown += 1;
        }
      }
      body.hidden = !some;
    }
    byId("figures-found").textContent = `${count(shown)} of ${count(all)} figures`;
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 100);
  });

  const exact = (cell) => [...cell.querySelectorAll("data")].map((node) => node.value);
  const bare = (row) => row.cells[0].firstChild.textContent.trim(); // without the mark of what is simulated
  // A cell that a spreadsheet would take for a formula begins with a quote.
  const quoted = (text) => `"${String(text).replace(/^(?=[=+@\t\r]|-(?![\d.]))/, "'").replaceAll('"', '""')}"`;
  const save = () => {
    const lines = [["about", "figure", "value", "low", "high", "n", "missing", "method", "run"]];
    for (const [body, rows] of bodies) {
      for (const [row] of rows) {
        if (row.hidden) continue;
        const of = (name) => row.querySelector(`[data-label="${name}"]`);
        const [low = "", high = ""] = of("interval") ? exact(of("interval")) : [];
        const rest = ["n", "missing", "method", "run"].map((name) => of(name).textContent.trim());
        const [value = ""] = exact(of("value"));
        lines.push([bare(body.rows[0]), bare(row), value, low, high, ...rest]);
      }
    }
    const content = lines.map((line) => line.map(quoted).join(",")).join("\r\n");
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([content + "\r\n"], { type: "text/csv" }));
    link.download = "figures.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  add(byId("figure-tools"), control("Find a figure", search), button("Download as CSV", save));
  byId("figure-tools").hidden = false;
  report.routes.push(["f-", (hash) => {
    const row = byId(`f-${hash}`);
    if (!row) return;
    if (row.hidden) {
      search.value = "";
      filter();
    }
    report.unfold(row);
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  }]);
  filter();
};

(async () => {
  report.figureTable();
  const data = await report.read();
  if (data) {
    report.reading(data);
    report.sides(data);
  }
  report.follow();
  document.documentElement.dataset.ready = "yes";
})();
