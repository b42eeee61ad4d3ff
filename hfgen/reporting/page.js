"use strict";
/* Tables: a click on a head sorts the rows; in a table with a column a model, a click on a row's button sorts the models. */
const number = cell => Number(cell.dataset.value ?? cell.textContent.trim().split(" ")[0].replaceAll(",", ""));
const compare = (a, b, sign) => {
  const [x, y] = [number(a), number(b)];
  if (Number.isNaN(x) && Number.isNaN(y)) return sign * a.textContent.trim().localeCompare(b.textContent.trim());
  return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : sign * (x - y);
};
function sorter(label, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sort";
  button.textContent = "⇅";
  button.ariaLabel = label;
  let sign = 1;
  button.onclick = () => { act(sign); sign = -sign; };
  return button;
}
for (const head of document.querySelectorAll("table.sortable thead th")) {
  head.append(sorter(`Sort by ${head.textContent.trim()}`, sign => {
    const body = head.closest("table").tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(a.cells[head.cellIndex], b.cells[head.cellIndex], sign));
    body.append(...rows);
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.ariaSort = sign > 0 ? "ascending" : "descending";
  }));
}
for (const table of document.querySelectorAll("table.columns")) {
  const count = table.rows[0].cells.length, fixed = Number(table.dataset.fixed);
  if (count - fixed < 2) continue;
  for (const row of table.querySelectorAll("tbody tr:not(.group)")) {
    const name = row.cells[0].querySelector("summary")?.textContent ?? row.cells[0].firstChild.textContent.trim();
    row.cells[0].append(sorter(`Sort the models by ${name}`, sign => {
      const places = [...row.cells].slice(fixed).sort((a, b) => compare(a, b, sign)).map(cell => cell.cellIndex);
      for (const each of table.rows) if (each.cells.length === count) each.append(...places.map(place => each.cells[place]).map(cell => cell));
    }));
  }
}
/* A lens: the same place in all rows of a block of pictures, enlarged pixel by pixel. */
const lens = document.createElement("div");
lens.className = "lens";
lens.hidden = true;
document.body.append(lens);
const side = 112, zoom = 3;
function look(event) {
  const image = event.target.closest?.(".block .strip");
  lens.hidden = !image;
  if (!image) return;
  const box = image.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const block = image.closest(".block");
  if (lens.block !== block) {
    lens.block = block;
    lens.replaceChildren(...[...block.querySelectorAll(".strip")].map(strip => {
      const pane = document.createElement("figure"), glass = document.createElement("div"), words = document.createElement("figcaption");
      glass.style.backgroundImage = `url(${strip.src})`;
      words.textContent = strip.previousElementSibling.textContent;
      pane.append(glass, words);
      return pane;
    }));
  }
  for (const glass of lens.querySelectorAll("div")) {
    glass.style.backgroundSize = `${box.width * zoom}px ${box.height * zoom}px`;
    glass.style.backgroundPosition = `${side / 2 - x * box.width * zoom}px ${side / 2 - y * box.height * zoom}px`;
  }
  const left = event.clientX + 24, top = event.clientY + 24;
  lens.style.left = `${Math.max(8, left + lens.offsetWidth > innerWidth ? event.clientX - 24 - lens.offsetWidth : left)}px`;
  lens.style.top = `${Math.max(8, top + lens.offsetHeight > innerHeight ? event.clientY - 24 - lens.offsetHeight : top)}px`;
}
document.addEventListener("pointermove", look);
document.addEventListener("pointerdown", look);
document.addEventListener("scroll", () => { lens.hidden = true; }, { passive: true });
