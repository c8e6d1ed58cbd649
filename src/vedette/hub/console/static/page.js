// What the framework's elements lack for those who listen to a page or use it by keyboard.
document.documentElement.lang = "en";

function complete() {
  for (const content of document.querySelectorAll(".cm-content:not([aria-label])")) {
    const holder = content.closest("[aria-label]");
    content.setAttribute("aria-label", holder?.getAttribute("aria-label") ?? "Text");
    if (document.body.classList.contains("body--dark")) {
      const root = content.closest(".cm-editor").parentElement;
      getElement(root.id.slice(1))?.setTheme("githubDark");
    }
  }
  for (const table of document.querySelectorAll(".q-table__middle:not([tabindex])")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  }
}

new MutationObserver(complete).observe(document, { childList: true, subtree: true });
