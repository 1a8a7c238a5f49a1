"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const [controls, filter, sort, descending, count] = ["controls", "filter", "sort", "descending", "count"].map(find);
  const main = find("accuracies");
  const tables = [...document.querySelectorAll("main table")];
  const original = new Map(tables.map((table) => [table, [...table.tBodies[0].rows]]));

  // An anchor such as #robustness is a place in the page; #sort=accuracy&filter=lif is a state of it.
  const stateOfAddress = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

  function compare(first, second) {
    const numbers = [Number(first), Number(second)];
    return numbers.some(Number.isNaN) ? first.localeCompare(second, "en", { numeric: true }) : numbers[0] - numbers[1];
  }

  function sortTable(table, name, down) {
    const headings = [...table.tHead.rows[0].cells];
    const index = headings.findIndex((heading) => heading.dataset.column === name);
    headings.forEach((heading, at) => heading.setAttribute("aria-sort", at !== index ? "none" : down ? "descending" : "ascending"));
    const rows = [...original.get(table)];
    if (index >= 0) {
      const value = (row) => row.cells[index].dataset.value;
      rows.sort((a, b) => {
        const [first, second] = [value(a), value(b)];
        if (first === undefined || second === undefined) return (first === undefined) - (second === undefined);
        return down ? compare(second, first) : compare(first, second);
      });
    }
    table.tBodies[0].append(...rows);
  }

  function filterAll(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    document.querySelectorAll("[data-words]").forEach((part) => {
      const all = part.dataset.words.toLowerCase();
      part.hidden = !words.every((word) => all.includes(word));
    });
    document.querySelectorAll("main section").forEach((section) => {
      const parts = [...section.querySelectorAll("[data-words]")];
      section.classList.toggle("empty", parts.length > 0 && parts.every((part) => part.hidden));
    });
    if (main) {
      const rows = original.get(main);
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    }
  }

  function show() {
    const state = stateOfAddress();
    filter.value = state.get("filter") ?? "";
    sort.value = state.get("sort") ?? "";
    descending.checked = state.get("dir") === "desc";
    if (main) sortTable(main, sort.value, descending.checked);
    filterAll(filter.value);
  }

  function remember() {
    const state = new URLSearchParams();
    if (sort.value) state.set("sort", sort.value);
    if (sort.value && descending.checked) state.set("dir", "desc");
    if (filter.value) state.set("filter", filter.value);
    history.replaceState(null, "", `#${state}`);
    show();
  }

  tables.forEach((table) => {
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        // Numbers are looked through from the largest, names from the first.
        const first = heading.classList.contains("number") ? "descending" : "ascending";
        const now = heading.getAttribute("aria-sort");
        const down = (now === "none" ? first : now === "descending" ? "ascending" : "descending") === "descending";
        if (table !== main) return sortTable(table, heading.dataset.column, down);
        sort.value = heading.dataset.column;
        descending.checked = down;
        remember();
      });
    }
  });
  controls.hidden = false;
  controls.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", remember);
  sort.addEventListener("change", remember);
  descending.addEventListener("change", remember);
  window.addEventListener("hashchange", () => location.hash.includes("=") && show());
  show();
})();
