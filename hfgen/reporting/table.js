/* Tables: a click on a head sorts the rows; in a table with a column a model, a click on a row's button sorts the
   models. Tables that come later, too. */
(() => {
  "use strict";
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
  function byRows(table) {
    for (const head of table.tHead.rows[0].cells) {
      head.append(sorter(`Sort by ${head.textContent.trim()}`, sign => {
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => compare(a.cells[head.cellIndex], b.cells[head.cellIndex], sign));
        body.append(...rows);
        for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
        head.ariaSort = sign > 0 ? "ascending" : "descending";
      }));
    }
  }
  function byColumns(table) {
    const count = table.rows[0].cells.length, fixed = Number(table.dataset.fixed);
    if (count - fixed < 2) return;
    for (const row of table.querySelectorAll("tbody tr:not(.group)")) {
      const name = row.cells[0].querySelector("summary")?.textContent ?? row.cells[0].firstChild.textContent.trim();
      row.cells[0].append(sorter(`Sort the models by ${name}`, sign => {
        const places = [...row.cells].slice(fixed).sort((a, b) => compare(a, b, sign)).map(cell => cell.cellIndex);
        for (const each of table.rows) if (each.cells.length === count) each.append(...places.map(place => each.cells[place]).map(cell => cell));
      }));
    }
  }
  function find() {
    for (const table of document.querySelectorAll("table.sortable:not([data-sorts]), table.columns:not([data-sorts])")) {
      table.dataset.sorts = "";
      (table.classList.contains("sortable") ? byRows : byColumns)(table);
    }
  }
  new MutationObserver(find).observe(document, { childList: true, subtree: true });
  find();
})();
