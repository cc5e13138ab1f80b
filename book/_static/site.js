/* What style alone cannot do: no comma is torn from its formula, what scrolls sideways can be reached by keyboard, paper
   shows what is folded. */
(function () {
  "use strict";
  function all(selector) { return Array.from(document.querySelectorAll(selector)); }

  function keepPunctuation() {
    all(".bd-article span.math").forEach(function (formula) {
      var after = formula.nextSibling;
      var marks = after && after.nodeType === Node.TEXT_NODE && /^[,.;:!?)\]’”…'"-]+/.exec(after.data);
      if (!marks) return;
      var whole = document.createElement("span");
      whole.className = "nobreak";
      formula.replaceWith(whole);
      whole.append(formula, marks[0]);
      after.data = after.data.slice(marks[0].length);
    });
  }

  function reachable() {
    all(".bd-article span.math > mjx-container").forEach(function (formula) {
      formula.classList.remove("too-wide");
      var line = formula.closest("p, li, td, dd, figcaption, summary");
      if (line && formula.getBoundingClientRect().width > line.clientWidth) formula.classList.add("too-wide");
    });
    all(".bd-article mjx-container, .bd-article .pst-scrollable-table-container, .bd-article pre").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
      else if (box.matches("mjx-container")) box.removeAttribute("tabindex");
    });
  }

  window.addEventListener("load", function () {
    var typeset = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    (typeset || Promise.resolve()).then(function () {
      keepPunctuation();
      reachable();
    });
  });
  window.addEventListener("resize", reachable);
  document.addEventListener("toggle", reachable, true);
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.from(document.querySelectorAll(".bd-article details:not([open])"));
    opened.forEach(function (fold) { fold.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (fold) { fold.open = false; });
  });
})();
