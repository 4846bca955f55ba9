"use strict";

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.closest(".curl").querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // A page that is opened as a file may have no access to the clipboard.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    document.getElementById("status").textContent = "The command is copied.";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

const form = document.getElementById("filters");
form.hidden = false;

function filter() {
  const data = new FormData(form);
  const kinds = new Set(data.getAll("kind"));
  const section = data.get("section");
  const words = data.get("words").trim().toLowerCase();
  let shown = 0;
  for (const group of document.querySelectorAll("section.group")) {
    let isVisible = false;
    for (const rule of group.querySelectorAll(".rule")) {
      const matches =
        kinds.has(rule.dataset.kind) &&
        (!section || group.dataset.section === section) &&
        (!words || rule.textContent.toLowerCase().includes(words));
      rule.hidden = !matches;
      isVisible ||= matches;
      shown += matches;
    }
    group.hidden = !isVisible;
  }
  document.getElementById("shown").textContent = `${shown} shown`;
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();

// A link to a rule shows it, whatever the filters hide.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.closest("section.group") && target.hidden) {
    for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = true;
    form.elements.section.value = "";
    form.elements.words.value = "";
    filter();
  }
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", reveal);
reveal();
