"use strict";
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
