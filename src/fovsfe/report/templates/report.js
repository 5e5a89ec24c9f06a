// Everything can be read without this script: it chooses, sorts, filters, pages and enlarges what is there.

// Shows one of several figures at a time.
for (const group of document.querySelectorAll("[data-choose]")) {
  const figures = [...group.querySelectorAll(":scope > [data-title]")];
  const select = labelled(group.dataset.choose, group.prepend.bind(group));
  for (const figure of figures) {
    select.add(new Option(figure.dataset.title, "", false, "selected" in figure.dataset));
  }
  const show = () => figures.forEach((figure, i) => (figure.hidden = i !== select.selectedIndex));
  select.addEventListener("change", show);
  show();
}

/** Makes a list to choose from, with a label, and puts it where it belongs. */
function labelled(text, put) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  label.append(`${text} `, select);
  put(label);
  return select;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(text);
  made.addEventListener("click", act);
  return made;
}

// Long lists have pages. What is turned to shows those of their children that are wanted, from the first page on.
const turnTo = new Map();
for (const list of document.querySelectorAll("[data-page]")) {
  const size = Number(list.dataset.page);
  const where = document.createElement("span");
  let first = 0;
  let wanted = () => true;
  const show = (from) => {
    const shown = [...list.children].filter(wanted);
    first = from;
    const end = Math.min(first + size, shown.length);
    for (const child of list.children) child.hidden = true;
    for (const child of shown.slice(first, end)) child.hidden = false;
    where.textContent = `${first + 1}–${end} of ${shown.length}`;
    before.disabled = first === 0;
    next.disabled = end === shown.length;
    pages.hidden = shown.length <= size;
  };
  const turn = (by) => {
    show(first + by);
    (list.closest("table") ?? list).scrollIntoView();
  };
  const before = button("← before", () => turn(-size));
  const next = button("next →", () => turn(size));
  const pages = document.createElement("p");
  pages.className = "pages";
  pages.append(before, where, next);
  (list.closest(".scroll") ?? list).after(pages);
  turnTo.set(list, (only = wanted) => {
    wanted = only;
    show(0);
  });
  show(0);
}

// Mistakes of one pair of labels, or those whose label looks wrong. The links of a matrix and of the table of pairs
// choose the pair. A click on a photo enlarges it; the arrow keys lead to the others that are chosen.
const mistakes = document.querySelector("[data-filter]");
if (mistakes?.children.length) {
  const figures = [...mistakes.children];
  let chosen = figures;
  const isSuspect = (figure) => "suspect" in figure.dataset;
  const pairs = new Map();
  for (const figure of figures) pairs.set(figure.dataset.pair, [...(pairs.get(figure.dataset.pair) ?? []), figure]);

  const select = labelled(mistakes.dataset.filter, mistakes.before.bind(mistakes));
  select.add(new Option(`all ${figures.length}`, "all"));
  if (figures.some(isSuspect)) {
    select.add(new Option(`${mistakes.dataset.suspects} (${figures.filter(isSuspect).length})`, "suspects"));
  }
  for (const [pair, of] of [...pairs].sort((a, b) => b[1].length - a[1].length)) {
    const [label, predicted] = of[0].querySelectorAll("bdi");
    select.add(new Option(`${label.textContent} → ${predicted.textContent} (${of.length})`, pair));
  }
  const choose = () => {
    chosen = pairs.get(select.value) ?? (select.value === "suspects" ? figures.filter(isSuspect) : figures);
    turnTo.get(mistakes)((figure) => chosen.includes(figure));
  };
  select.addEventListener("change", choose);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const address = link?.getAttribute("href") ?? link?.getAttribute("xlink:href") ?? "";
    const pair = address.match(/pair-(\d+-\d+)$/)?.[1];
    if (!pair) return;
    event.preventDefault();
    if (!pairs.has(pair)) return; // there was no room for its photos
    select.value = pair;
    choose();
    mistakes.closest("section").scrollIntoView();
    select.focus({ preventScroll: true });
  });

  const zoom = document.getElementById("zoom");
  let enlarged;
  const enlarge = (figure) => {
    enlarged = figure;
    const copy = figure.cloneNode(true);
    copy.hidden = false;
    zoom.firstElementChild.replaceChildren(copy);
    if (!zoom.open) zoom.showModal();
  };
  const step = (by) => enlarge(chosen[(chosen.indexOf(enlarged) + by + chosen.length) % chosen.length]);
  mistakes.addEventListener("click", ({ target }) => {
    if (target.closest(".photo")) enlarge(target.closest("figure"));
  });
  zoom.addEventListener("click", ({ target }) => {
    if (target.dataset.step) step(Number(target.dataset.step));
    else if (target === zoom || "close" in target.dataset || target.closest(".photo")) zoom.close();
  });
  zoom.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft") step(-1);
    if (key === "ArrowRight") step(1);
  });
}

// A click on a heading sorts a table: numbers from the largest on, then the other way round.
for (const table of document.querySelectorAll("table")) {
  const [body] = table.tBodies;
  if (!table.tHead || body.rows.length < 3) continue;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const isNumber = heading.classList.contains("n");
    const texts = [...heading.childNodes];
    const sort = button("", () => {
      const falling = heading.ariaSort ? heading.ariaSort === "ascending" : isNumber;
      const key = (row) => {
        const text = row.cells[column].textContent.trim();
        const number = parseFloat(text.replaceAll(",", ""));
        return isNumber ? (Number.isNaN(number) ? -Infinity : number) : text;
      };
      const compare = (a, b) => (isNumber ? key(a) - key(b) || 0 : key(a).localeCompare(key(b)));
      body.append(...[...body.rows].sort((a, b) => (falling ? compare(b, a) : compare(a, b))));
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.ariaSort = falling ? "descending" : "ascending";
      turnTo.get(body)?.();
    });
    sort.append(...texts);
    heading.append(sort);
  });
}
