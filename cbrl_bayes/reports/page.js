"use strict";
// Pointing at a cell or line, or the arrow keys, writes its numbers below the drawing.
const last = new Map(); // array -> the cell of its map that was pointed at
const arrayOf = (chart) => chart.closest(".map")?.dataset.array;
const charts = [...document.querySelectorAll("svg.pointed")].map((chart) => {
  const marks = [...chart.querySelectorAll("[data-tip]")];
  const out = chart.parentElement.querySelector("output");
  let at = -1;
  const show = (index) => {
    if (index < 0 || index >= marks.length) return;
    if (at >= 0) marks[at].classList.remove("at");
    at = index;
    marks[at].classList.add("at");
    out.textContent = marks[at].dataset.tip;
  };
  const point = (index) => {
    if (arrayOf(chart) !== undefined) last.set(arrayOf(chart), index);
    show(index);
  };
  const towards = (dx, dy) => {
    const centre = (mark) => {
      const box = mark.getBBox();
      return [box.x + box.width / 2, box.y + box.height / 2];
    };
    const [x, y] = centre(marks[Math.max(at, 0)]);
    let best = -1;
    let least = Infinity;
    marks.forEach((mark, index) => {
      const [u, v] = centre(mark);
      const along = (u - x) * dx + (v - y) * dy;
      const aside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
      if (along > 1 && along + 3 * aside < least) {
        least = along + 3 * aside;
        best = index;
      }
    });
    if (best >= 0) point(best); // at the edge nothing lies further on
  };
  chart.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-tip]");
    if (mark) point(marks.indexOf(mark));
  });
  chart.addEventListener("keydown", (event) => {
    const step = {
      ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1],
    }[event.key];
    if (!step) return;
    event.preventDefault();
    towards(...step);
  });
  chart.addEventListener("focus", () => point(Math.max(at, 0)));
  out.textContent = "Point at the drawing, or focus it and use the arrow keys, to read numbers.";
  return { chart, show };
});
// On paper, and where a link leads, what is folded is open.
const unfold = (inside) => inside?.querySelectorAll("details")
  .forEach((each) => { each.open = true; });
addEventListener("beforeprint", () => unfold(document));
const reveal = () => {
  const section = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = section?.querySelector(":scope > details");
  if (folded) folded.open = true;
};
addEventListener("hashchange", reveal);
reveal();
// Another design keeps the cell that was pointed at.
document.addEventListener("change", (event) => {
  if (event.target.name !== "design") return;
  for (const { chart, show } of charts) {
    if (chart.closest(".pick") && last.has(arrayOf(chart))) show(last.get(arrayOf(chart)));
  }
});
