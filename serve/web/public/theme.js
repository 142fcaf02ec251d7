// Sets the theme before the first paint. A file of its own, because inline scripts are refused.
(() => {
  let theme = "system";
  try {
    theme = JSON.parse(localStorage.getItem("resonance.settings")).state.theme;
  } catch {
    // First visit, or storage is closed: follow the system.
  }
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const shown = theme === "light" || theme === "dark" ? theme : system;
  document.documentElement.classList.toggle("dark", shown === "dark");
  document.documentElement.style.colorScheme = shown;
})();
