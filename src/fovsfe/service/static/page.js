// The form without a reload: photos are dropped, pasted, taken or chosen, and sent to the API one after another.
// What is seen comes from the page's templates, in its language; texts from outside are only ever set as text.
"use strict";

document.documentElement.classList.add("js");

const language = document.documentElement.lang;
const form = document.getElementById("form");
const chooser = document.getElementById("photo");
const cards = document.getElementById("cards");
const results = document.getElementById("results");
const statusLine = document.getElementById("status");
const samples = document.getElementById("samples");

const inPercent = new Intl.NumberFormat(language, {
  style: "percent",
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});

let queue = Promise.resolve(); // one photo at a time: a visitor with fifty leaves room for the others

function copyOf(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

function percent(fraction) {
  if (fraction < 0.0005) return `< ${inPercent.format(0.001)}`;
  if (fraction >= 0.9995) return `> ${inPercent.format(0.999)}`;
  return inPercent.format(fraction);
}

function show(card, file, photo) {
  card.querySelector(".caption").textContent = file.name;
  const image = card.querySelector(".photo");
  if (!image) return;
  // Not every browser shows HEIC or TIFF; its alternative text then stands in the frame.
  image.addEventListener("error", () => image.parentElement.classList.add("undisplayable"));
  image.src = photo;
}

/** How often answers about as confident as this one were right; empty if the bundle does not say. */
function record(confidence) {
  const { bins, record: words } = document.getElementById("known").dataset;
  const all = JSON.parse(bins);
  const like = all.filter(({ low }) => low <= confidence).pop() ?? all[0];
  return like ? words.replace("{right}", like.right).replace("{photos}", like.photos) : "";
}

/** The few labels that a photo may show, in words; empty of one label, or of too many. */
function oneOf(set, names) {
  const words = document.getElementById("known").dataset;
  if (!set || set.length < 2 || set.length > Number(words.mostNamed)) return "";
  const called = set.map((label) => names.get(label) ?? label);
  const last = called.pop();
  const listed = fill(words.or, { first: called.join(", "), last });
  return fill(set.length === 2 ? words.oneOfTwo : words.oneOf, { labels: listed });
}

/** Sets texts from outside into words of the page, whatever "$" or braces they contain. */
function fill(words, values) {
  return words.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

function resultCard({ known, name, top, set, heatmap }) {
  const card = copyOf(known ? "known" : "unknown");
  if (known) {
    card.querySelector("h3").textContent = name;
    card.querySelector(".record").textContent = record(top[0].probability);
    const possible = card.querySelector(".one-of");
    possible.textContent = oneOf(set, new Map(top.map(({ label, name: called }) => [label, called])));
    possible.hidden = !possible.textContent;
  }
  // One label more than can have a row was asked for, so that it is known how unlikely the rest is.
  const words = document.getElementById("known").dataset;
  const shown = top.slice(0, words.top).filter(({ probability }, i) => i === 0 || probability >= words.least);
  const list = card.querySelector(".top");
  const line = list.firstElementChild;
  list.replaceChildren(
    ...shown.map((label) => {
      const item = line.cloneNode(true);
      item.querySelector(".name").textContent = label.name;
      item.querySelector(".percent").textContent = percent(label.probability);
      item.querySelector(".percent").value = label.probability;
      item.querySelector("rect").setAttribute("width", `${100 * label.probability}%`);
      return item;
    }),
  );
  const count = words.labels - shown.length;
  const rest = card.querySelector(".rest");
  rest.hidden = count === 0;
  if (count) {
    const most = Math.max(top[shown.length].probability, words.least);
    rest.textContent = fill(words.rest, { count, percent: percent(most) });
  }
  if (heatmap) card.querySelector(".heatmap").src = heatmap;
  else card.querySelectorAll(".heatmap, .heat").forEach((part) => part.remove());
  compare(card.querySelector(".compared"), top);
  return card;
}

/** Shows the known photos of the answer and of the runner-up, which the list of labels has, beside the result. */
function compare(compared, top) {
  if (!compared) return;
  const figure = compared.querySelector("figure");
  const figures = top.slice(0, 2).flatMap(({ label, name }) => {
    const item = [...document.querySelectorAll(".labels [data-label]")].find((one) => one.dataset.label === label);
    const photos = item?.querySelectorAll(".example") ?? [];
    if (photos.length === 0) return [];
    const filled = figure.cloneNode(true);
    filled.querySelector("figcaption").textContent = name;
    filled.querySelector(".examples").append(...[...photos].map((photo) => photo.cloneNode(true)));
    return [filled];
  });
  figure.remove();
  compared.append(...figures);
  if (figures.length === 0) compared.remove();
}

function problemCard(slug, status) {
  const problem =
    document.getElementById(`problem-${slug}`) ??
    document.querySelector(`[data-status="${status}"]`) ?? // a proxy's, in words of its own
    document.getElementById("problem-internal");
  return problem.content.firstElementChild.cloneNode(true);
}

/** Sends one photo; resolves to the card of its result or problem, and never rejects. */
function predict(file, progress) {
  return new Promise((resolve) => {
    if (file.size > Number(form.dataset.maxBytes)) {
      resolve(problemCard("too-large"));
      return;
    }
    const request = new XMLHttpRequest(); // fetch does not tell how much of a body is sent
    request.open("POST", form.dataset.api);
    request.responseType = "json";
    request.setRequestHeader("Accept-Language", language);
    request.setRequestHeader("Content-Type", "application/octet-stream"); // the server looks at the bytes
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      if (loaded < total) progress.value = loaded / total;
      else progress.removeAttribute("value");
    });
    request.addEventListener("load", () => {
      const result = request.response;
      if (request.status === 200 && result) resolve(resultCard(result.photos[0]));
      else resolve(problemCard(result?.type?.split("/").pop(), request.status));
    });
    request.addEventListener("error", () => resolve(problemCard("unreachable")));
    request.send(file);
  });
}

async function showResult(file, photo, waiting) {
  waiting.querySelector("progress").value = 0;
  statusLine.textContent = statusLine.dataset.recognising;
  const card = await predict(file, waiting.querySelector("progress"));
  show(card, file, photo);
  card.querySelector(".again")?.addEventListener("click", () => {
    const next = copyOf("waiting");
    show(next, file, photo);
    card.replaceWith(next);
    queue = queue.then(() => showResult(file, photo, next));
  });
  waiting.replaceWith(card);
  const first = card.querySelector(".top .percent")?.textContent ?? "";
  statusLine.textContent = `${card.querySelector("h3").textContent} ${first}`;
  // Whoever has gone on to something else is not called back.
  const idle = [document.body, chooser, document.getElementById("camera")];
  if (idle.includes(document.activeElement)) card.querySelector("h3").focus();
}

function send(files) {
  const photos = [...files].map((file) => {
    const url = URL.createObjectURL(file);
    const waiting = copyOf("waiting");
    show(waiting, file, url);
    return { file, url, waiting };
  });
  if (photos.length === 0) return;
  samples?.remove();
  cards.prepend(...photos.map(({ waiting }) => waiting));
  results.hidden = false;
  results.scrollIntoView();
  for (const { file, url, waiting } of photos) queue = queue.then(() => showResult(file, url, waiting));
}

samples?.removeAttribute("hidden");
samples?.addEventListener("click", async ({ target }) => {
  const image = target.closest("button")?.querySelector("img");
  if (!image) return;
  try {
    const photo = await (await fetch(image.src)).blob();
    send([new File([photo], "")]); // a photo of ours has no name that says anything
  } catch {
    image.closest("li").remove(); // it cannot be had now
  }
});

document.addEventListener("input", ({ target }) => {
  if (!target.matches(".opacity input")) return;
  const { style } = target.closest(".picture").querySelector(".heatmap");
  style.opacity = target.value;
  style.visibility = Number(target.value) ? "visible" : "hidden";
});

chooser.addEventListener("change", () => {
  send(chooser.files);
  chooser.value = ""; // so that the same photo can be chosen again
});

form.noValidate = true;
form.addEventListener("submit", (event) => {
  event.preventDefault(); // there is nothing to send: Enter on the chooser means to choose
  chooser.click();
});

document.getElementById("camera").addEventListener("click", () => {
  chooser.setAttribute("capture", "environment");
  chooser.click();
  chooser.removeAttribute("capture");
});

document.addEventListener("paste", (event) => send(event.clipboardData.files));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  form.classList.toggle("dragover", event.dataTransfer.types.includes("Files"));
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) form.classList.remove("dragover");
});
document.addEventListener("drop", (event) => {
  event.preventDefault(); // or the browser would leave for the photo
  form.classList.remove("dragover");
  send(event.dataTransfer.files);
});
