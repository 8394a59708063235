const text = document.querySelector("input[type=search]");
const boxes = [...document.querySelectorAll("input[type=checkbox]")];
const rows = [...document.querySelectorAll("tr[data-verdict]")];
function filter() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = new Set(boxes.filter(box => box.checked).map(box => box.value));
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    row.hidden = !shown.has(row.dataset.verdict) || !words.every(word => content.includes(word));
  }
  for (const area of document.querySelectorAll(".area")) {
    const any = [...area.querySelectorAll("tr[data-verdict]")].some(row => !row.hidden);
    area.hidden = !any;
    if (words.length) area.open = any;
  }
}
text.addEventListener("input", filter);
boxes.forEach(box => box.addEventListener("change", filter));
document.querySelector(".tools").hidden = false;
