// The log and the config form of a bot's page. Both work without it: the log is then as it was loaded.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // --- the log: new lines on top, unless paused; followed by those who hear the page ----------------------------------

  const log = byId("log"), arriving = byId("log-new"), pause = byId("log-pause"), follow = byId("log-follow");
  function moveUp() {
    if (!log || !arriving || pause?.getAttribute("aria-pressed") === "true") return label();
    const lines = [...arriving.children];
    if (!lines.length) return label();
    byId("log-empty")?.remove();
    const wasAtTop = log.scrollTop < 8, height = log.scrollHeight;
    for (const line of lines) log.prepend(line);
    if (!wasAtTop && !follow?.checked) log.scrollTop += log.scrollHeight - height;
    else log.scrollTop = 0;
    const most = Number(log.dataset.most);
    while (log.children.length > most) log.lastElementChild.remove();
    label();
  }
  function label() {
    const waiting = arriving ? arriving.children.length : 0;
    const text = pause?.querySelector("span");
    if (text) text.textContent = pause.getAttribute("aria-pressed") === "true" ? `Go on${waiting ? ` (${waiting})` : ""}` : "Pause";
  }
  pause?.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(pause.getAttribute("aria-pressed") !== "true"));
    moveUp();
  });
  follow?.addEventListener("change", () => {
    log.setAttribute("aria-live", follow.checked ? "polite" : "off");
    if (follow.checked) log.scrollTop = 0;
  });
  arriving?.addEventListener("live:added", moveUp);
  moveUp();

  // --- the config form: what differs from what is saved ----------------------------------------------------------------

  const form = byId("config-form"), changes = byId("config-changes");
  if (!form || !changes) return;
  const fields = [...form.querySelectorAll(".field")];
  const input = (field) => field.querySelector("input:not([type=hidden]), select");
  const value = (element) => (element.type === "checkbox" ? String(element.checked) : element.value.trim());
  // A field that came back with "was …" differs already, whatever it holds now.
  const before = new Map(fields.map((field) => [field, field.classList.contains("is-changed") ? null : value(input(field))]));
  function count() {
    let changed = 0;
    for (const field of fields) {
      const is = value(input(field)) !== before.get(field);
      field.classList.toggle("is-changed", is);
      changed += is;
    }
    if (!changes.querySelector(".error")) changes.textContent = changed ? `${changed} change${changed === 1 ? "" : "s"}` : "No change yet";
  }
  form.addEventListener("input", count);

  const wrong = form.querySelector("[aria-invalid]");
  wrong?.closest("details")?.setAttribute("open", "");
  wrong?.focus();
  form.addEventListener("keydown", (event) => {  // Enter in a field is no "save" with money behind it
    if (event.key === "Enter" && event.target.matches("input")) event.preventDefault();
  });
})();
