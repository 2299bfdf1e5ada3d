(() => {
  "use strict";
  const SECOND = 1000;
  const root = document.documentElement;
  const isHeld = (part) => {
    const chosen = document.getSelection();
    return part.contains(document.activeElement) ||
      (chosen && !chosen.isCollapsed && chosen.anchorNode && part.contains(chosen.anchorNode));
  };
  const refresh = async () => {
    const answer = await fetch("/", { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const old = document.getElementById(part.id);
      if (old && old.outerHTML !== part.outerHTML && !isHeld(old)) old.replaceWith(document.adoptNode(part));
    }
  };
  const tick = async () => {
    if (!document.hidden) {
      try {
        await refresh();
        root.dataset.state = "live";
      } catch {
        root.dataset.state = "lost";
      }
    }
    setTimeout(tick, SECOND);
  };
  root.dataset.state = "live";
  setTimeout(tick, SECOND);
})();
