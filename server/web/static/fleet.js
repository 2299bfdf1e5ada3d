// Keeps the fleet table fresh: fetches this page every two seconds while it is visible and swaps the table in place.
// Without it the page works as well; it is then reloaded now and then.
"use strict";

const EVERY_MS = 2000;
const connection = document.getElementById("connection");

function show(ok) {
  connection.hidden = false;
  connection.firstElementChild.className = ok ? "dot" : "dot dot-bad";
  connection.lastElementChild.textContent = ok ? "Live" : "No connection, figures are old";
}

function swap(fresh) {
  const focused = document.activeElement && document.activeElement.id;
  const scroll = document.querySelector(".scroll");
  const left = scroll ? scroll.scrollLeft : 0;
  const notes = document.querySelectorAll("#live .note");
  document.getElementById("live").replaceWith(fresh.getElementById("live"));
  document.getElementById("clock").textContent = fresh.getElementById("clock").textContent;
  const panel = document.querySelector("#live .panel");
  notes.forEach((note) => panel.before(note));  // a message stays until the next page
  if (left) document.querySelector(".scroll").scrollLeft = left;
  if (focused && document.getElementById(focused)) document.getElementById(focused).focus({ preventScroll: true });
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected) return location.reload();  // signed out
    if (!answer.ok) throw new Error(answer.status);
    swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    show(true);
  } catch {
    show(false);
  }
}

async function loop() {
  if (!document.hidden) await refresh();
  setTimeout(loop, EVERY_MS);
}

setTimeout(loop, EVERY_MS);
