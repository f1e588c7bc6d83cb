// Light or dark. Loaded before the page is drawn, so that a chosen theme does not flash; hence no module.
"use strict";

(() => {
  const KEY = "moee-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden; the system's choice holds
    }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  const tell = () => {
    const toggle = document.getElementById("theme");
    toggle?.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("themechange"));
  };

  const theme = kept();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;

  system.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // holds for this page only
      }
      tell();
    });
    tell();
  });
})();
