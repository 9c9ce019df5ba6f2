"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const theme = by("theme");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
    theme.setAttribute("aria-pressed", String(isDark()));
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  label();

  const overlay = by("overlay");
  if (!overlay) return;
  const slider = by("opacity");
  const fade = () => {
    by("stage").style.setProperty("--opacity", slider.value / 100);
    by("opacity-value").textContent = `${slider.value} %`;
  };
  slider.addEventListener("input", fade);
  fade();

  const inputs = [...document.querySelectorAll('input[name="map"]')];
  const show = (input) => {
    const view = input.dataset;
    overlay.src = view.uri;
    overlay.alt = `Map of ${view.title}`;
    by("ramp").style.background = view.gradient;
    for (const end of ["low", "middle", "high"]) by(end).textContent = view[end];
    by("scale-box").setAttribute("aria-label", `Colour scale from ${view.low} to ${view.high}`);
    by("caption-title").textContent = view.title;
    by("caption-subtitle").textContent = view.subtitle;
    by("caption-means").textContent = view.means;
    by("caption-not").textContent = view.not;
  };
  for (const input of inputs) input.addEventListener("change", () => show(input));
  for (const button of document.querySelectorAll("button[data-map]")) {
    button.addEventListener("click", () => {
      const input = inputs.find((one) => one.value === button.dataset.map);
      input.checked = true;
      show(input);
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      by("title").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
      input.focus({ preventScroll: true });
    });
  }
  const checked = inputs.find((one) => one.checked);
  if (checked) show(checked);
})();
