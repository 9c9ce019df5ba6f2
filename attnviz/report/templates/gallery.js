"use strict";

// What the data scripts call; each file is asked for when it is needed, and forgotten when many others were.
const attnviz = (() => {
  const images = [], stores = { thumbs: new Map(), data: new Map(), columns: new Map() };
  const most = { thumbs: 400, data: 6, columns: 24 }, asked = new Map();
  const index = ({ items, names, labels, models }) => {
    const states = models.map((one) => unpacked(one.states));
    const shares = models.map((one) => new Float32Array(unpacked(one.probability).buffer));
    items.forEach((item, at) => {
      images.push({
        item, name: names[at], plain: names[at].toLowerCase(), label: labels[at],
        answers: models.map((one, model) => ({ target: one.targets[at], state: states[model][at], share: shares[model][at] })),
      });
    });
  };
  const keep = (kind) => (number, value) => {
    const store = stores[kind];
    store.set(number, value);
    if (store.size > most[kind]) store.delete(store.keys().next().value);
  };
  const load = (kind, number) => {
    const store = stores[kind], source = `page/${kind}/${kind === "columns" ? "" : "part-"}${String(number).padStart(6, "0")}.js`;
    if (store.has(number)) return Promise.resolve(store.get(number));
    if (!asked.has(source)) {
      asked.set(source, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = source;
        script.onload = () => resolve(store.get(number));
        script.onerror = () => reject(new Error(`${source} is not there`));
        document.head.append(script);
        script.addEventListener("load", () => script.remove());
      }).finally(() => asked.delete(source)));
    }
    return asked.get(source);
  };
  return {
    images, load, index,
    ready: (kind, number) => stores[kind].get(number),
    thumbs: keep("thumbs"), data: keep("data"),
    column: (number, text) => keep("columns")(number, new Float32Array(unpacked(text).buffer)),
  };
})();

document.addEventListener("DOMContentLoaded", () => {
  const data = JSON.parse(by("data").textContent), { images } = attnviz;
  const [ABSENT, FAILED, UNKNOWN, WRONG, CORRECT] = [0, 1, 2, 3, 4];
  const signs = { [CORRECT]: "✓", [WRONG]: "✗" }, words = { [CORRECT]: "correct", [WRONG]: "wrong" };
  const element = (tag, name, text) => {
    const one = document.createElement(tag);
    if (name) one.className = name;
    if (text !== undefined) one.textContent = text;
    return one;
  };
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const column = (at) => {
    const [model, kind, subject, other, measure] = data.columns[at];
    return { model, kind, subject, other, measure: measure.replaceAll("_", " ") };
  };
  const title = (name) => (data.words[`attribution/${name}`] || { title: name }).title;
  const about = ({ kind, subject, other }) => {
    if (kind === "answer") return "answer";
    if (!subject) return { pair: "all pairs of maps", site: "all sites", attention: "all attention maps", attribution: "all attributions" }[kind] || kind;
    return kind === "pair" ? `${title(subject)} and ${title(other)}` : kind === "attribution" ? title(subject) : subject;
  };

  // ---- The gallery: of all images, those that are seen are in the page.
  const box = by("grid"), list = by("cards"), shown = new Map();
  const ROW = 208, WIDTH = 148;
  let chosen = images.map((_, at) => at), across = 1, values = null, model = 0;
  const blank = () => element("span", "blank");
  const card = (place) => {
    const image = images[chosen[place]], answer = image.answers[model], item = element("li"), link = element("a", "card");
    link.href = `#${image.item}`;
    link.dataset.place = place;
    item.setAttribute("aria-setsize", chosen.length);
    item.setAttribute("aria-posinset", place + 1);
    const picture = blank();
    if (answer.state === FAILED) picture.textContent = "failed";
    const name = element("bdi", "name", image.name.split("/").pop() || image.name);
    name.title = image.name;
    const line = element("span", "line");
    if (answer.state >= UNKNOWN) {
      if (signs[answer.state]) {
        const sign = element("span", "mark-state", `${signs[answer.state]} `);
        sign.setAttribute("role", "img");
        sign.setAttribute("aria-label", words[answer.state]);
        line.append(sign);
      }
      line.append(answer.target);
    } else line.append(answer.state === FAILED ? "no answer" : "not there yet");
    const foot = element("span", "line muted", values ? number(values[image.item]) : answer.state >= UNKNOWN ? `p = ${number(answer.share)}` : "");
    link.append(picture, name, line, foot);
    item.append(link);
    const shard = Math.floor(image.item / data.shard);
    const fill = (thumbs) => {
      const uri = thumbs && thumbs[image.item];
      if (!uri || !item.isConnected) return;
      const photo = new Image(128, 128);
      photo.alt = "";
      photo.src = uri;
      picture.replaceWith(photo);
    };
    const ready = attnviz.ready("thumbs", shard);
    return [item, () => (ready ? fill(ready) : attnviz.load("thumbs", shard).then(fill, () => {}))];
  };
  const draw = () => {
    const width = list.clientWidth;
    across = Math.max(1, Math.floor(width / WIDTH));
    const side = width / across;
    const row = Math.max(ROW, side + 66);
    list.style.height = `${Math.ceil(chosen.length / across) * row}px`;
    box.style.height = `min(76vh, 760px, ${Math.max(1, Math.ceil(chosen.length / across)) * row + 26}px)`;
    const first = Math.max(0, Math.floor(box.scrollTop / row) - 1) * across;
    const last = Math.min(chosen.length, (Math.ceil((box.scrollTop + box.clientHeight) / row) + 1) * across);
    for (const [place, item] of shown) {
      if (place >= first && place < last) continue;
      item.remove();
      shown.delete(place);
    }
    for (let place = first; place < last; place += 1) {
      let item = shown.get(place), fill = null;
      if (!item) {
        [item, fill] = card(place);
        list.append(item);
        shown.set(place, item);
      }
      Object.assign(item.style, { width: `${side}px`, height: `${row}px`, transform: `translate(${(place % across) * side}px, ${Math.floor(place / across) * row}px)` });
      if (fill) fill();
    }
    return row;
  };
  const redraw = () => {
    for (const item of shown.values()) item.remove();
    shown.clear();
    draw();
  };
  const reveal = (place, focus) => {
    const row = draw(), top = Math.floor(place / across) * row;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + row > box.scrollTop + box.clientHeight) box.scrollTop = top + row - box.clientHeight;
    draw();
    if (focus && shown.has(place)) shown.get(place).querySelector("a").focus({ preventScroll: true });
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
    const [right, down] = arrows[event.key] || [0, 0], place = Number(link.dataset.place);
    const next = event.key === "Home" ? 0 : event.key === "End" ? chosen.length - 1 : place + right + down * across;
    if (next >= 0 && next < chosen.length) reveal(next, true);
  });
  new ResizeObserver(draw).observe(box);

  // ---- Filter, sort, search.
  const controls = { search: by("search"), model: by("model"), label: by("label"), state: by("state"), sort: by("sort"), order: by("order") };
  const choose = async () => {
    model = Number(controls.model.value);
    const text = controls.search.value.trim().toLowerCase(), { value: label } = controls.label, { value: state } = controls.state;
    const found = [];
    images.forEach((image, at) => {
      if (text && !image.plain.includes(text)) return;
      if (label && image.label !== data.labels[Number(label)]) return;
      if (state && image.answers[model].state !== Number(state)) return;
      found.push(at);
    });
    const { value: sort } = controls.sort, way = Number(controls.order.value);
    const own = Number.isInteger(Number(sort)) && sort !== "";
    const next = own ? await attnviz.load("columns", Number(sort)) : null;
    if (controls.sort.value !== sort) return; // another was asked for meanwhile
    values = next;
    const key = values ? (at) => values[images[at].item] : sort === "share" ? (at) => images[at].answers[model].share : null;
    if (sort === "name") found.sort((a, b) => way * (images[a].plain < images[b].plain ? -1 : images[a].plain > images[b].plain ? 1 : 0));
    else if (key) {
      found.sort((a, b) => {
        const [left, right] = [key(a), key(b)];
        if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right); // what has no number comes last
        return way * (left - right);
      });
    } else if (way < 0) found.reverse();
    chosen = found;
    const total = images.length.toLocaleString("en");
    by("count").textContent = found.length === images.length ? `${total} images` : `${found.length.toLocaleString("en")} of ${total} images`;
    box.scrollTop = 0;
    redraw();
  };
  const options = () => {
    const groups = new Map([["Images", [new Option("as listed", ""), new Option("name", "name"), new Option("probability", "share")]]]);
    const kinds = { answer: "answer", attention: "attention maps", attribution: "attributions", site: "attention g(x)", pair: "agreement" };
    data.columns.forEach((_, at) => {
      const one = column(at), name = `${data.models.length > 1 ? `${one.model}, ` : ""}${kinds[one.kind] || one.kind}`;
      if (!groups.has(name)) groups.set(name, []);
      const option = new Option(`${one.measure}${one.kind === "answer" ? "" : ` · ${about(one)}`}`, at);
      if (one.subject) groups.get(name).push(option);
      else groups.get(name).unshift(option);
    });
    controls.sort.replaceChildren(...[...groups].map(([name, members]) => {
      const group = document.createElement("optgroup");
      group.label = name;
      group.append(...members);
      return group;
    }));
    const named = data.labels.map((label, at) => [label, at]).sort(([a], [b]) => (a < b ? -1 : 1));
    controls.label.append(...named.map(([label, at]) => new Option(label, at)));
  };
  for (const control of [controls.model, controls.label, controls.state, controls.sort, controls.order]) control.addEventListener("change", choose);
  controls.search.addEventListener("input", choose);
  by("filters").addEventListener("submit", (event) => event.preventDefault());

  // ---- The page of one image.
  const paint = ({ width, height, data: steps }, colours) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const brush = canvas.getContext("2d"), picture = brush.createImageData(width, height);
    steps.forEach((step, at) => picture.data.set([colours[3 * step], colours[3 * step + 1], colours[3 * step + 2], 255], 4 * at));
    brush.putImageData(picture, 0, 0);
    return canvas.toDataURL();
  };
  const tables = Object.fromEntries(Object.entries(data.palettes).map(([name, text]) => [name, unpacked(text)]));
  const photoOf = (known, name) => known.photos[name] || known.photos[""] || Object.values(known.photos)[0] || "";
  const viewsOf = (known) => Object.entries(known.models).flatMap(([name, { maps = [] }]) => maps.map((map) => {
    const steps = { width: map.steps.width, height: map.steps.height, data: unpacked(map.steps.data) };
    const many = data.models.length > 1, text = data.words[map.key];
    return {
      ...map, ...text, steps, model: name, short: text.title, name: `${name}/${map.key}`, title: many ? `${text.title} · ${name}` : text.title,
      uri: paint(steps, tables[map.palette]), gradient: data.gradients[map.palette], photo: photoOf(known, name),
    };
  }));
  const bars = (name, answer) => {
    const list = element("ol", "bars predictions");
    for (const [label, share] of answer.top) {
      const row = element("li", label === answer.target ? "target" : ""), bar = element("span", "bar"), full = element("i");
      full.style.width = `${100 * share}%`;
      bar.setAttribute("aria-hidden", "true");
      bar.append(full);
      row.append(element("span", "label", label), element("span", "value", share.toFixed(3)), bar);
      list.append(row);
    }
    return list;
  };
  const tell = (image, known) => {
    const parts = data.models.filter((name) => known.models[name]).flatMap((name) => {
      const answer = known.models[name], at = data.models.indexOf(name), state = words[image.answers[at].state];
      const head = element("h2", "small", data.models.length > 1 ? `What ${name} answers` : "What the model answers");
      if (answer.reason) return [head, element("p", "muted", `Failed: ${answer.reason}`)];
      return [head, element("p", "muted", image.label === null ? "There is no label." : `The label is ${image.label}${state ? `: ${state}` : ", which the model has no class for"}.`), bars(name, answer)];
    });
    const pages = (data.details[image.item] || []).map((file) => {
      const line = element("p"), link = element("a", "", `Everything about it: ${file}`);
      link.href = `details/${encodeURIComponent(file)}`;
      line.append(link);
      return line;
    });
    by("answers").replaceChildren(...parts, ...pages);
  };
  const tile = (view) => {
    const item = element("li"), button = element("button"), stack = element("span", "stack linked"), at = element("span", "at-tile");
    const photo = new Image(), map = new Image();
    [photo.alt, map.alt, photo.src, map.src] = ["", "", view.photo, view.uri];
    at.dataset.at = view.name;
    stack.append(photo, map, at);
    const name = element("span", "tile-title"), ramp = element("div", "ramp thin"), ends = element("div", "ends");
    write(name, view.title);
    ramp.style.background = view.gradient;
    ramp.setAttribute("aria-hidden", "true");
    ends.append(...["low", "middle", "high"].map((end) => element("span", "", view[end])));
    button.type = "button";
    button.dataset.map = view.name;
    button.setAttribute("aria-label", `Show ${view.title} large`);
    button.append(stack, name);
    button.addEventListener("click", () => {
      viewer.choose(view.name);
      by("name").scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
    });
    cursor.link(stack);
    item.append(button, ramp, ends);
    return item;
  };
  const table = (caption, rows) => {
    // Rows are [what, measure, text, why]: a line for what, a column for each measure.
    const measures = [...new Set(rows.map(([, measure]) => measure))], lines = [...new Set(rows.map(([what]) => what))];
    const cells = new Map(rows.map(([what, measure, text, why]) => [`${what}\n${measure}`, [text, why]]));
    const scroll = element("div", "scroll"), grid = element("table"), head = element("tr"), body = element("tbody"), top = element("thead");
    const heading = (text, scope) => Object.assign(element("th", "", text), { scope });
    head.append(heading("", "col"), ...measures.map((one) => heading(one, "col")));
    head.firstChild.append(element("span", "sr", "what"));
    for (const what of lines) {
      const line = element("tr");
      line.append(heading(what, "row"), ...measures.map((measure) => {
        const [text, why] = cells.get(`${what}\n${measure}`) || ["", ""], cell = element("td", "", text);
        if (why) cell.title = why;
        return cell;
      }));
      body.append(line);
    }
    top.append(head);
    grid.append(top, body);
    scroll.append(grid);
    Object.assign(scroll, { tabIndex: 0 });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", caption);
    return scroll;
  };
  const numbers = (known) => {
    const titles = { answer: "The answer", maps: "Maps", pair: "Agreement of its maps", site: "Attention g(x)" };
    const parts = [];
    for (const [name, { values: list = [] }] of Object.entries(known.models)) {
      for (const [group, heading] of Object.entries(titles)) {
        const rows = list.map(([at, value, why]) => [column(at), value, why])
          .filter(([{ kind }]) => (group === "maps" ? kind === "attention" || kind === "attribution" : kind === group))
          .map(([one, value, why]) => [about(one), one.measure, value === null ? "–" : number(value), why]);
        if (!rows.length) continue;
        const caption = data.models.length > 1 ? `${heading} · ${name}` : heading;
        parts.push(element("h3", "", caption), table(`${caption}, in numbers`, rows));
      }
    }
    by("numbers").replaceChildren(...(parts.length ? parts : [element("p", "muted", "It has none.")]));
  };
  let now = null, latest = 0;
  const places = () => new Map(chosen.map((at, place) => [images[at].item, place]));
  const step = (link, place) => {
    link.toggleAttribute("aria-disabled", place < 0 || place >= chosen.length);
    if (place >= 0 && place < chosen.length) link.href = `#${images[chosen[place]].item}`;
    else link.removeAttribute("href");
  };
  const open = async (image) => {
    const ticket = (latest += 1), mode = viewer.mode;
    const name = image.name.split("/").pop() || image.name;
    by("name").textContent = name;
    document.title = name;
    by("facts").textContent = image.name;
    const place = places().get(image.item);
    by("position").textContent = place === undefined ? "not in the gallery's choice" : `${place + 1} of ${chosen.length}`;
    step(by("previous"), place === undefined ? -1 : place - 1);
    step(by("next"), place === undefined ? -1 : place + 1);
    [by("whole").hidden, by("single").hidden] = [true, false];
    let known;
    try {
      known = (await attnviz.load("data", Math.floor(image.item / data.shard)))[image.item] || { photos: {}, models: {} };
    } catch (error) {
      by("answers").replaceChildren(element("p", "muted", String(error.message)));
      return;
    }
    if (ticket !== latest) return;
    const views = viewsOf(known), names = new Set(views.map((view) => view.name)), was = viewer.shown;
    const preferred = views.find((view) => view.kind === "attribution") || views[0] || { name: "" };
    const first = names.has(was.a) ? was.a : preferred.name;
    const rest = views.find((view) => view.kind === "attention" && view.name !== first) || views.find((view) => view.name !== first) || { name: "" };
    const many = data.models.length > 1;
    const groups = data.models.flatMap((model) => Object.entries(data.groups).map(([kind, heading]) =>
      [many ? `${heading} · ${model}` : heading, views.filter((view) => view.kind === kind && view.model === model)])).filter(([, members]) => members.length);
    const size = Object.values(known.models).map((one) => one.size).find(Boolean);
    if (size) by("facts").textContent = `${image.name} · ${size[0]} × ${size[1]} px`;
    viewer.show({ views, groups, photo: photoOf(known, data.models[0]), alt: `${name}, as the model sees it`, palettes: data.palettes, first, other: names.has(was.b) ? was.b : rest.name });
    viewer.setMode(mode);
    tell(image, known);
    by("tiles").replaceChildren(...views.map(tile));
    by("tiles").dataset.of = `#${image.item}`;
    by("tiles-of").hidden = !views.length;
    numbers(known);
    if (cursor.place) cursor.set(cursor.place, true);
  };
  const route = () => {
    const item = /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : null;
    const image = item === null ? null : images.find((one) => one.item === item);
    if (image && image === now) return;
    if (image) {
      const fresh = now === null;
      now = image;
      open(image);
      if (fresh) scrollTo(0, 0);
      by("name").focus({ preventScroll: true });
      return;
    }
    [by("whole").hidden, by("single").hidden] = [false, true];
    document.title = overviewTitle;
    const left = now;
    now = null;
    if (!left) return;
    const place = places().get(left.item);
    by("gallery").scrollIntoView();
    if (place !== undefined) reveal(place, true);
  };
  const overviewTitle = document.title;
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    if (!now || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select, input:not([type=radio])")) return;
    const free = !event.target.closest("input, #stages");
    const way = { j: "next", k: "previous", ...(free ? { ArrowRight: "next", ArrowLeft: "previous" } : {}) }[event.key];
    if (way && by(way).hasAttribute("href")) {
      event.preventDefault();
      location.hash = by(way).getAttribute("href");
      route(); // now, and not with the event: keys may come quickly
    } else if (event.key === "Escape" && free) location.hash = "#gallery";
  });

  images.sort((a, b) => a.item - b.item);
  options();
  by("filters").hidden = box.hidden = false;
  choose();
  route();
});
