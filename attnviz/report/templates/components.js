"use strict";
(() => {
  const as = (Type, text) => new Type(unpacked(text).buffer);
  const share = (value) => (value >= 0.995 ? value.toFixed(2) : value.toPrecision(2));

  // A picker is an image on which a position is selected by pointer or by arrow keys.
  const picker = (figure, { onPosition, onArrow }) => {
    const button = figure.querySelector(".picker");
    button.hidden = false;
    figure.querySelector(".fallback").style.visibility = "hidden";
    button.addEventListener("click", (event) => {
      if (event.detail === 0) return; // Enter and Space have no position
      const box = button.getBoundingClientRect();
      onPosition((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    button.addEventListener("keydown", (event) => {
      if (!(event.key in arrows)) return;
      event.preventDefault();
      onArrow(...arrows[event.key]);
    });
  };

  const queries = async (figure) => {
    const data = figure.dataset;
    const [, count, rows, columns] = data.shape.split(",").map(Number);
    const grey = (await pixels(data.maps)).data, colours = unpacked(data.colours);
    const maps = Uint8Array.from({ length: grey.length / 4 }, (_, at) => grey[4 * at]);
    const [high, unplaced, centres] = [data.high, data.unplaced, data.centres].map((text) => as(Float32Array, text));
    const status = figure.querySelector(".status"), names = status.dataset.names.split("|");
    const canvas = figure.querySelector("canvas"), cell = figure.querySelector(".query-cell"), select = figure.querySelector("select");
    const tokens = [...figure.querySelectorAll(".token")];
    const hasPosition = (query) => centres[2 * query] >= 0;
    let query = Number(data.first);
    let last = hasPosition(query) ? query : -1; // the last query with a position, from which arrow keys move
    [canvas.width, canvas.height] = [columns, rows];
    const context = canvas.getContext("2d");

    const draw = () => {
      const map = Number(select ? select.value : 0) * count + query, start = map * rows * columns;
      const picture = context.createImageData(columns, rows);
      let best = 0;
      for (let at = 0; at < rows * columns; at += 1) {
        const step = maps[start + at];
        if (step > maps[start + best]) best = at;
        picture.data.set([colours[3 * step], colours[3 * step + 1], colours[3 * step + 2], 255], 4 * at);
      }
      context.putImageData(picture, 0, 0);
      cell.hidden = !hasPosition(query);
      cell.style.left = `${100 * centres[2 * query]}%`;
      cell.style.top = `${100 * centres[2 * query + 1]}%`;
      for (const token of tokens) token.setAttribute("aria-pressed", String(Number(token.dataset.query) === query));
      const position = `row ${Math.floor(best / columns) + 1}, column ${(best % columns) + 1} of ${rows} × ${columns}`;
      const rest = unplaced[map] > 0.0005 ? ` Tokens without a position have ${share(unplaced[map])}.` : "";
      status.textContent = `Query: ${names[query]}. Largest weight: ${share(high[map])} at ${position}. Colours span 0 to this weight.${rest}`;
    };
    const choose = (next) => {
      query = next;
      if (hasPosition(query)) last = query;
      draw();
    };
    const nearest = (distance) => {
      let best = -1, least = Infinity;
      for (let at = 0; at < count; at += 1) {
        const value = hasPosition(at) ? distance(centres[2 * at], centres[2 * at + 1]) : Infinity;
        if (value < least) [best, least] = [at, value];
      }
      return best;
    };
    const onPosition = (x, y) => {
      const next = nearest((left, top) => (left - x) ** 2 + (top - y) ** 2);
      if (next >= 0) choose(next);
    };
    const onArrow = (across, down) => {
      if (last < 0) return onPosition(0.5, 0.5);
      const x = centres[2 * last], y = centres[2 * last + 1];
      const next = nearest((left, top) => {
        const along = (left - x) * across + (top - y) * down, aside = Math.abs((left - x) * down) + Math.abs((top - y) * across);
        return along > 1e-4 ? along + 8 * aside : Infinity;
      });
      choose(next >= 0 ? next : last);
    };
    picker(figure, { onPosition, onArrow });
    for (const token of tokens) token.addEventListener("click", () => choose(Number(token.dataset.query)));
    if (select) select.addEventListener("change", draw);
    draw();
  };

  const points = (figure) => {
    const low = Number(figure.dataset.low), high = Number(figure.dataset.high), ratio = Number(figure.dataset.ratio);
    const wide = Math.round(840 * Math.min(1, ratio)), tall = Math.round(840 / Math.max(1, ratio));
    const tints = ["#ffc400", "#ff5c3c", "#40b4ff"];
    const levels = [...figure.querySelectorAll(".levels li")].map((row) => {
      const [rows, columns] = row.dataset.grid.split(",").map(Number);
      return {
        rows, columns, count: Number(row.dataset.count), checkbox: row.querySelector("input"),
        coordinates: as(Uint16Array, row.dataset.points), weights: unpacked(row.dataset.weights),
      };
    });
    const canvas = figure.querySelector("canvas"), status = figure.querySelector(".status");
    [canvas.width, canvas.height] = [wide, tall];
    const context = canvas.getContext("2d"), first = levels[0];
    let row = Math.floor(first.rows / 2), column = Math.floor(first.columns / 2);

    const cellAt = (value, size) => clamp(Math.floor(value * size), 0, size - 1);
    // [x, y, weight] of the sampled points of each level, for the selected output position.
    const sampled = () => {
      let found = [[(column + 0.5) / first.columns, (row + 0.5) / first.rows, 1]];
      return levels.map((level) => {
        found = found.flatMap(([x, y, weight]) => {
          const cell = cellAt(y, level.rows) * level.columns + cellAt(x, level.columns);
          return Array.from({ length: level.count }, (_, tap) => {
            const index = cell * level.count + tap;
            const [left, top] = [0, 1].map((axis) => low + ((high - low) * level.coordinates[2 * index + axis]) / 65535);
            return [left, top, (weight * level.weights[index]) / 255];
          });
        });
        return found;
      });
    };
    // Discs, squares and triangles, so that layers differ by more than their colour.
    const shape = (depth, x, y, size) => {
      context.beginPath();
      if (depth % 3 === 0) context.arc(x, y, size, 0, 7);
      else if (depth % 3 === 1) context.rect(x - size, y - size, 2 * size, 2 * size);
      else for (const [across, down] of [[0, -1.3], [1.2, 1], [-1.2, 1]]) context.lineTo(x + across * size, y + down * size);
      context.closePath();
    };
    const drawLevel = (depth, found) => {
      context.fillStyle = tints[depth % 3];
      context.strokeStyle = "rgb(0 0 0 / 0.55)";
      for (const [x, y, weight] of found) {
        if (weight < 0.02) continue;
        shape(depth, x * wide, y * tall, (9 - 2 * depth) * Math.sqrt(weight) + 1);
        context.fill();
        if (depth === 0) context.stroke();
      }
    };
    const drawCross = (x, y) => {
      for (const [tint, width] of [["#000", 7], ["#fff", 3]]) {
        context.strokeStyle = tint;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(x - 16, y);
        context.lineTo(x + 16, y);
        context.moveTo(x, y - 16);
        context.lineTo(x, y + 16);
        context.stroke();
      }
      context.lineWidth = 1;
    };
    const draw = () => {
      const found = sampled();
      context.clearRect(0, 0, wide, tall);
      for (let depth = found.length - 1; depth >= 0; depth -= 1) {
        if (levels[depth].checkbox.checked) drawLevel(depth, found[depth]);
      }
      drawCross(((column + 0.5) / first.columns) * wide, ((row + 0.5) / first.rows) * tall);
      const outside = found[0].filter(([left, top]) => left < 0 || left > 1 || top < 0 || top > 1).length;
      const counts = found.map((one) => one.length).join(", then ");
      status.textContent = `Output at row ${row + 1}, column ${column + 1} of ${first.rows} × ${first.columns} (white cross): samples ${counts} points${outside ? `; ${outside} of the first ${first.count} outside of the image` : ""}.`;
    };
    const move = (nextRow, nextColumn) => {
      row = clamp(nextRow, 0, first.rows - 1);
      column = clamp(nextColumn, 0, first.columns - 1);
      draw();
    };
    picker(figure, {
      onPosition: (x, y) => move(cellAt(y, first.rows), cellAt(x, first.columns)),
      onArrow: (across, down) => move(row + down, column + across),
    });
    for (const level of levels) level.checkbox.addEventListener("change", draw);
    draw();
  };

  // A component is decoded when its details are first opened, since a page can have many.
  const setups = { queries, points };
  for (const figure of document.querySelectorAll(".interactive")) {
    const details = figure.closest("details");
    const start = async () => {
      if (!details.open || figure.dataset.ready) return;
      figure.dataset.ready = "loading";
      await setups[figure.dataset.component](figure);
      figure.dataset.ready = "yes";
    };
    details.addEventListener("toggle", start);
    start();
  }
  for (const picture of document.querySelectorAll(".component .linked")) cursor.link(picture);
})();
