// Keeps a page that may change up to date. Every page also works without this script.
"use strict";

const EVERY_MS = 5000;

async function refresh(seen) {
  const answer = await fetch(location.href, { headers: seen ? { "If-None-Match": seen } : {}, cache: "no-store" });
  if (answer.status !== 200) return seen;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const main = document.querySelector("main");
  const isBusy = main.contains(document.activeElement) && document.activeElement !== main;
  if (fresh && !isBusy && !String(getSelection())) {
    const open = new Map([...main.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const places = [...main.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    main.replaceChildren(...fresh.childNodes);
    for (const [id, isOpen] of open) document.getElementById(id)?.toggleAttribute("open", isOpen);
    main.querySelectorAll(".scroll").forEach((one, n) => (one.scrollLeft = places[n] ?? 0));
    document.dispatchEvent(new Event("view:refreshed"));
  }
  return isBusy ? seen : answer.headers.get("ETag");
}

if (document.body.hasAttribute("data-live")) {
  let seen = null;
  const again = async () => {
    if (!document.hidden) {
      try {
        seen = await refresh(seen);
      } catch {
        // The viewer was ended; it may come back.
      }
    }
    setTimeout(again, EVERY_MS);
  };
  setTimeout(again, EVERY_MS);
}
