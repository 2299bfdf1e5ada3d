// Selecting bots: what each verb would change is on its button, and the sums of the selection stand beside it.
// Without this script the buttons lead to a page that says the same.
(() => {
  "use strict";
  const form = document.getElementById("pick");
  if (!form) return;
  const boxes = () => [...document.querySelectorAll("td.sel input[name=bot]")];
  const picked = () => boxes().filter((box) => box.checked);
  const rowOf = (box) => box.closest("tr");

  function sums(rows) {
    const totals = new Map();
    for (const { dataset } of rows) {
      const key = `${dataset.unit} ${dataset.place}`;
      totals.set(key, (totals.get(key) || 0) + Number(dataset.today.replace("−", "-")));
    }
    return [...totals].sort().map(([key, sum]) => `${sum > 0 ? "+" : sum < 0 ? "−" : ""}${Math.abs(sum).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ${key}`);
  }

  function show() {
    const chosen = picked(), rows = chosen.map(rowOf), all = document.getElementById("pick-all");
    form.hidden = chosen.length === 0;
    if (all) {
      all.hidden = false;
      all.checked = chosen.length > 0 && chosen.length === boxes().length;
      all.indeterminate = chosen.length > 0 && !all.checked;
    }
    if (!chosen.length) return;
    const places = new Set(rows.map((row) => row.dataset.place));
    const mixed = places.has("live") && places.size > 1 ? ", mixed live and simulated" : "";
    const words = document.createElement("b");
    words.textContent = `${chosen.length} selected`;
    document.getElementById("picked").replaceChildren(words, mixed);
    document.getElementById("picked-sums").textContent = `today ${sums(rows).join(", ")}`;
    for (const button of form.querySelectorAll("button[name=verb]")) {
      const count = rows.filter((row) => row.dataset.verbs.split(" ").includes(button.value)).length;
      const label = button.value[0].toUpperCase() + button.value.slice(1);
      button.lastElementChild.textContent = `${label} ${count}${button.value === "stop" ? "…" : ""}`;
      button.disabled = count === 0;
      button.title = count < chosen.length ? `${label} ${count} of ${chosen.length} selected` : "";
    }
  }

  // What costs nothing is done at once; stopping shows its page over this one.
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const verb = event.submitter.value, rows = picked().map(rowOf);
    const asks = verb === "stop" || (verb === "start" && rows.some((row) => row.dataset.place === "live"));
    if (asks) {
      const link = document.createElement("a");
      link.href = `${form.action}?${new URLSearchParams([["verb", verb], ...picked().map((box) => ["bot", box.value])])}`;
      link.setAttribute("data-dialog", "");
      link.hidden = true;
      form.append(link);
      link.click();
      link.remove();
      return;
    }
    const sent = document.getElementById("act");
    sent.action = `/fleet/${verb}`;
    for (const box of picked()) {
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name: "bot", value: box.value });
      sent.append(field);
    }
    sent.submit();
  });

  document.addEventListener("change", (event) => {
    if (event.target.id === "pick-all") for (const box of boxes()) box.checked = event.target.checked;
    if (event.target.matches("#pick-all, td.sel input")) show();
  });
  document.addEventListener("live:shown", () => { if (picked().length || !form.hidden) show(); });
  show();
})();
