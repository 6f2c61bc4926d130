"use strict";
for (const sheet of document.querySelectorAll(".sheet")) {
  const body = sheet.querySelector("tbody"), most = Number(sheet.querySelector("table").dataset.most);
  const search = sheet.querySelector("input"), selects = [...sheet.querySelectorAll("select")];
  const count = sheet.querySelector(".count"), more = sheet.querySelector(".more"), button = more.querySelector("button");
  let rows = [...body.rows], all = false;
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  function show() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of rows) {
      const fits = wanted.every((word) => words.get(row).includes(word)) &&
        selects.every((select) => !select.value || row.cells[select.dataset.column].textContent === select.value);
      if (fits) found += 1;
      row.hidden = !fits || (!all && found > most);
    }
    count.textContent = found < rows.length ? `${found} of ${rows.length} rows` : `${rows.length} rows`;
    more.hidden = all || found <= most;
    button.textContent = `Show all ${found} rows`;
  }

  function key(row, place) {
    const cell = row.cells[place];
    return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent;
  }

  function sort(head, place) {
    const before = head.getAttribute("aria-sort");
    const descending = head.dataset.kind === "number" ? before !== "descending" : before === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const order = new Intl.Collator(undefined, { numeric: true });
    const compare = (a, b) => {
      const [x, y] = [key(a, place), key(b, place)];
      const [p, q] = [x, y].map((text) => (text === "" ? Number.NaN : Number(text)));
      if (Number.isNaN(p) !== Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
      const difference = Number.isNaN(p) ? order.compare(x, y) : p - q;
      return descending ? -difference : difference;
    };
    rows = rows.sort(compare);
    body.append(...rows);
    show();
  }

  [...sheet.querySelectorAll("th")].forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => sort(head, place));
  });
  search.addEventListener("input", show);
  for (const select of selects) select.addEventListener("change", show);
  button.addEventListener("click", () => { all = true; show(); });
  sheet.querySelector(".tools").hidden = false;
  show();
}
