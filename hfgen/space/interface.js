/* One lens over all pictures of a stage: zoom, place, edge and what is shown are variables of the page itself, so that
   all pictures follow at once, and new ones from the server as well. Nothing here asks the server for anything. */
(() => {
  "use strict";
  const MOST = 32;
  const root = document.documentElement;
  const view = { zoom: 1, x: 0, y: 0, edge: 0.5, mode: "picture" };
  const fingers = new Map();
  let dragged = null;
  let pinch = null;

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const stageOf = (target) => (target.closest ? target.closest("[data-hf-stage]") : null);
  const windowOf = (target) => (target.closest ? target.closest(".hf-window") : null);

  function show() {
    view.x = clamp(view.x, 1 - view.zoom, 0);
    view.y = clamp(view.y, 1 - view.zoom, 0);
    root.style.setProperty("--hf-zoom", view.zoom);
    root.style.setProperty("--hf-x", `${100 * view.x}%`);
    root.style.setProperty("--hf-y", `${100 * view.y}%`);
    root.style.setProperty("--hf-edge", `${100 * view.edge}%`);
    root.dataset.hfMode = view.mode;
    root.toggleAttribute("data-hf-zoomed", view.zoom > 1);
    fill();
  }

  /* What new pictures need as well. Before the edge lies the original, and in the place of a picture another decoder's:
     copies that the browser makes. A picture that is shown smaller than it is, is smoothed. */
  function fill() {
    for (const button of document.querySelectorAll("button[data-hf-mode]")) {
      button.setAttribute("aria-pressed", String(button.dataset.hfMode === view.mode));
    }
    const zoom = `${+view.zoom.toFixed(1)} x`;
    for (const output of document.querySelectorAll(".hf-zoom")) if (output.value !== zoom) output.value = zoom;
    for (const stage of document.querySelectorAll("[data-hf-stage]")) {
      const original = stage.querySelector(".hf-original");
      if (!original) continue;
      if (view.mode === "edge") {
        for (const plane of stage.querySelectorAll(".hf-before .hf-plane")) {
          if (plane.firstChild?.src === original.src) continue;
          const copy = original.cloneNode();
          copy.alt = "";
          plane.replaceChildren(copy);
        }
      }
      for (const other of view.mode === "decoder" ? stage.querySelectorAll(".hf-other") : []) {
        const made = stage.querySelector(`[data-hf-by="${CSS.escape(other.dataset.hfOf)}"]`);
        const plane = other.firstChild;
        if (!made || plane.firstChild?.src === made.src) continue;
        const copy = made.cloneNode();
        copy.removeAttribute("data-hf-by");
        plane.replaceChildren(copy);
      }
      const small = original.clientWidth * view.zoom < original.naturalWidth;
      stage.classList.toggle("hf-smooth", small);
    }
  }

  /* `place` within a picture's window, each from 0 to 1. */
  function place(frame, event) {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function zoomBy(factor, [x, y] = [0.5, 0.5]) {
    const zoom = factor ? clamp(view.zoom * factor, 1, MOST) : 1;
    view.x = x - ((x - view.x) / view.zoom) * zoom;
    view.y = y - ((y - view.y) / view.zoom) * zoom;
    view.zoom = zoom;
    show();
  }

  function moveBy(x, y) {
    view.x += x;
    view.y += y;
    show();
  }

  function choose(mode) {
    view.mode = mode;
    show();
  }

  function point(frame, event) {
    const [x, y] = place(frame, event);
    root.style.setProperty("--hf-cross-x", `${100 * x}%`);
    root.style.setProperty("--hf-cross-y", `${100 * y}%`);
    root.toggleAttribute("data-hf-pointing", event.pointerType === "mouse");
    if (view.mode === "edge" && (event.pointerType === "mouse" ? !event.buttons : fingers.size === 1 && view.zoom === 1)) {
      view.edge = clamp(x, 0, 1);
      root.style.setProperty("--hf-edge", `${100 * view.edge}%`);
    }
  }

  function pinched() {
    const [a, b] = [...fingers.values()];
    return {
      apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
      clientX: (a.clientX + b.clientX) / 2,
      clientY: (a.clientY + b.clientY) / 2,
    };
  }

  document.addEventListener("pointerdown", (event) => {
    const frame = windowOf(event.target);
    if (!frame || !stageOf(frame)) return;
    fingers.set(event.pointerId, event);
    dragged = { frame, event };
    pinch = fingers.size === 2 ? pinched() : null;
    point(frame, event);
  });

  document.addEventListener("pointermove", (event) => {
    const over = windowOf(event.target);
    if (over && stageOf(over)) point(over, event);
    else root.removeAttribute("data-hf-pointing");
    if (!dragged || !fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event);
    const box = dragged.frame.getBoundingClientRect();
    if (fingers.size === 2) {
      const now = pinched();
      if (pinch) {
        zoomBy(now.apart / pinch.apart, place(dragged.frame, now));
        moveBy((now.clientX - pinch.clientX) / box.width, (now.clientY - pinch.clientY) / box.height);
      }
      pinch = now;
    } else if (view.zoom > 1) {
      const last = dragged.event;
      moveBy((event.clientX - last.clientX) / box.width, (event.clientY - last.clientY) / box.height);
      dragged.event = event;
    }
  });

  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      pinch = null;
      if (!fingers.size) dragged = null;
      else dragged = { frame: dragged.frame, event: [...fingers.values()][0] };
    });
  }

  document.addEventListener("dblclick", (event) => {
    const frame = windowOf(event.target);
    if (frame && stageOf(frame)) zoomBy(event.shiftKey ? 0.5 : 2, place(frame, event));
  });

  /* The wheel alone scrolls the page, until one has zoomed in or holds Ctrl, which a trackpad's pinch does. */
  document.addEventListener(
    "wheel",
    (event) => {
      const frame = windowOf(event.target);
      if (!frame || !stageOf(frame) || !(event.ctrlKey || event.metaKey || view.zoom > 1)) return;
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY / 300), place(frame, event));
    },
    { passive: false },
  );

  /* A film's place, for all films at once. */
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("[data-hf-scrub]")) root.style.setProperty("--hf-frame", event.target.value);
  });

  document.addEventListener("click", (event) => {
    const guess = event.target.closest?.("[data-hf-guess]");
    if (guess) document.querySelector(`button#hf-${guess.dataset.hfGuess}, #hf-${guess.dataset.hfGuess} button`)?.click();
    const named = event.target.closest?.("[data-hf-card]");
    if (named) openCard(named.dataset.hfCard);
    const button = event.target.closest?.("button[data-hf-mode], button[data-hf-zoom]");
    if (!button) return;
    if (button.dataset.hfMode) choose(button.dataset.hfMode);
    else zoomBy(Number(button.dataset.hfZoom));
  });

  const KEYS = {
    "+": () => zoomBy(2),
    "=": () => zoomBy(2),
    "-": () => zoomBy(0.5),
    0: () => zoomBy(0),
    p: () => choose("picture"),
    e: () => choose("error"),
    b: () => choose("edge"),
    d: () => document.querySelector('[data-hf-mode="decoder"]')?.click(),
    ArrowLeft: () => step(1, 0),
    ArrowRight: () => step(-1, 0),
    ArrowUp: () => step(0, 1),
    ArrowDown: () => step(0, -1),
  };

  /* Zoomed in, the arrows move the picture; else those to the sides move the edge. */
  function step(x, y) {
    if (view.zoom > 1) return moveBy(x / 8, y / 8);
    view.edge = clamp(view.edge - x / 20, 0, 1);
    show();
  }

  document.addEventListener("keydown", (event) => {
    const here = event.target.closest?.("[data-hf-stage], .hf-toolbar");
    if (!here || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    if (event.key.startsWith("ArrowUp") || event.key.startsWith("ArrowDown")) if (view.zoom === 1) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  /* Gradio gives each of its radio buttons a name of its own, so that the arrows wouldn't choose among them. */
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by || !event.target.matches?.("#hf-examples input")) return;
    event.preventDefault();
    const all = [...document.querySelectorAll("#hf-examples input")];
    const next = all[(all.indexOf(event.target) + by + all.length) % all.length];
    next.focus();
    next.click();
  });

  function openCard(name) {
    const card = document.querySelector(`[data-hf-model="${CSS.escape(name)}"]`);
    if (!card) return;
    card.open = true;
    card.querySelector("summary").focus();
    card.scrollIntoView({ block: "nearest" });
  }

  /* A click on a model's point opens its card, as does a click on its name. */
  function points() {
    for (const chart of document.querySelectorAll("#hf-chart .js-plotly-plot:not([data-hf-opens])")) {
      if (!chart.on) continue;
      chart.dataset.hfOpens = "";
      chart.on("plotly_click", ({ points: [point] }) => openCard(point.data.name));
    }
  }

  new MutationObserver(() => {
    fill();
    points();
  }).observe(document, { childList: true, subtree: true });
  addEventListener("resize", fill);
  addEventListener("load", show);
  show();
})();
