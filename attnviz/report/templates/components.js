"use strict";
(() => {
  const as = (Type, text) => new Type(unpacked(text).buffer);
  const share = (value) => (value >= 0.995 ? value.toFixed(2) : value.toPrecision(2));

  // A pad is a photograph to choose a place on, by pointer or by arrow keys.
  const pad = (figure, { onPlace, onArrow }) => {
    const button = figure.querySelector(".pad");
    button.hidden = false;
    figure.querySelector(".fallback").style.visibility = "hidden";
    button.addEventListener("click", (event) => {
      if (event.detail === 0) return; // Enter and Space choose no place
      const box = button.getBoundingClientRect();
      onPlace((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    button.addEventListener("keydown", (event) => {
      if (!(event.key in arrows)) return;
      event.preventDefault();
      onArrow(...arrows[event.key]);
    });
    return button;
  };

  const queries = async (figure) => {
    const data = figure.dataset;
    const [, count, rows, columns] = data.shape.split(",").map(Number);
    const grey = (await pixels(data.maps)).data, colours = unpacked(data.colours);
    const maps = Uint8Array.from({ length: grey.length / 4 }, (_, at) => grey[4 * at]);
    const high = as(Float32Array, data.high), nowhere = as(Float32Array, data.nowhere), spots = as(Float32Array, data.spots);
    const now = figure.querySelector(".now"), names = now.dataset.names.split("|");
    const canvas = figure.querySelector("canvas"), spot = figure.querySelector(".spot"), select = figure.querySelector("select");
    const tokens = [...figure.querySelectorAll(".token")];
    const isPlace = (query) => spots[2 * query] >= 0;
    let query = Number(data.first);
    let at = isPlace(query) ? query : -1; // where arrows start from
    canvas.width = columns;
    canvas.height = rows;
    const brush = canvas.getContext("2d");

    const draw = () => {
      const map = Number(select ? select.value : 0) * count + query, start = map * rows * columns;
      const picture = brush.createImageData(columns, rows);
      let best = 0;
      for (let place = 0; place < rows * columns; place += 1) {
        const step = maps[start + place];
        if (step > maps[start + best]) best = place;
        picture.data.set([colours[3 * step], colours[3 * step + 1], colours[3 * step + 2], 255], 4 * place);
      }
      brush.putImageData(picture, 0, 0);
      spot.hidden = !isPlace(query);
      spot.style.left = `${100 * spots[2 * query]}%`;
      spot.style.top = `${100 * spots[2 * query + 1]}%`;
      for (const token of tokens) token.setAttribute("aria-pressed", String(Number(token.dataset.query) === query));
      const most = `row ${Math.floor(best / columns) + 1}, column ${(best % columns) + 1} of ${rows} × ${columns} (${share(high[map])})`;
      const lost = nowhere[map] > 0.0005 ? ` ${share(nowhere[map])} comes from tokens that stand nowhere.` : "";
      now.textContent = `Query: ${names[query]}. It takes most from ${most}: there the colours end; they start at 0.${lost}`;
    };
    const choose = (next) => {
      query = next;
      if (isPlace(query)) at = query;
      draw();
    };
    const nearest = (distance) => {
      let best = -1, least = Infinity;
      for (let one = 0; one < count; one += 1) {
        const far = isPlace(one) ? distance(spots[2 * one], spots[2 * one + 1], one) : Infinity;
        if (far < least) [best, least] = [one, far];
      }
      return best;
    };
    const place = (x, y) => nearest((left, top) => (left - x) ** 2 + (top - y) ** 2);
    const onPlace = (x, y) => {
      const next = place(x, y);
      if (next >= 0) choose(next);
    };
    const onArrow = (across, down) => {
      if (at < 0) return onPlace(0.5, 0.5);
      const x = spots[2 * at], y = spots[2 * at + 1];
      const next = nearest((left, top) => {
        const along = (left - x) * across + (top - y) * down, aside = Math.abs((left - x) * down) + Math.abs((top - y) * across);
        return along > 1e-4 ? along + 8 * aside : Infinity;
      });
      choose(next >= 0 ? next : at);
    };
    pad(figure, { onPlace, onArrow });
    for (const token of tokens) token.addEventListener("click", () => choose(Number(token.dataset.query)));
    if (select) select.addEventListener("change", draw);
    draw();
  };

  const points = (figure) => {
    const low = Number(figure.dataset.low), high = Number(figure.dataset.high), side = 840;
    const tints = ["#ffc400", "#ff5c3c", "#40b4ff"];
    const levels = [...figure.querySelectorAll(".levels li")].map((row) => {
      const [rows, columns] = row.dataset.grid.split(",").map(Number);
      return {
        rows, columns, count: Number(row.dataset.count), shown: row.querySelector("input"),
        places: as(Uint16Array, row.dataset.points), weights: unpacked(row.dataset.weights),
      };
    });
    const canvas = figure.querySelector("canvas"), now = figure.querySelector(".now");
    canvas.width = canvas.height = side;
    const brush = canvas.getContext("2d"), first = levels[0];
    let row = Math.floor(first.rows / 2), column = Math.floor(first.columns / 2);

    const fit = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value * size)));
    const follow = () => {
      let spots = [[(column + 0.5) / first.columns, (row + 0.5) / first.rows, 1]];
      return levels.map((level) => {
        spots = spots.flatMap(([x, y, weight]) => {
          const cell = fit(y, level.rows) * level.columns + fit(x, level.columns);
          return Array.from({ length: level.count }, (_, tap) => {
            const index = cell * level.count + tap;
            const [left, top] = [0, 1].map((axis) => low + ((high - low) * level.places[2 * index + axis]) / 65535);
            return [left, top, (weight * level.weights[index]) / 255];
          });
        });
        return spots;
      });
    };
    // A disc, a square, a triangle: layers differ by more than their colour.
    const shape = (depth, x, y, size) => {
      brush.beginPath();
      if (depth % 3 === 0) brush.arc(x, y, size, 0, 7);
      else if (depth % 3 === 1) brush.rect(x - size, y - size, 2 * size, 2 * size);
      else for (const [across, down] of [[0, -1.3], [1.2, 1], [-1.2, 1]]) brush.lineTo(x + across * size, y + down * size);
      brush.closePath();
    };
    const draw = () => {
      const found = follow();
      brush.clearRect(0, 0, side, side);
      for (let depth = found.length - 1; depth >= 0; depth -= 1) {
        if (!levels[depth].shown.checked) continue;
        brush.fillStyle = tints[depth % 3];
        brush.strokeStyle = "rgb(0 0 0 / 0.55)";
        for (const [x, y, weight] of found[depth]) {
          if (weight < 0.02) continue;
          shape(depth, x * side, y * side, (9 - 2 * depth) * Math.sqrt(weight) + 1);
          brush.fill();
          if (depth === 0) brush.stroke();
        }
      }
      const [x, y] = [((column + 0.5) / first.columns) * side, ((row + 0.5) / first.rows) * side];
      for (const [tint, width] of [["#000", 7], ["#fff", 3]]) {
        brush.strokeStyle = tint;
        brush.lineWidth = width;
        brush.beginPath();
        brush.moveTo(x - 16, y);
        brush.lineTo(x + 16, y);
        brush.moveTo(x, y - 16);
        brush.lineTo(x, y + 16);
        brush.stroke();
      }
      brush.lineWidth = 1;
      const outside = found[0].filter(([left, top]) => left < 0 || left > 1 || top < 0 || top > 1).length;
      const counts = found.map((one) => one.length).join(", then ");
      now.textContent = `Output at row ${row + 1}, column ${column + 1} of ${first.rows} × ${first.columns} (white cross): reads ${counts} points${outside ? `; ${outside} of the first ${first.count} outside of the photograph` : ""}.`;
    };
    const onPlace = (x, y) => {
      row = fit(y, first.rows);
      column = fit(x, first.columns);
      draw();
    };
    const onArrow = (across, down) => {
      row = Math.min(first.rows - 1, Math.max(0, row + down));
      column = Math.min(first.columns - 1, Math.max(0, column + across));
      draw();
    };
    pad(figure, { onPlace, onArrow });
    for (const level of levels) level.shown.addEventListener("change", draw);
    draw();
  };

  // Unpacked when it is first seen: a page may hold many.
  const makers = { queries, points };
  for (const figure of document.querySelectorAll(".chooses")) {
    const details = figure.closest("details");
    const start = async () => {
      if (!details.open || figure.dataset.ready) return;
      figure.dataset.ready = "soon";
      await makers[figure.dataset.component](figure);
      figure.dataset.ready = "yes";
    };
    details.addEventListener("toggle", start);
    start();
  }
  for (const picture of document.querySelectorAll(".component .linked")) cursor.link(picture);
})();
