"use strict";
(() => {
  const data = JSON.parse(by("data").textContent);
  const image = document.querySelector("#pane-a .base-image");
  const rest = data.views.filter(({ name }) => name !== data.first);
  viewer.show({
    ...data,
    image: image.src,
    alt: image.alt,
    groups: Object.entries(data.groups)
      .map(([kind, title]) => [title, data.views.filter((view) => view.kind === kind)])
      .filter(([, views]) => views.length),
    second: (rest.find(({ kind }) => kind === "attribution") || rest[0] || { name: "" }).name,
  });
  for (const tile of document.querySelectorAll("button[data-map]")) {
    cursor.link(tile.querySelector(".linked"));
    tile.addEventListener("click", () => {
      viewer.choose(tile.dataset.map);
      by("title").scrollIntoView({ behavior: reducedMotion() ? "auto" : "smooth" });
      document.querySelector('input[name="map"]:checked').focus({ preventScroll: true });
    });
  }

  // A link to a site opens its details.
  const open = (id) => {
    const details = id && by(id);
    if (details && details.tagName === "DETAILS") details.open = true;
  };
  const openTarget = () => open(decodeURIComponent(location.hash.slice(1)));
  addEventListener("hashchange", openTarget);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link) open(link.getAttribute("href").slice(1));
  });
  openTarget();

  // Animations do not start with the preference for reduced motion, and stop by a button.
  for (const picture of document.querySelectorAll(".animation img")) {
    const button = picture.closest(".animation").querySelector("button"), moving = picture.src;
    const run = (running) => {
      picture.src = running ? moving : picture.dataset.still;
      button.textContent = running ? "Stop the animation" : "Play the animation";
      button.hidden = false;
    };
    button.addEventListener("click", () => run(picture.src !== moving));
    run(!reducedMotion());
  }
})();
