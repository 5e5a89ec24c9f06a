// Shows one of several figures at a time. Without JavaScript all of them are shown, one below another.
for (const group of document.querySelectorAll("[data-choose]")) {
  const figures = [...group.querySelectorAll(":scope > [data-title]")];
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.append(group.dataset.choose + " ", select);
  for (const figure of figures) {
    select.add(new Option(figure.dataset.title, "", false, "selected" in figure.dataset));
  }
  const show = () => figures.forEach((figure, i) => (figure.hidden = i !== select.selectedIndex));
  select.addEventListener("change", show);
  group.prepend(label);
  show();
}

// Photos of one pair of labels. The links of a matrix and of the table of pairs choose the pair.
const filters = [...document.querySelectorAll("[data-filter]")].map((group) => {
  const figures = [...group.children];
  const counts = new Map();
  for (const figure of figures) counts.set(figure.dataset.pair, (counts.get(figure.dataset.pair) ?? 0) + 1);
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.append(group.dataset.filter + " ", select);
  select.add(new Option(`all ${figures.length}`, ""));
  for (const [pair, count] of [...counts].sort((a, b) => b[1] - a[1])) {
    const names = figures.find((figure) => figure.dataset.pair === pair).querySelectorAll("bdi");
    select.add(new Option(`${names[0].textContent} → ${names[1].textContent} (${count})`, pair));
  }
  const show = (pair) => {
    select.value = counts.has(pair) ? pair : "";
    for (const figure of figures) figure.hidden = select.value !== "" && figure.dataset.pair !== select.value;
  };
  select.addEventListener("change", () => show(select.value));
  if (counts.size > 1) group.before(label);
  return { group, counts, show };
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const address = link?.getAttribute("href") ?? link?.getAttribute("xlink:href") ?? "";
  const pair = address.match(/pair-(\d+-\d+)$/)?.[1];
  if (!pair) return;
  event.preventDefault();
  filters.forEach((filter) => filter.show(pair));
  filters.find((filter) => filter.counts.has(pair))?.group.closest("section").scrollIntoView();
});

// A click on a heading sorts a table: numbers from the largest on, then the other way round.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    const isNumber = heading.classList.contains("n");
    button.addEventListener("click", () => {
      const falling = heading.ariaSort ? heading.ariaSort === "ascending" : isNumber;
      const key = (row) => {
        const text = row.cells[column].textContent.trim();
        const number = parseFloat(text.replaceAll(",", ""));
        return isNumber ? (Number.isNaN(number) ? -Infinity : number) : text;
      };
      const compare = (a, b) => (isNumber ? key(a) - key(b) || 0 : key(a).localeCompare(key(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (falling ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows);
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.ariaSort = falling ? "descending" : "ascending";
    });
  });
}
