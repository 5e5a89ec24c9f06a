// The page of a review. A press is sent, and only when it is on disk the next photo is shown.

const LISTED = 50; // labels that a search shows at once
const POLL = 700; // milliseconds between two looks at heads that are being fitted

const find = (id) => document.getElementById(id);
const presses = JSON.parse(sessionStorage.getItem("presses") ?? "[]"); // of this tab, to take back
const preloaded = new Map(); // URL -> picture, of photos that come next
let labels = [];
let queue = "all";
let card = null;
let isBusy = true;

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("fovsfe review has ended. Start it again: nothing is lost.");
  }
  const answer = await response.json().catch(() => ({ detail: "This page is not open any more: start fovsfe review again." }));
  if (!response.ok) {
    const error = new Error(answer.detail);
    error.isStale = response.status === 409;
    throw error;
  }
  return answer;
}

async function during(work) {
  if (isBusy) return;
  isBusy = true;
  document.body.classList.add("is-busy");
  say("");
  try {
    await work();
  } catch (error) {
    if (error.isStale) show(await ask(`/api/cards?queue=${queue}`));
    say(error.message);
  } finally {
    isBusy = false;
    document.body.classList.remove("is-busy");
  }
}

function say(text) {
  find("message").textContent = text;
  find("message").hidden = !text;
}

const large = (row) => `/photo/${row}/large`;
const small = (row) => `/photo/${row}/small`;

function press(action, label = "") {
  return during(async () => {
    const { row, version, queue: of } = card;
    const answer = await ask("/api/press", { row, version, action, label, of, queue });
    remember([...presses, { row, version: answer.version }]);
    show(answer);
  });
}

function choose(label) {
  return label === card.given ? press("keep") : press("relabel", label);
}

function undo() {
  if (!presses.length) return;
  during(async () => {
    const last = presses.at(-1);
    remember(presses.slice(0, -1)); // whatever comes of it: it cannot be taken back twice
    show(await ask("/api/undo", { ...last, queue }));
  });
}

function remember(list) {
  presses.splice(0, presses.length, ...list.slice(-1000));
  sessionStorage.setItem("presses", JSON.stringify(presses));
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function show({ cards, state }) {
  [card = null] = cards;
  find("card").hidden = !card;
  find("card").dataset.row = card?.row ?? "";
  find("card").dataset.id = card?.id ?? "";
  find("search").hidden = true;
  find("beside").replaceChildren(...(card?.beside ?? []).map(besideColumn));
  if (card) {
    find("photo").src = large(card.row);
    find("name").textContent = card.id;
    find("given").textContent = card.given ?? "A test photo";
    find("why").textContent = card.why;
    find("choices").replaceChildren(
      ...card.choices.map(({ label, percent }, index) =>
        element(
          "button",
          { type: "button", className: label === card.given ? "is-given" : "", onclick: () => choose(label) },
          element("kbd", { textContent: index + 1 }),
          element("span", { textContent: label === card.given ? `${label} (keep)` : label }),
          element("span", { className: "percent", textContent: percent }),
        ),
      ),
    );
  }
  find("undo").disabled = !presses.length;
  // A button that was clicked must not be pressed again by Enter, which keeps the next photo's label.
  if (document.activeElement !== find("queue")) find("given").focus({ preventScroll: true });
  preload(cards.slice(1));
  showState(state);
}

function besideColumn({ title, key, photos }) {
  const heading = element("h3", {}, ...(key ? [element("kbd", { textContent: key }), " "] : []), title);
  const figures = photos.map(({ row, label }) =>
    element(
      "figure",
      {},
      element("img", { src: small(row), alt: label }),
      ...(key ? [] : [element("figcaption", { textContent: label })]),
    ),
  );
  return element("div", {}, heading, element("div", { className: "row" }, ...figures));
}

function preload(cards) {
  const urls = cards.flatMap((next) => [
    large(next.row),
    ...next.beside.flatMap(({ photos }) => photos.map(({ row }) => small(row))),
  ]);
  for (const url of preloaded.keys()) if (!urls.includes(url)) preloaded.delete(url);
  for (const url of urls) if (!preloaded.has(url)) preloaded.set(url, element("img", { src: url }));
}

function showState(state) {
  const changed = state.relabelled + state.removed;
  find("count").textContent = `${state.reviewed} looked at, ${changed} changed`;
  find("advice").textContent = state.advice;
  find("train").disabled = state.training;
  find("train").lastChild.textContent = state.training ? " Training heads" : " Train heads again";
  find("gain").hidden = !state.gain;
  if (state.gain) {
    const { fixes, photos, corrected, given } = state.gain;
    find("headline").textContent =
      `What ${fixes} ${fixes === 1 ? "fix has" : "fixes have"} brought: heads that learned the new labels against heads that did not, on ${photos} photos that neither has seen.`;
    for (const [id, view] of [["corrected", corrected], ["as-given", given]]) {
      const cells = [view.before, view.after, view.difference, view.interval, view.p];
      find(id).querySelectorAll("td").forEach((cell, index) => (cell.textContent = cells[index]));
    }
  }
  if (state.training) setTimeout(poll, POLL);
}

async function poll() {
  try {
    if (!isBusy) showState((await ask(`/api/cards?queue=${queue}`)).state);
    else setTimeout(poll, POLL);
  } catch (error) {
    say(error.message);
  }
}

function openSearch() {
  find("search").hidden = false;
  find("label").value = "";
  showFound();
  find("label").focus();
}

function closeSearch() {
  find("search").hidden = true;
  find("given").focus();
}

function matches() {
  const words = find("label").value.toLowerCase().split(/\s+/);
  return labels.filter((label) => words.every((word) => label.toLowerCase().includes(word)));
}

function showFound() {
  find("found").replaceChildren(
    ...matches()
      .slice(0, LISTED)
      .map((label) =>
        element("li", {}, element("button", { type: "button", textContent: label, onclick: () => choose(label) })),
      ),
  );
}

const skip = () => during(async () => show(await ask("/api/skip", { row: card.row, queue })));
const train = () => during(async () => showState((await ask("/api/train", { queue })).state));
const KEYS = {
  k: () => card.given && press("keep"),
  enter: () => card.given && press("keep"),
  x: () => press("remove"),
  delete: () => press("remove"),
  s: skip,
  l: openSearch,
  "/": openSearch,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (event.target === find("label")) {
    const [first] = matches();
    if (key === "escape") closeSearch();
    else if (key === "enter" && first) choose(first);
    return;
  }
  if (event.target instanceof HTMLSelectElement) return;
  if (key === "enter" && event.target instanceof HTMLButtonElement) return; // it is pressed
  let act = null;
  if (key === "u" || key === "z") act = undo;
  else if (key === "t") act = train;
  else if (card) act = /^[1-9]$/.test(key) ? card.choices[key - 1] && (() => choose(card.choices[key - 1].label)) : KEYS[key];
  if (!act) return;
  event.preventDefault();
  act();
});

find("list").onclick = openSearch;
find("label").oninput = showFound;
find("remove").onclick = () => press("remove");
find("skip").onclick = skip;
find("undo").onclick = undo;
find("train").onclick = train;
find("queue").onchange = () =>
  during(async () => {
    queue = find("queue").value;
    show(await ask(`/api/cards?queue=${queue}`));
    find("given").focus();
  });

try {
  const start = await ask("/api/start");
  history.replaceState(null, "", "/"); // the token is of no use any more
  labels = start.labels;
  find("queue").replaceChildren(
    ...start.queues.map(({ name, title }) => element("option", { value: name, textContent: title })),
  );
  find("file").textContent = `Fixes are in ${start.file}; the photos stay as they are.`;
  show(await ask("/api/cards?queue=all"));
} catch (error) {
  say(error.message);
}
isBusy = false;
