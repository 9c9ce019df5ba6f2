"use strict";

// The view of one image: its maps, predictions and measures. The address #17 opens image 17.
(() => {
  const { images } = attnviz, severalModels = run.models.length > 1;

  // ---- Maps.
  const colourTables = Object.fromEntries(Object.entries(run.palettes).map(([name, text]) => [name, unpacked(text)]));
  const paint = ({ width, height, data: steps }, colours) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
    steps.forEach((step, at) => picture.data.set([colours[3 * step], colours[3 * step + 1], colours[3 * step + 2], 255], 4 * at));
    context.putImageData(picture, 0, 0);
    return canvas.toDataURL();
  };
  const pictureOf = (data, model) => data.pictures[model] || data.pictures[""] || Object.values(data.pictures)[0] || "";
  const viewsOf = (data) => Object.entries(data.models).flatMap(([model, { maps = [] }]) => maps.map((map) => {
    const steps = { width: map.steps.width, height: map.steps.height, data: unpacked(map.steps.data) };
    const texts = run.texts[map.key];
    return {
      ...map, ...texts, steps, model, short: texts.title, name: `${model}/${map.key}`, title: severalModels ? `${texts.title} · ${model}` : texts.title,
      uri: paint(steps, colourTables[map.palette]), gradient: run.gradients[map.palette], image: pictureOf(data, model),
    };
  }));
  const groupsOf = (views) => run.models.flatMap((model) => Object.entries(run.groups).map(([kind, heading]) =>
    [severalModels ? `${heading} · ${model}` : heading, views.filter((view) => view.kind === kind && view.model === model)])).filter(([, members]) => members.length);
  const tile = (view) => {
    const item = element("li"), button = element("button"), stack = element("span", "stack linked"), value = element("span", "tile-value");
    const image = new Image(), map = new Image();
    image.addEventListener("load", () => { stack.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`; });
    [image.alt, map.alt, image.src, map.src] = ["", "", view.image, view.uri];
    value.dataset.valueOf = view.name;
    stack.append(image, map, value);
    const name = element("span", "tile-title"), ramp = element("div", "ramp thin"), ends = element("div", "ends");
    write(name, view.title);
    ramp.style.background = view.gradient;
    ramp.setAttribute("aria-hidden", "true");
    ends.append(...["low", "middle", "high"].map((end) => element("span", "", view[end])));
    button.type = "button";
    button.dataset.map = view.name;
    button.setAttribute("aria-label", `Enlarge ${view.title}`);
    button.append(stack, name);
    button.addEventListener("click", () => {
      viewer.choose(view.name);
      by("name").scrollIntoView({ behavior: reducedMotion() ? "auto" : "smooth" });
    });
    cursor.link(stack);
    item.append(button, ramp, ends);
    return item;
  };

  // ---- Predictions and measures.
  const bars = (prediction) => {
    const list = element("ol", "bars predictions");
    for (const [label, share] of prediction.top) {
      const row = element("li", label === prediction.target ? "target" : ""), bar = element("span", "bar"), length = element("i");
      length.style.width = `${100 * share}%`;
      bar.setAttribute("aria-hidden", "true");
      bar.append(length);
      row.append(element("span", "label", label), element("span", "value", share.toFixed(3)), bar);
      list.append(row);
    }
    return list;
  };
  const labelText = (image, model) => {
    if (image.label === null) return "No label.";
    const state = stateNames[image.predictions[run.models.indexOf(model)].state];
    return `Label: ${image.label}, ${state || "not a class of the model"}.`;
  };
  const showPredictions = (image, data) => {
    const parts = run.models.filter((model) => data.models[model]).flatMap((model) => {
      const prediction = data.models[model], heading = element("h2", "small", severalModels ? `Predictions of ${model}` : "Predictions");
      if (prediction.reason) return [heading, element("p", "muted", `Failed: ${prediction.reason}`)];
      return [heading, element("p", "muted", labelText(image, model)), bars(prediction)];
    });
    const links = (run.details[image.item] || []).map((file) => {
      const line = element("p"), link = element("a", "", `Full report: ${file}`);
      link.href = `details/${encodeURIComponent(file)}`;
      line.append(link);
      return line;
    });
    by("predictions").replaceChildren(...parts, ...links);
  };
  // A table of [subject, measure, text, reason]: a row for each subject, a column for each measure.
  const table = (caption, entries) => {
    const measures = [...new Set(entries.map(([, measure]) => measure))], subjects = [...new Set(entries.map(([subject]) => subject))];
    const cells = new Map(entries.map(([subject, measure, text, reason]) => [`${subject}\n${measure}`, [text, reason]]));
    const scroll = element("div", "scroll"), grid = element("table"), head = element("tr"), body = element("tbody"), top = element("thead");
    const heading = (text, scope) => Object.assign(element("th", "", text), { scope });
    head.append(heading("", "col"), ...measures.map((one) => heading(one, "col")));
    head.firstChild.append(element("span", "sr", "name"));
    for (const subject of subjects) {
      const row = element("tr");
      row.append(heading(subject, "row"), ...measures.map((measure) => {
        const [text, reason] = cells.get(`${subject}\n${measure}`) || ["", ""], cell = element("td", "", text);
        if (reason) cell.title = reason;
        return cell;
      }));
      body.append(row);
    }
    top.append(head);
    grid.append(top, body);
    scroll.append(grid);
    Object.assign(scroll, { tabIndex: 0 });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", caption);
    return scroll;
  };
  const showMeasures = (data) => {
    const headings = { answer: "Prediction", maps: "Maps", pair: "Agreement of maps", site: "Attention g(x)" };
    const parts = [];
    for (const [model, { values = [] }] of Object.entries(data.models)) {
      for (const [group, heading] of Object.entries(headings)) {
        const entries = values.map(([at, value, reason]) => [column(at), value, reason])
          .filter(([{ kind }]) => (group === "maps" ? kind === "attention" || kind === "attribution" : kind === group))
          .map(([one, value, reason]) => [subjectTitle(one), one.measure, value === null ? "–" : number(value), reason]);
        if (!entries.length) continue;
        const caption = severalModels ? `${heading} · ${model}` : heading;
        parts.push(element("h3", "", caption), table(`Table of measures: ${caption}`, entries));
      }
    }
    by("measures").replaceChildren(...(parts.length ? parts : [element("p", "muted", "No measures.")]));
  };

  // ---- Navigation.
  let current = null, request = 0;
  const setLink = (link, rank) => {
    const exists = rank >= 0 && rank < gallery.length;
    link.toggleAttribute("aria-disabled", !exists);
    if (exists) link.href = `#${gallery.image(rank).item}`;
    else link.removeAttribute("href");
  };
  const showHead = (image) => {
    by("name").textContent = document.title = baseName(image.name);
    by("facts").textContent = image.name;
    const rank = gallery.rankOf(image);
    by("position").textContent = rank < 0 ? "not in the filtered gallery" : `${rank + 1} of ${gallery.length}`;
    setLink(by("previous"), rank < 0 ? -1 : rank - 1);
    setLink(by("next"), rank < 0 ? -1 : rank + 1);
    [by("overview").hidden, by("image-view").hidden] = [true, false];
  };
  // The maps of the image before stay selected if this image has them too.
  const showMaps = (image, data) => {
    const mode = viewer.mode, before = viewer.shown;
    const views = viewsOf(data), names = new Set(views.map((view) => view.name)), none = { name: "" };
    const preferred = views.find((view) => view.kind === "attribution") || views[0] || none;
    const first = names.has(before.a) ? before.a : preferred.name;
    const rest = views.filter((view) => view.name !== first);
    const second = names.has(before.b) ? before.b : (rest.find((view) => view.kind === "attention") || rest[0] || none).name;
    viewer.show({
      views, groups: groupsOf(views), image: pictureOf(data, run.models[0]), alt: `${baseName(image.name)}, model input`,
      palettes: run.palettes, first, second,
    });
    viewer.setMode(mode);
    by("tiles").replaceChildren(...views.map(tile));
    by("tiles").dataset.of = `#${image.item}`;
    by("tiles-of").hidden = !views.length;
  };
  const open = async (image) => {
    const own = (request += 1);
    showHead(image);
    let data;
    try {
      data = (await attnviz.load("data", Math.floor(image.item / run.shard)))[image.item] || { pictures: {}, models: {} };
    } catch (error) {
      by("predictions").replaceChildren(element("p", "muted", String(error.message)));
      return;
    }
    if (own !== request) return; // another image was opened during loading
    const size = Object.values(data.models).map((one) => one.size).find(Boolean);
    if (size) by("facts").textContent = `${image.name} · ${size[0]} × ${size[1]} px`;
    showPredictions(image, data);
    showMaps(image, data);
    showMeasures(data);
    if (cursor.position) cursor.set(cursor.position, true);
  };
  const overviewTitle = document.title;
  const route = () => {
    const item = /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : null;
    const image = item === null ? null : images.find((one) => one.item === item);
    if (image && image === current) return;
    if (image) {
      const fromOverview = current === null;
      current = image;
      open(image);
      if (fromOverview) scrollTo(0, 0);
      by("name").focus({ preventScroll: true });
      return;
    }
    [by("overview").hidden, by("image-view").hidden] = [false, true];
    document.title = overviewTitle;
    const before = current;
    current = null;
    if (!before) return;
    by("gallery").scrollIntoView();
    const rank = gallery.rankOf(before);
    if (rank >= 0) gallery.focus(rank);
  };
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    if (!current || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select, input:not([type=radio])")) return;
    const free = !event.target.closest("input, #panes");
    const direction = { j: "next", k: "previous", ...(free ? { ArrowRight: "next", ArrowLeft: "previous" } : {}) }[event.key];
    if (direction && by(direction).hasAttribute("href")) {
      event.preventDefault();
      location.hash = by(direction).getAttribute("href");
      route(); // at once, since the next key can come before the event
    } else if (event.key === "Escape" && free) location.hash = "#gallery";
  });
  route();
})();
