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
