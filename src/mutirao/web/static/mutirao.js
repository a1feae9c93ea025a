// Every page works without this script; it adds local times, a countdown, and the choice of light or dark.
"use strict";

(() => {
  const THEME = "jupyterhub-bs-theme"; // the hub's own key: one choice holds on its pages and on ours
  const root = document.documentElement;
  const lang = root.lang || "en";
  // The visitor's own kind of English or Portuguese, where the browser knows it.
  const locale = navigator.languages.find((tag) => tag.slice(0, 2) === lang.slice(0, 2)) || lang;

  const stored = () => {
    try {
      return localStorage.getItem(THEME);
    } catch {
      return null;
    }
  };
  const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = () => stored() || (dark() ? "dark" : "light");
  root.dataset.bsTheme = theme();

  const ready = () => {
    // On the hub's pages its own script listens to this id.
    const toggle = document.querySelector("#mu-theme");
    toggle?.removeAttribute("hidden");
    toggle?.addEventListener("click", () => {
      const next = root.dataset.bsTheme === "dark" ? "light" : "dark";
      root.dataset.bsTheme = next;
      try {
        localStorage.setItem(THEME, next);
      } catch {
        // Private windows may refuse to store; the choice then holds for this page.
      }
    });

    const format = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
    for (const time of document.querySelectorAll("time[data-local]")) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.getTime())) {
        time.title = time.textContent;
        time.textContent = format.format(at);
      }
    }

    for (const left of document.querySelectorAll("[data-until]")) {
      const until = new Date(left.dataset.until).getTime();
      const tick = () => {
        const seconds = Math.max(0, Math.round((until - Date.now()) / 1000));
        left.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
        if (seconds === 0) {
          clearInterval(timer);
          document.querySelector(left.dataset.overShow)?.removeAttribute("hidden");
        }
      };
      const timer = setInterval(tick, 1000);
      tick();
    }
  };

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", ready);
  } else {
    ready();
  }
})();
