// Added by `cargo xtask browser` at the end of a copy of the page: looks at every plot, and says what it saw in the console's
// one line. A page has no script of its own, so that any other line is a complaint.
(() => {
  const height = document.documentElement.scrollHeight;
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  const plots = [...document.querySelectorAll("figure > svg")];
  const seen = (svg) => {
    const box = svg.getBoundingClientRect();
    const drawn = [...svg.querySelectorAll("polyline, line, rect, polygon, circle:not(.hint)")];
    const written = [...svg.querySelectorAll("text")];
    const painted = (element) => {
      const style = getComputedStyle(element);
      return [style.fill, style.stroke].some((colour) => colour.startsWith("rgb("));
    };
    return box.width >= 200 && box.height >= 40 && box.right <= innerWidth + 1 &&
      drawn.length > 2 && written.length > 1 && [...drawn, ...written].every(painted);
  };
  const unseen = plots.filter((svg) => !seen(svg)).map((svg) => svg.getAttribute("aria-label"));
  const colour = (selector, property) => {
    const element = document.querySelector(selector);
    return element ? getComputedStyle(element)[property].replace(/ /g, "") : "none";
  };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const facts = {
    plots: plots.length,
    tables: document.querySelectorAll("table").length,
    height,
    // What is wider than the window, a reader has to push to and fro.
    overflow: document.documentElement.scrollWidth - innerWidth,
    theme: dark ? "dark" : "light",
    page: colour("body", "backgroundColor"),
    ink: colour("figure > svg text, td", "fill"),
    unseen,
  };
  console.log("vmmc-probe " + JSON.stringify(facts) + " vmmc-probe-end");
})();
