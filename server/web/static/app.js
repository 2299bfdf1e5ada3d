// What pages do beside being pages: parts that change as they change, ages and the clock, dialogs, keys.
// Every page works without it. Three attributes of <body> steer it: data-live (address of the page's stream),
// data-keyboard and data-local-time (what the person prefers).
"use strict";
(() => {
  const body = document.body;
  const byId = (id) => document.getElementById(id);
  const wantsLocalTime = body.hasAttribute("data-local-time");
  const SILENT_MS = 15_000, POLL_MS = 10_000;

  // --- time: the server's, carried on by a clock that nobody sets ---------------------------------------------

  let serverMs = Number(body.dataset.now) || Date.now(), heardAt = performance.now();
  const now = () => serverMs + performance.now() - heardAt;
  const hear = (ms) => { serverMs = Number(ms); heardAt = performance.now(); };

  const pad = (number) => String(number).padStart(2, "0");
  function clock(ms) {  // as formats.clock writes it
    const at = new Date(ms);
    if (!wantsLocalTime) return `${at.toISOString().slice(0, 10)} ${at.toISOString().slice(11, 19)} UTC`;
    const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
    return `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  }
  const ofDay = (ms) => clock(ms).slice(11);

  function duration(ms) {  // as formats.duration writes it
    const seconds = Math.floor(Math.max(0, ms) / 1000);
    if (seconds < 120) return `${seconds} s`;
    const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
    if (minutes < 120) return `${minutes} min`;
    if (hours < 48) return `${hours} h ${minutes % 60} min`;
    return `${days} d ${hours % 24} h`;
  }

  function write(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }
  function writeTimes(root) {
    for (const time of root.querySelectorAll("time[data-age]")) {
      write(time, duration(now() - time.dataset.age) + (time.dataset.suffix || ""));
      if (wantsLocalTime) time.title = clock(Number(time.dataset.age));
    }
    if (wantsLocalTime) for (const time of root.querySelectorAll("time[data-at]")) {
      const text = clock(Number(time.dataset.at)), isBrief = time.hasAttribute("data-brief");
      const isLog = time.dataset.brief === "log";
      write(time, isLog ? `${text.slice(11)}.${String(time.dataset.at % 1000).padStart(3, "0")}` : isBrief ? text.slice(5) : text);
      if (isBrief && !isLog) time.title = text;
    }
  }
  function tick() {
    writeTimes(document);
    write(byId("clock"), clock(now()));
    showConnection();
  }

  // --- the connection: live, reconnecting since, stale -----------------------------------------------------------

  const link = { state: "connecting", since: now(), trouble: null, at: performance.now() };
  function to(state) {
    if (link.state !== state) { link.state = state; link.since = now(); }
    showConnection();
  }
  function showConnection() {
    const place = byId("connection");
    if (!place || !body.dataset.live || !window.Idiomorph) return;
    const age = performance.now() - link.at;
    const [dot, text, more] = place.children;
    let css = "dot", words = "Live", detail = age < 1500 ? "" : duration(age);
    if (link.state === "polling") [css, words, detail] = ["dot dot-warn", "Every 10 s", "all live connections are taken"];
    else if (link.state !== "live") [css, words, detail] = ["dot dot-bad", "No connection, figures are old", `since ${ofDay(link.since)}`];
    else if (link.trouble) [css, words, detail] = ["dot dot-warn", "Stale", ""];
    if (link.state === "connecting") { if (now() - link.since < 2000) return; words = "Connecting"; css = "dot dot-warn"; }
    place.classList.remove("conn-unheard");
    if (dot.className !== css) dot.className = css;
    write(text, words);
    write(more, detail);
    place.title = link.trouble || "";
    body.classList.toggle("is-old", link.state === "lost");
  }
  function trouble(why) {
    if (why !== link.trouble && why) say(why);
    link.trouble = why;
  }

  // --- swapping: what somebody is doing stays as it is ------------------------------------------------------------

  const isTheirs = (node) => node.matches?.("input:not([type=hidden]), textarea, select, [data-keep]");
  const morphing = {
    morphStyle: "outerHTML",
    restoreFocus: true,
    callbacks: {
      beforeNodeMorphed: (old) => !isTheirs(old),
      beforeNodeRemoved: (old) => !old.matches?.("[data-keep]"),
      beforeAttributeUpdated: (name, node) =>
        !(name === "open" && node.matches("details, dialog")) && name !== "aria-selected" && !busy.has(node),
    },
  };
  function morph(old, html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    writeTimes(template.content);
    const scrolled = [old, ...old.querySelectorAll(".scroll")].map((box) => [box, box.scrollLeft, box.scrollTop]);
    Idiomorph.morph(old, template.content.firstElementChild, morphing);
    for (const [box, left, top] of scrolled) { if (left) box.scrollLeft = left; if (top) box.scrollTop = top; }
  }

  // A line says what changed; tables themselves are no live regions.
  function say(text) {
    const place = byId("said");
    if (place) place.textContent = text;
  }
  function stateOf(part) {
    return [part.querySelector(".name")?.textContent, part.querySelector(".pill")?.textContent];
  }

  let order = null, inVain = null, isFollowing = false;
  function isInOrder(ids) {
    const known = new Set(ids);
    let before = null;
    for (const id of ids) {
      const part = byId(id);
      if (!part || (before && !(before.compareDocumentPosition(part) & Node.DOCUMENT_POSITION_FOLLOWING))) return false;
      before = part;
    }
    // The stream names every row: one that it does not name has left, though none may be left beside it.
    return [...document.querySelectorAll("main tbody > [id]")].every((row) => known.has(row.id));
  }
  // Fetch the page until it has the stream's order. A page may leave out what its stream draws: an order that a fresh
  // page does not have either is not asked for again, until there was another.
  async function follow(ids) {
    order = ids;
    if (order.join() !== inVain) inVain = null;
    if (isFollowing) return;
    isFollowing = true;
    try {
      while (order.join() !== inVain && !isInOrder(order)) {
        const asked = order;
        await refresh();
        if (!isInOrder(asked)) inVain = asked.join();
      }
    } catch {
      lose();
    } finally {
      isFollowing = false;
    }
  }

  function show(message) {
    trouble(message.trouble);
    const said = [];
    for (const [id, html] of Object.entries(message.parts || {})) {
      const part = byId(id);
      if (!part) continue;
      const [name, state] = stateOf(part);
      morph(part, html);
      const [, after] = stateOf(byId(id) || part);
      if (name && state && after && state !== after) said.push(`${name}: ${after}`);
    }
    if (said.length) say(said.slice(0, 3).join(" · ") + (said.length > 3 ? ` · and ${said.length - 3} more` : ""));
    for (const [id, html] of Object.entries(message.added || {})) append(byId(id), html);
    for (const [name, value] of Object.entries(message.data || {})) {
      if (name === "alarms") document.title = (value ? `(${value}) ` : "") + document.title.replace(/^\(\d+\) /, "");
      document.dispatchEvent(new CustomEvent(`live:${name}`, { detail: value }));
    }
    document.dispatchEvent(new CustomEvent("live:shown"));
    if (message.order) follow(message.order);
  }
  function append(place, html) {
    if (!place) return;
    const template = document.createElement("template");
    template.innerHTML = html;
    writeTimes(template.content);
    const lines = [...template.content.children].filter((line) => !line.id || !byId(line.id));
    place.append(...lines);
    const most = Number(place.dataset.most) || 1000;
    while (place.children.length > most) place.firstElementChild.remove();
    place.dispatchEvent(new CustomEvent("live:added", { bubbles: true, detail: lines }));
  }

  // The page as it is now, for what the stream cannot say: rows that came or went, or no stream at all. True when the
  // page itself is gone (signed out, not allowed, not there) and the browser is on its way to what is in its place.
  async function refresh() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) { location.replace(answer.url); return true; }
    if (answer.status === 404 || answer.status === 403) { location.reload(); return true; }
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = fresh.getElementById("main");
    if (!main) { location.reload(); return true; }
    morph(byId("main"), main.outerHTML);
    for (const id of ["halted", "kill", "kill-low"]) {
      const part = fresh.getElementById(id);
      if (part && byId(id)) morph(byId(id), part.outerHTML);
    }
    hear(fresh.body.dataset.now);
    lastId = Math.max(lastId, Number(fresh.body.dataset.after) || 0);
    document.title = fresh.title;
    document.dispatchEvent(new CustomEvent("live:shown"));
    return false;
  }

  // --- the stream -----------------------------------------------------------------------------------------------

  let source = null, again = null, lastId = Number(body.dataset.after) || 0, failures = 0;

  function connect() {
    clearTimeout(again);
    if (source || document.hidden) return;
    const address = new URL(body.dataset.live, location.href);
    address.searchParams.set("after", lastId);
    source = new EventSource(address);
    link.at = performance.now();
    source.onmessage = (event) => {
      const message = JSON.parse(event.data);
      heard(message.now);
      lastId = Number(event.lastEventId) || lastId;
      show(message);
    };
    source.addEventListener("beat", (event) => heard(event.data));
    // Closed by the server or cut off. What it is one request tells: signed out, all streams taken, or nobody there.
    source.onerror = () => lose();
  }
  function heard(ms) {
    hear(ms);
    link.at = performance.now();
    failures = 0;
    to("live");
  }
  function disconnect() {
    source?.close();
    source = null;
  }
  async function lose() {
    disconnect();
    if (document.hidden) return;
    const wait = Math.min(1000 * 2 ** failures++, POLL_MS) * (0.7 + 0.6 * Math.random());
    try {
      const isLeaving = await refresh();
      to(failures > 2 ? "polling" : link.state);
      link.at = performance.now();
      // A page that leaves has no stream to connect to; should it still be here then, it looks again.
      again = isLeaving ? setTimeout(lose, POLL_MS) : setTimeout(connect, failures > 2 ? POLL_MS : wait);
    } catch {
      to("lost");
      again = setTimeout(connect, wait);
    }
  }
  function watch() {
    if (!source) return;
    if (performance.now() - link.at > SILENT_MS) lose();
  }

  if (body.dataset.live && window.Idiomorph) {
    connect();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { disconnect(); clearTimeout(again); } else { failures = 0; link.at = performance.now(); connect(); }
    });
    window.addEventListener("pagehide", disconnect);
    window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    setInterval(watch, 1000);
  }
  tick();
  setInterval(() => { if (!document.hidden) tick(); }, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });

  // --- forms: a double click is one action --------------------------------------------------------------------------

  const busy = new Map();
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    const button = event.submitter || event.target;
    if (busy.has(button)) return event.preventDefault();
    button.setAttribute("aria-busy", "true");
    const isUpload = event.target.enctype === "multipart/form-data";  // may take minutes: busy until the page leaves
    busy.set(button, isUpload ? 0 : setTimeout(() => free(button), 5000));
  });
  function free(button) {
    busy.delete(button);
    button.removeAttribute("aria-busy");
  }
  window.addEventListener("pageshow", () => { for (const button of [...busy.keys()]) free(button); });

  // A file that is too large is said beside its field before anything is sent, so that nothing typed is lost.
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (!input.matches?.("input[type=file][data-most]")) return;
    const size = input.files[0]?.size || 0, most = Number(input.dataset.most), mb = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
    input.setCustomValidity(size > most ? `This file has ${mb(size)} MB; at most ${mb(most)} MB are taken. Choose another one.` : "");
    input.reportValidity();
  });

  // --- dialogs: a confirmation page shown over this one ----------------------------------------------------------------

  let opener = null;
  async function openDialog(path, from) {
    let page;
    try {
      const answer = await fetch(path, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok || answer.redirected) throw new Error(answer.status);
      page = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      location.href = path;
      return;
    }
    const dialog = page.getElementById("dialog");
    if (!dialog || document.querySelector("dialog[open]")) { location.href = path; return; }
    dialog.removeAttribute("open");
    opener = from || document.activeElement;
    document.body.append(dialog);
    writeTimes(dialog);
    dialog.addEventListener("close", () => {
      dialog.remove();
      const back = opener?.isConnected ? opener : opener?.id && byId(opener.id);
      back?.focus?.();
    });
    dialog.showModal();
  }
  document.addEventListener("click", (event) => {
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    const anchor = event.target.closest?.("a[href]");
    if (!plain || !anchor) return;
    const modal = anchor.closest("dialog:modal");
    if (modal && (anchor.hasAttribute("data-close") || anchor.hasAttribute("data-cancel"))) {
      event.preventDefault();
      modal.close();
    } else if (anchor.hasAttribute("data-dialog")) {
      event.preventDefault();
      openDialog(anchor.href, anchor);
    }
  });
  // Enter in a field of a dialog never confirms what the dialog warns of.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches?.("dialog input")) event.preventDefault();
  });

  // --- keys -----------------------------------------------------------------------------------------------------------

  const GO = { f: "/", o: "/orders", m: "/models", s: "/system" };
  let going = 0;
  const isTyping = (target) => target.matches?.("input:not([type=checkbox], [type=radio], [type=button]), textarea, select, [contenteditable]");
  function rows() {
    return [...document.querySelectorAll("main tbody tr")].filter((row) => row.offsetParent && handle(row));
  }
  const handle = (row) => row.querySelector("a.name, td a[href]") || row.querySelector("button, input, summary, [tabindex]");
  function move(step) {
    const all = rows();
    if (!all.length) return;
    const here = all.indexOf(document.activeElement?.closest?.("main tbody tr"));
    const next = all[here < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(here + step, 0), all.length - 1)];
    handle(next).focus();
    next.scrollIntoView({ block: "nearest" });
  }
  function press(key) {
    if (performance.now() < going && GO[key]) { location.href = GO[key]; return true; }
    going = 0;
    if (key === "g") { going = performance.now() + 1500; return true; }
    if (key === "?") { openDialog("/keys"); return true; }
    if (key === "j" || key === "k") { move(key === "j" ? 1 : -1); return true; }
    if (key === "K") { location.href = byId("kill")?.href || "/kill"; return true; }
    if (key === "/") {
      const search = document.querySelector("main input[type=search]");
      if (search) { search.focus(); search.select(); }
      return Boolean(search);
    }
    if (key === ".") {
      const menu = document.activeElement?.closest?.("main tbody tr")?.querySelector("summary, [aria-haspopup]");
      if (menu) { menu.focus(); menu.click(); }
      return Boolean(menu);
    }
    return false;
  }
  if (body.hasAttribute("data-keyboard")) {
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
      if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
      if (press(event.key)) event.preventDefault();
    });
  }
  document.addEventListener("keydown", (event) => {  // an open menu closes, whatever the preference
    const menu = event.key === "Escape" && document.activeElement?.closest?.("details[open]");
    if (menu) { menu.open = false; menu.querySelector("summary")?.focus(); }
  });
})();
