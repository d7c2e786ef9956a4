"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function look() {
  const ink = dark.matches ? "#ececec" : "#1a1a1a", line = dark.matches ? "#4a4a4a" : "#d0d0d0";
  const text = { labelColor: ink, titleColor: ink };
  return {
    background: "transparent",
    title: { color: ink, subtitleColor: ink, anchor: "start", offset: 16 },
    axis: { ...text, gridColor: line, domainColor: ink, tickColor: ink },
    legend: text,
    rule: { color: ink },
    text: { color: ink },
    view: { stroke: null },
  };
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

class Panel {
  constructor(section) {
    this.section = section;
    this.own = data[section.dataset.device];
    this.views = {};
    this.find = (selector) => section.querySelector(selector);
    if (this.own.answers) this.listenToBudget();
    this.listenToFilters();
    this.listenToTable();
    this.showColumns();
    this.find(".columns").addEventListener("input", () => this.showColumns());
    this.find(".columns").addEventListener("submit", (event) => event.preventDefault());
  }

  async draw() {
    for (const place of this.section.querySelectorAll(".chart")) {
      const { chart, panel } = place.dataset;
      const options = { actions: false, renderer: "svg", config: look() };
      this.views[chart + panel] = (await vegaEmbed(place, this.own.charts[chart][panel], options)).view;
    }
    this.signalAll();
  }

  signalAll() {
    if (this.own.answers) this.signal("budget_ms", this.step().budget_ms);
    for (const name of ["runtime", "precision"]) this.signal(`${name}s`, this.checked(name));
    this.signal("batch", Number(this.find(".batch").value));
  }

  signal(name, value) {
    for (const view of Object.values(this.views)) {
      try {
        view.signal(name, value).runAsync();
      } catch {
        continue; // a chart that has no such signal
      }
    }
  }

  listenToBudget() {
    const configured = this.own.answers.steps.findIndex((each) => each.budget_ms === this.own.answers.configured_ms);
    this.find(".budget").value = String(configured);
    for (const name of [".budget", ".memory", ".loss", ".price"]) {
      this.find(name).addEventListener("input", () => this.answer());
    }
    this.find(".controls").addEventListener("submit", (event) => event.preventDefault());
    this.answer();
  }

  step() {
    return this.own.answers.steps[Number(this.find(".budget").value)];
  }

  limit(name) {
    const text = this.find(name).value;
    return text === "" ? null : Number(text);
  }

  answer() {
    const step = this.step(), memory = this.limit(".memory"), loss = this.limit(".loss");
    this.find(".budget-text").textContent = `${step.budget_ms} ms`;
    this.find(".budget").setAttribute("aria-valuetext", `${step.budget_ms} ms`);
    const fits = (row) =>
      (memory === null || (row.memory_mib !== null && row.memory_mib <= memory * 1024)) &&
      (loss === null || (row.accuracy_loss !== null && row.accuracy_loss * 100 <= loss));
    const places = step.rows.map((_, place) => place).filter((place) => fits(step.rows[place]));
    this.find(".answer").textContent = places.length === step.rows.length ? step.text : pick(step, places);
    this.fill(step, places);
    this.signal("budget_ms", step.budget_ms);
  }

  fill(step, places) {
    const body = this.find(".held tbody"), price = this.limit(".price");
    const isShown = [true, true, true, true, true, true, step.rows.some((row) => row.accuracy_loss !== null),
      price !== null || step.rows.some((row) => row.cost_per_million_requests !== null)];
    [...this.find(".held thead tr").cells].forEach((cell, column) => { cell.hidden = !isShown[column]; });
    body.replaceChildren();
    for (const place of places) {
      const row = step.rows[place], first = step.rows[places[0]];
      const isFewer = first.fewer.includes(row.variant);
      const against = place === places[0] ? "" : isFewer ? "fewer" : "not significantly fewer";
      const cost = price === null ? row.cost_per_million_requests : (price / 3600 / row.requests_per_s) * 1e6;
      const line = document.createElement("tr");
      const cells = [
        row.variant, (row.is_lower_bound ? "at least " : "") + row.rate, row.interval, against, row.padding, row.memory,
        row.accuracy_loss === null ? "" : `${(row.accuracy_loss * 100).toFixed(2)}%`,
        cost === null ? "" : cost.toPrecision(3),
      ];
      line.append(...cells.filter((_, column) => isShown[column]).map((text) => element("td", text)));
      body.append(line);
    }
  }

  checked(name) {
    return [...this.section.querySelectorAll(`input[name="${name}"]:checked`)].map((each) => each.value);
  }

  listenToFilters() {
    this.find(".filters").addEventListener("input", () => {
      this.signalAll();
      this.filterRows();
    });
    this.find(".filters").addEventListener("submit", (event) => event.preventDefault());
    this.find(".find").addEventListener("input", () => this.filterRows());
  }

  filterRows() {
    const runtimes = this.checked("runtime"), precisions = this.checked("precision");
    const word = this.find(".find").value.toLowerCase();
    for (const row of this.section.querySelectorAll(".rows tbody tr")) {
      const isChosen = runtimes.includes(row.dataset.runtime) && precisions.includes(row.dataset.precision);
      row.hidden = !(isChosen && row.textContent.toLowerCase().includes(word));
    }
  }

  showColumns() {
    const shown = new Set(this.checked("column").map(Number));
    for (const row of this.find(".rows").rows) {
      [...row.cells].forEach((cell, column) => { cell.hidden = !shown.has(column); });
    }
  }

  listenToTable() {
    const heads = [...this.section.querySelectorAll(".rows th")];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
        sortRows(this.find(".rows tbody"), column, order === "ascending" ? 1 : -1);
      });
    });
  }
}

function pick(step, places) {
  if (!places.length) return `No row sustains a rate within ${step.budget_ms} ms and these limits.`;
  const [first, ...others] = places.map((place) => step.rows[place]);
  const ties = others.filter((row) => !first.fewer.includes(row.variant));
  const names = ties.map((row) => `${row.variant} (${row.rate}/s)`).join(", ");
  const end = ties.length ? `; not significantly fewer: ${names}.` : ", significantly more than any other row.";
  return `Most requests: ${first.variant}, ${first.rate}/s${end}`;
}

function sortRows(body, column, sign) {
  const number = (text) => parseFloat(text.replace(/,/g, ""));
  const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent }));
  rows.sort((one, other) => {
    const a = number(one.text), b = number(other.text);
    if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1; // what has no number comes last
    return sign * (Number.isNaN(a) ? one.text.localeCompare(other.text) : a - b);
  });
  body.append(...rows.map((each) => each.row));
}

const panels = [...document.querySelectorAll(".panel")].map((section) => new Panel(section));
const drawAll = () => Promise.all(panels.map((panel) => panel.draw()));
dark.addEventListener("change", drawAll);
drawAll().then(() => document.body.classList.add("drawn"));
