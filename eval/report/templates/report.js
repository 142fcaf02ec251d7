"use strict";
// The theme's switch, and the list of items: filter, search, sort, more items as one scrolls.
(() => {
  const root = document.documentElement;
  root.dataset.script = "";

  const themes = ["auto", "light", "dark"];
  const button = document.querySelector("button.theme");
  const remembered = (value) => {
    try {
      return value === undefined ? localStorage.getItem("resonance.report.theme") : localStorage.setItem("resonance.report.theme", value);
    } catch {
      return null; // storage can be closed to a page from a file
    }
  };
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  let theme = themes.includes(remembered()) ? remembered() : "auto";
  setTheme(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    setTheme(theme);
    remembered(theme);
  });

  // Texts that scroll are reached by keyboard.
  const makeScrollersReachable = () => {
    const long = [...document.querySelectorAll(".answer .question, .side dd")].filter((box) => box.scrollHeight > box.clientHeight + 1);
    for (const box of long) box.tabIndex = 0;
  };
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(makeScrollersReachable, 200);
  });
  document.addEventListener("toggle", makeScrollersReachable, true);
  makeScrollersReachable();

  const source = document.getElementById("items-data");
  if (!source) return;
  const { labels, tasks, items } = JSON.parse(source.textContent);
  const PAGE = 30;
  const form = document.querySelector(".filters");
  const list = document.querySelector("#items .answers");
  const count = document.querySelector("#items .count");
  const more = document.querySelector("#items .more");
  const { search, task: taskSelect, group: groupSelect, result: resultSelect, sort: sortSelect } = form.elements;
  let found = items;
  let shown = 0;
  let words = [];

  const el = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };

  // The text with the searched words marked; always text nodes, never markup.
  const text = (value) => {
    if (value === "") return [el("span", "empty", "(empty)")];
    if (!words.length) return [value];
    const pattern = new RegExp(words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "gi");
    const parts = [];
    let last = 0;
    for (const match of value.matchAll(pattern)) {
      parts.push(value.slice(last, match.index), el("mark", "", match[0]));
      last = match.index + match[0].length;
    }
    return [...parts, value.slice(last)];
  };

  const verdict = (correct) => (correct === null ? "" : correct ? "right" : "wrong");
  const number = (value, share) => (share ? `${(100 * value).toFixed(1)}%` : String(Number(value.toPrecision(4))));

  const side = (title, value, correct, scores) => {
    const head = el("dt", "", el("span", "", title));
    if (correct !== null) head.append(el("span", correct ? "better" : "worse", correct ? "✓ right" : "✗ wrong"));
    const box = el("div", verdict(correct), head, el("dd", "", ...text(value)));
    if (scores) box.append(el("dd", "scores", scores));
    return box;
  };

  const card = (item) => {
    const task = tasks[item.t];
    const header = el("header", "", el("span", "chip", task.name));
    if (item.g !== null) header.append(el("span", "chip", item.g));
    if (item.c[0] !== null) header.append(el("span", `chip ${verdict(item.c[0])}`, item.c[0] ? "✓ right" : "✗ wrong"));
    header.append(el("code", "", item.id));
    const columns = el("dl", "side");
    if (item.e !== null) columns.append(side("expected", item.e, null, ""));
    labels.forEach((label, i) => {
      const values = item.s[i] ?? [];
      const scores = task.metrics
        .map((metric, m) => (values[m] == null ? null : `${metric.title} ${number(values[m], metric.share)}`))
        .filter(Boolean)
        .join(" · ");
      if (item.a[i] !== null) columns.append(side(label, item.a[i], item.c[i], scores));
      else if (scores) columns.append(el("div", "", el("dt", "", label), el("dd", "scores", scores)));
    });
    const question = el("div", "question", ...text(item.q));
    return el("li", "", el("article", "answer", header, question, columns));
  };

  const passes = (item, wanted) => {
    if (wanted === "") return true;
    const [kind, other] = wanted.split(":");
    if (kind === "right") return item.c[0] === 1;
    if (kind === "wrong") return item.c[0] === 0;
    return item.w[Number(other) - 1] === (kind === "won" ? 1 : -1);
  };

  const haystack = (item) => {
    item.h ??= [item.q, item.e, item.id, item.g, ...item.a].filter(Boolean).join("\n").toLowerCase();
    return item.h;
  };

  const showMore = () => {
    list.append(...found.slice(shown, shown + PAGE).map(card));
    shown = Math.min(found.length, shown + PAGE);
    more.hidden = shown >= found.length;
    makeScrollersReachable();
  };

  const update = () => {
    words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = taskSelect.value === "" ? null : Number(taskSelect.value);
    found = items.filter(
      (item) =>
        (chosen === null || item.t === chosen) &&
        (groupSelect.value === "" || item.g === groupSelect.value.slice(1)) &&
        passes(item, resultSelect.value) &&
        words.every((word) => haystack(item).includes(word)),
    );
    if (sortSelect.value === "worst") found = found.toSorted((a, b) => a.r - b.r);
    if (sortSelect.value === "best") found = found.toSorted((a, b) => b.r - a.r);
    if (sortSelect.value === "longest") found = found.toSorted((a, b) => b.q.length - a.q.length);
    list.replaceChildren();
    shown = 0;
    count.textContent = `${found.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} items`;
    showMore();
  };

  // The families of the chosen task.
  const fillGroups = () => {
    const kept = groupSelect.value;
    const chosen = taskSelect.value === "" ? null : Number(taskSelect.value);
    const names = new Set(items.filter((item) => chosen === null || item.t === chosen).map((item) => item.g));
    names.delete(null);
    const options = [...names].sort().map((name) => {
      const option = el("option", "", name);
      option.value = `=${name}`;
      return option;
    });
    groupSelect.replaceChildren(groupSelect.options[0], ...options);
    groupSelect.value = names.has(kept.slice(1)) ? kept : "";
  };

  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(update, 120);
  });
  form.addEventListener("change", (event) => {
    if (event.target === search) return;
    if (event.target === taskSelect) fillGroups();
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => (fillGroups(), update())));
  more.addEventListener("click", showMore);
  new IntersectionObserver((entries) => entries[0].isIntersecting && shown && shown < found.length && showMore(), {
    rootMargin: "600px",
  }).observe(more);
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("button[data-result]");
    if (!opener) return;
    form.reset();
    setTimeout(() => {
      taskSelect.value = opener.dataset.task;
      fillGroups();
      resultSelect.value = opener.dataset.result;
      update();
      document.getElementById("items").scrollIntoView();
      search.focus({ preventScroll: true });
    }, 1);
  });
  fillGroups();
  update();
})();
