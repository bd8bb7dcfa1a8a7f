"use strict";
// Tables are sorted by the buttons in their headers; without this script they keep the order of the page.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [row, key(row.cells[column])]);
      rows.sort((one, two) => compare(one[1], two[1], down ? -1 : 1));
      body.append(...rows.map(([row]) => row));
    });
  });
}

function key(cell) {
  const text = cell.textContent.trim();
  if (text === "") return null;
  const number = Number(cell.dataset.v ?? text.replaceAll(",", "").replace("%", ""));
  return Number.isNaN(number) ? text : number;
}

// Numbers come before texts, and empty cells last, in both directions.
function compare(one, two, sign) {
  if (one === null || two === null) return (one === null) - (two === null);
  if (typeof one !== typeof two) return typeof one === "number" ? -1 : 1;
  if (typeof one === "number") return sign * (one - two);
  return sign * one.localeCompare(two, "en", { numeric: true });
}

// Paper shows everything.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
window.addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
