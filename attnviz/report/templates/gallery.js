"use strict";

// The gallery: a filtered and sorted list of images, of which only the visible ones are in the page.
const gallery = (() => {
  const { images } = attnviz;
  const box = by("grid"), list = by("cards"), shown = new Map();
  const ROW = 208, WIDTH = 148;
  const signs = { [CORRECT]: "✓", [WRONG]: "✗" };
  let chosen = [], across = 1, values = null, model = 0;

  const card = (rank) => {
    const image = images[chosen[rank]], prediction = image.predictions[model], item = element("li"), link = element("a", "card");
    link.href = `#${image.item}`;
    link.dataset.rank = rank;
    item.setAttribute("aria-setsize", chosen.length);
    item.setAttribute("aria-posinset", rank + 1);
    const picture = element("span", "blank", prediction.state === FAILED ? "failed" : "");
    const name = element("bdi", "name", baseName(image.name));
    name.title = image.name;
    const line = element("span", "line");
    if (prediction.state >= UNKNOWN) {
      if (signs[prediction.state]) {
        const sign = element("span", "state-sign", `${signs[prediction.state]} `);
        sign.setAttribute("role", "img");
        sign.setAttribute("aria-label", stateNames[prediction.state]);
        line.append(sign);
      }
      line.append(prediction.target);
    } else line.append(prediction.state === FAILED ? "no prediction" : "not processed");
    const value = values ? number(values[image.item]) : prediction.state >= UNKNOWN ? `p = ${number(prediction.share)}` : "";
    link.append(picture, name, line, element("span", "line muted", value));
    item.append(link);
    const fill = (thumbs) => {
      const uri = thumbs && thumbs[image.item];
      if (!uri || !item.isConnected) return;
      const thumbnail = new Image(128, 128);
      [thumbnail.alt, thumbnail.src] = ["", uri];
      picture.replaceWith(thumbnail);
    };
    const shard = Math.floor(image.item / run.shard), loaded = attnviz.loaded("thumbs", shard);
    return [item, () => (loaded ? fill(loaded) : attnviz.load("thumbs", shard).then(fill, () => {}))];
  };
  const draw = () => {
    const width = list.clientWidth;
    across = Math.max(1, Math.floor(width / WIDTH));
    const side = width / across, row = Math.max(ROW, side + 66), rows = Math.ceil(chosen.length / across);
    list.style.height = `${rows * row}px`;
    box.style.height = `min(76vh, 760px, ${Math.max(1, rows) * row + 26}px)`;
    const first = Math.max(0, Math.floor(box.scrollTop / row) - 1) * across;
    const last = Math.min(chosen.length, (Math.ceil((box.scrollTop + box.clientHeight) / row) + 1) * across);
    for (const [rank, item] of shown) {
      if (rank >= first && rank < last) continue;
      item.remove();
      shown.delete(rank);
    }
    for (let rank = first; rank < last; rank += 1) {
      let item = shown.get(rank), fill = null;
      if (!item) {
        [item, fill] = card(rank);
        list.append(item);
        shown.set(rank, item);
      }
      Object.assign(item.style, { width: `${side}px`, height: `${row}px`, transform: `translate(${(rank % across) * side}px, ${Math.floor(rank / across) * row}px)` });
      if (fill) fill();
    }
    return row;
  };
  const redraw = () => {
    for (const item of shown.values()) item.remove();
    shown.clear();
    draw();
  };
  const focus = (rank) => {
    const row = draw(), top = Math.floor(rank / across) * row;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + row > box.scrollTop + box.clientHeight) box.scrollTop = top + row - box.clientHeight;
    draw();
    if (shown.has(rank)) shown.get(rank).querySelector("a").focus({ preventScroll: true });
  };
  let queued = false;
  box.addEventListener("scroll", () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      draw();
    });
  });
  list.addEventListener("keydown", (event) => {
    const link = event.target.closest("a");
    if (!link || !(event.key in arrows || event.key === "Home" || event.key === "End")) return;
    event.preventDefault();
    const [right, down] = arrows[event.key] || [0, 0], rank = Number(link.dataset.rank);
    const next = event.key === "Home" ? 0 : event.key === "End" ? chosen.length - 1 : rank + right + down * across;
    if (next >= 0 && next < chosen.length) focus(next);
  });

  // ---- Filter, sort, search.
  const controls = { search: by("search"), model: by("model"), label: by("label"), state: by("state"), sort: by("sort"), order: by("order") };
  const filtered = () => {
    const text = controls.search.value.trim().toLowerCase(), { value: label } = controls.label, { value: state } = controls.state;
    const indices = images.map((_, at) => at);
    return indices.filter((at) => {
      const image = images[at];
      if (text && !image.lowerCase.includes(text)) return false;
      if (label && image.label !== run.labels[Number(label)]) return false;
      return !state || image.predictions[model].state === Number(state);
    });
  };
  const sorted = (indices, sort) => {
    const direction = Number(controls.order.value);
    const byName = (a, b) => (images[a].lowerCase < images[b].lowerCase ? -1 : images[a].lowerCase > images[b].lowerCase ? 1 : 0);
    if (sort === "name") return indices.sort((a, b) => direction * byName(a, b));
    const key = values ? (at) => values[images[at].item] : sort === "share" ? (at) => images[at].predictions[model].share : null;
    if (!key) return direction < 0 ? indices.reverse() : indices;
    return indices.sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right); // missing numbers last
      return direction * (left - right);
    });
  };
  const update = async () => {
    model = Number(controls.model.value);
    const { value: sort } = controls.sort, isColumn = sort !== "" && Number.isInteger(Number(sort));
    const next = isColumn ? await attnviz.load("columns", Number(sort)) : null;
    if (controls.sort.value !== sort) return; // the sort order was changed during loading
    values = next;
    chosen = sorted(filtered(), sort);
    const total = images.length.toLocaleString("en");
    by("count").textContent = chosen.length === images.length ? `${total} images` : `${chosen.length.toLocaleString("en")} of ${total} images`;
    box.scrollTop = 0;
    redraw();
  };
  const addOptions = () => {
    const groups = new Map([["Images", [new Option("as listed", ""), new Option("name", "name"), new Option("probability", "share")]]]);
    const kinds = { answer: "prediction", attention: "attention maps", attribution: "attributions", site: "attention g(x)", pair: "agreement" };
    run.columns.forEach((_, at) => {
      const one = column(at), name = `${run.models.length > 1 ? `${one.model}, ` : ""}${kinds[one.kind] || one.kind}`;
      if (!groups.has(name)) groups.set(name, []);
      const option = new Option(`${one.measure}${one.kind === "answer" ? "" : ` · ${subjectTitle(one)}`}`, at);
      if (one.subject) groups.get(name).push(option);
      else groups.get(name).unshift(option);
    });
    controls.sort.replaceChildren(...[...groups].map(([name, members]) => {
      const group = document.createElement("optgroup");
      group.label = name;
      group.append(...members);
      return group;
    }));
    const labels = run.labels.map((label, at) => [label, at]).sort(([a], [b]) => (a < b ? -1 : 1));
    controls.label.append(...labels.map(([label, at]) => new Option(label, at)));
  };

  images.sort((a, b) => a.item - b.item);
  chosen = images.map((_, at) => at);
  addOptions();
  for (const control of [controls.model, controls.label, controls.state, controls.sort, controls.order]) control.addEventListener("change", update);
  controls.search.addEventListener("input", update);
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  new ResizeObserver(draw).observe(box);
  by("filters").hidden = box.hidden = false;
  update();
  return {
    focus,
    get length() { return chosen.length; },
    image: (rank) => images[chosen[rank]],
    rankOf: (image) => chosen.findIndex((at) => images[at] === image),
  };
})();
