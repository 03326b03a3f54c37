// Keys: a link or button with data-key="j" is followed by j, a field with data-key="/" is entered; ? lists all of a page.
"use strict";

const keyed = () => [...document.querySelectorAll("[data-key]")];

function whatItDoes(element) {
  return element.getAttribute("aria-label") || element.getAttribute("placeholder") || element.textContent.trim();
}

function help() {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", "Keys");
  const table = dialog.appendChild(document.createElement("table"));
  for (const [key, text] of [...keyed().map((one) => [one.dataset.key, whatItDoes(one)]), ["?", "these keys"]]) {
    const row = table.insertRow();
    row.insertCell().appendChild(document.createElement("kbd")).textContent = key;
    row.insertCell().textContent = text.slice(0, 60);
  }
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable], dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") return help();
  const found = keyed().find((one) => one.dataset.key === event.key);
  if (!found) return;
  event.preventDefault();
  if (found.matches("input, select, textarea")) found.focus();
  else found.click();
});
