"use strict";
const entries = JSON.parse(document.getElementById("data").textContent);
const budgets = [...new Set(entries.flatMap((entry) => entry.steps.map((step) => step.budget_ms)))].sort((a, b) => a - b);
const find = (selector, inside = document) => inside.querySelector(selector);

// A rate that keeps a budget keeps every larger one: above the largest that was searched it is the least that holds.
function winner(entry, budget) {
  const last = entry.steps[entry.steps.length - 1];
  const isBeyond = budget > last.budget_ms;
  const step = isBeyond ? last : entry.steps.find((each) => each.budget_ms === budget);
  return step && step.rows.length ? { rows: step.rows, isBeyond } : null;
}

function rateOf(step) {
  return (step.isBeyond || step.rows[0].is_least ? "at least " : "") + step.rows[0].rate;
}

function fill(line, step) {
  const [first, ...others] = step ? step.rows : [];
  const ties = others.filter((row) => !first.fewer.includes(step.rows.indexOf(row)));
  const price = find(".price", line).value;
  const texts = {
    row: first ? first.row : "none is known",
    rate: first ? rateOf(step) : "",
    interval: first && !step.isBeyond ? first.interval : "",
    cost: first && price !== "" ? ((Number(price) / 3600 / first.per_s) * 1e6).toPrecision(3) : "",
    ties: ties.map((row) => row.row).join(", "),
  };
  for (const [name, text] of Object.entries(texts)) find(`.${name}`, line).textContent = text;
}

function show() {
  const budget = budgets[Number(find(".budget").value)];
  const chosen = new Set([...document.querySelectorAll('input[name="run"]:checked')].map((box) => Number(box.value)));
  const best = new Map(); // of each model: other models are other work
  for (const line of document.querySelectorAll(".held tbody tr")) {
    const place = Number(line.dataset.place), step = winner(entries[place], budget);
    line.hidden = !chosen.has(place);
    fill(line, step);
    const { model, run } = entries[place], before = best.get(model);
    if (step && chosen.has(place) && (!before || step.rows[0].per_s > before.step.rows[0].per_s)) {
      best.set(model, { run, step });
    }
  }
  find(".budget-text").textContent = `${budget} ms`;
  find(".budget").setAttribute("aria-valuetext", `${budget} ms`);
  const answers = [...best].map(
    ([model, { run, step }]) => `${model}: ${step.rows[0].row} on ${run}, ${rateOf(step)}/s`,
  );
  find(".answer").textContent = answers.length
    ? `Most requests within ${budget} ms, of each model: ${answers.join("; ")}.`
    : `No chosen run knows a rate within ${budget} ms.`;
}

if (entries.length) {
  find(".budget").value = String(budgets.indexOf(entries[0].configured_ms));
  find(".controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("input", show);
  show();
}
document.body.classList.add("drawn");
