"use strict";
/* A lens: the same place in all rows of a block of pictures, enlarged pixel by pixel; by pointer, touch and keys. */
const lens = document.createElement("div");
lens.className = "lens";
lens.hidden = true;
document.body.append(lens);
const side = 112, zooms = [1, 32];
let zoom = 3, place = [0.5, 0.5];
function showLens(image) {
  const [x, y] = place, box = image.getBoundingClientRect(), block = image.closest(".block");
  lens.hidden = false;
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
  const [pointX, pointY] = [box.left + x * box.width, box.top + y * box.height];
  const left = pointX + 24, top = pointY + 24;
  lens.style.left = `${Math.max(8, left + lens.offsetWidth > innerWidth ? pointX - 24 - lens.offsetWidth : left)}px`;
  lens.style.top = `${Math.max(8, top + lens.offsetHeight > innerHeight ? pointY - 24 - lens.offsetHeight : top)}px`;
}
function hideLens() { lens.hidden = true; }
function look(event) {
  const image = event.target.closest?.(".block .strip");
  if (!image) return hideLens();
  const box = image.getBoundingClientRect();
  place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  showLens(image);
}
const within = (value, [low, high]) => Math.min(Math.max(value, low), high);
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOMS = { "+": 2, "=": 2, "-": 0.5 };
document.addEventListener("keydown", event => {
  const image = event.target.matches?.(".block") && event.target.querySelector(".strip");
  if (!image || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return hideLens();
  if (!(event.key in MOVES || event.key in ZOOMS)) return;
  event.preventDefault();
  const [x, y] = MOVES[event.key] ?? [0, 0], step = image.clientHeight / 16;
  place = [place[0] + (x * step) / image.clientWidth, place[1] + (y * step) / image.clientHeight].map(each => within(each, [0, 1]));
  zoom = within(zoom * (ZOOMS[event.key] ?? 1), zooms);
  showLens(image);
});
for (const block of document.querySelectorAll(".block")) {
  block.tabIndex = 0;
  block.role = "group";
  block.ariaLabel = `${block.querySelector(".strip").alt}. Arrows move a lens, plus and minus zoom it, Escape closes it.`;
}
document.addEventListener("pointermove", look);
document.addEventListener("pointerdown", look);
document.addEventListener("focusout", event => { if (event.target === lens.block) hideLens(); });
document.addEventListener("scroll", hideLens, { passive: true });
