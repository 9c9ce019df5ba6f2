"use strict";
(() => {
  const data = JSON.parse(by("data").textContent);
  const photo = document.querySelector("#stage .photo");
  const other = data.views.filter(({ name }) => name !== data.first);
  viewer.show({
    ...data,
    photo: photo.src,
    alt: photo.alt,
    groups: Object.entries(data.groups)
      .map(([kind, title]) => [title, data.views.filter((view) => view.kind === kind)])
      .filter(([, views]) => views.length),
    other: (other.find(({ kind }) => kind === "attribution") || other[0] || { name: "" }).name,
  });
  for (const tile of document.querySelectorAll("button[data-map]")) {
    cursor.link(tile.querySelector(".linked"));
    tile.addEventListener("click", () => {
      viewer.choose(tile.dataset.map);
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      by("title").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
      document.querySelector('input[name="map"]:checked').focus({ preventScroll: true });
    });
  }

  // A link to a site opens it.
  const reveal = () => {
    const details = location.hash.length > 1 && by(decodeURIComponent(location.hash.slice(1)));
    if (details && details.tagName === "DETAILS") details.open = true;
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const details = link && by(link.getAttribute("href").slice(1));
    if (details && details.tagName === "DETAILS") details.open = true;
  });
  reveal();

  // An animation stands still for those who asked for calm, and for everyone at the press of a button.
  for (const film of document.querySelectorAll(".film img")) {
    const button = film.closest(".film").querySelector("button"), moving = film.src;
    const run = (running) => {
      film.src = running ? moving : film.dataset.still;
      button.textContent = running ? "Stop the animation" : "Play the animation";
      button.hidden = false;
    };
    button.addEventListener("click", () => run(film.src !== moving));
    run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  }
})();
