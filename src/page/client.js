/** What the scripts of pages share: colours, what is said of what is pointed at, tables that can be sorted. */
(() => {
  /** @template {Element} T @param {string} selector @returns {T} */
  const find = (selector) => {
    const found = document.querySelector(selector);
    if (!found) throw new Error(`no ${selector}`);
    return /** @type {T} */ (found);
  };

  /** @param {number} x */
  const digits = (x) => {
    const size = Math.abs(x);
    return x.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 || size === 0 ? 2 : 3);
  };
  /** @param {string} name */
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // ---- what is said of what is pointed at

  const tip = /** @type {HTMLElement} */ (find("#tip"));
  /** @param {{ clientX: number, clientY: number }} at @param {string} title @param {[string, string][]} rows */
  const say = ({ clientX, clientY }, title, rows) => {
    const heading = document.createElement("b");
    heading.textContent = title;
    const table = document.createElement("table");
    for (const [name, value] of rows) {
      const row = table.insertRow();
      row.insertCell().textContent = name;
      row.insertCell().textContent = value;
    }
    tip.replaceChildren(heading, table);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const x = clientX + 14 + width > innerWidth ? clientX - 14 - width : clientX + 14;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, Math.min(clientY + 14, innerHeight - height - 4))}px`;
  };
  const hush = () => {
    tip.hidden = true;
  };

  // ---- tables

  for (const button of document.querySelectorAll("th button"))
    button.addEventListener("click", () => {
      const th = /** @type {HTMLTableCellElement} */ (button.parentElement);
      const body = /** @type {HTMLTableElement} */ (th.closest("table")).tBodies[0];
      const numbers = body.rows[0]?.cells[th.cellIndex].dataset.v !== undefined;
      const up = th.ariaSort ? th.ariaSort === "descending" : !numbers;
      for (const other of th.parentElement?.children ?? []) other.ariaSort = null;
      th.ariaSort = up ? "ascending" : "descending";
      /** @param {HTMLTableRowElement} row */
      const value = (row) => row.cells[th.cellIndex].dataset.v ?? "";
      const rows = [...body.rows].sort((a, b) => {
        if (!numbers) {
          const [x, y] = [a, b].map((row) => row.cells[th.cellIndex].textContent ?? "");
          return (up ? 1 : -1) * x.localeCompare(y, "en", { numeric: true });
        }
        if (value(a) === "" || value(b) === "") return Number(value(a) === "") - Number(value(b) === "");
        return (up ? 1 : -1) * (Number(value(a)) - Number(value(b)));
      });
      body.append(...rows);
    });

  // ---- plots

  /** An axis in the colours of the page. */
  const axis = () => ({
    stroke: css("--soft"),
    grid: { stroke: css("--grid"), width: 1 },
    ticks: { stroke: css("--grid"), width: 1 },
    font: "11px system-ui, sans-serif",
  });
  /** Calls `draw` again where the width or the colours of the page change. @param {() => void} draw */
  const onChange = (draw) => {
    let last = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === last) return;
      last = innerWidth;
      draw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  };

  /** @type {import("./tools.ts").PageTools} */
  const page = {
    find,
    digits,
    css,
    say,
    hush,
    axis,
    onChange,
    data: JSON.parse(find("#data").textContent ?? ""),
  };
  Object.assign(globalThis, { wavegatePage: page });
})();
