"use strict";

const by = (id) => document.getElementById(id);
const unpacked = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const percent = (share) => `${Math.round(100 * share)} %`;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// The same format as report/core/formatting.py.
const number = (value) => {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  let text = size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  if ((size > 0 && size < 1e-3) || size >= 1e5) text = value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");
  return text.replace(/^-/, "−");
};

// Write text with line breaks allowed after each dot of a path; markup in the text is escaped.
const write = (element, text) => {
  element.textContent = "";
  text.split(/(?<=\.)/).forEach((part, index) => element.append(...(index ? [document.createElement("wbr")] : []), part));
};

// Decode a picture to RGBA bytes.
const pixels = async (uri) => {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.drawImage(image, 0, 0);
  return brush.getImageData(0, 0, canvas.width, canvas.height);
};

// A position that is marked on all linked elements, as fractions of the image from its upper left corner.
const cursor = (() => {
  const linked = new Map(), listeners = [];
  let position = null, fixed = false;
  const mark = () => {
    for (const [element, cross] of linked) {
      if (!element.isConnected) linked.delete(element);
      cross.hidden = !position;
      if (position) [cross.style.left, cross.style.top] = [`${100 * position[0]}%`, `${100 * position[1]}%`];
    }
    for (const listener of listeners) listener(position);
  };
  const set = (next, fix = false) => {
    position = next && next.map((share) => clamp(share, 0, 0.9999));
    fixed = fix;
    mark();
  };
  const link = (element, { fixable = false } = {}) => {
    const cross = document.createElement("i");
    cross.className = "mark";
    cross.hidden = true;
    cross.setAttribute("aria-hidden", "true");
    element.append(cross);
    linked.set(element, cross);
    const at = (event) => {
      const box = element.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    element.addEventListener("pointermove", (event) => fixed || set(at(event)));
    element.addEventListener("pointerleave", () => fixed || set(null));
    if (fixable) element.addEventListener("click", (event) => set(at(event), true));
  };
  return { link, set, listen: (listener) => listeners.push(listener), get position() { return position; } };
})();

// The map viewer; its markup is in viewer.html.j2.
const viewer = (() => {
  const root = document.querySelector(".viewer");
  if (!root) return null;
  const panes = by("panes"), divider = by("divider"), slider = by("opacity"), second = by("second"), readout = by("readout");
  const modes = [...root.querySelectorAll('input[name="mode"]')];
  const help = readout.textContent;
  const sides = { a: { pane: by("pane-a") }, b: { pane: by("pane-b") } };
  for (const [name, side] of Object.entries(sides)) {
    side.texts = [...root.querySelectorAll(`[data-side="${name}"]`)];
    side.part = (part) => root.querySelector(`[data-side="${name}"] [data-part="${part}"]`);
    [side.image, side.overlay, side.tag] = [".base-image", ".overlay", ".tag"].map((one) => side.pane.querySelector(one));
    const fit = () => { side.pane.style.aspectRatio = `${side.image.naturalWidth} / ${side.image.naturalHeight}`; };
    side.image.addEventListener("load", fit);
    if (side.image.naturalWidth) fit();
  }
  const none = { name: "", title: "Image", subtitle: "without a map", means: "", not_means: "", low: "", middle: "", high: "", gradient: "none" };
  let views = [], palettes = {}, rows = [], mode = "one";

  // Steps of a map's colour scale, decoded from the colours of its picture if they are not given.
  const stepsOf = async (view) => {
    if (view.steps) return view.steps;
    const { data, width, height } = await pixels(view.uri);
    const colours = unpacked(palettes[view.palette]), stepOf = new Map();
    for (let step = 0; step < 256; step += 1) stepOf.set((colours[3 * step] << 16) | (colours[3 * step + 1] << 8) | colours[3 * step + 2], step);
    const steps = Uint8Array.from({ length: width * height }, (_, at) => stepOf.get((data[4 * at] << 16) | (data[4 * at + 1] << 8) | data[4 * at + 2]) ?? 0);
    view.steps = { data: steps, width, height };
    return view.steps;
  };
  const valueAt = (view, [x, y]) => {
    if (!view.steps) return "";
    const { data, width, height } = view.steps;
    const step = data[Math.floor(y * height) * width + Math.floor(x * width)];
    const beyond = !view.clipped ? "" : step === 255 ? "≥ " : step === 0 && view.signed ? "≤ " : "";
    return beyond + number(view.from + ((view.to - view.from) * step) / 255);
  };

  const fill = (side, view) => {
    side.view = view;
    if (view.image) side.image.src = view.image;
    side.overlay.hidden = !view.uri;
    if (view.uri) side.overlay.src = view.uri;
    side.overlay.alt = view.uri ? `Map of ${view.title}` : "";
    side.pane.classList.toggle("bare", !view.uri);
    write(side.tag, view.title);
    for (const part of ["low", "middle", "high", "subtitle", "means", "not_means"]) side.part(part).textContent = view[part] || "";
    write(side.part("title"), view.title);
    side.part("not-line").hidden = !view.not_means;
    side.part("more-line").hidden = !view.more;
    if (view.more) side.part("more").href = `#${view.more}`;
    const ramp = side.texts[0].querySelector(".ramp");
    ramp.style.background = view.gradient;
    ramp.setAttribute("aria-label", view.uri ? `Colour scale from ${view.low || view.middle} to ${view.high || view.middle}` : "No colour scale");
  };
  const markSecond = () => {
    for (const { row, view } of rows) row.classList.toggle("other", mode !== "one" && sides.b.view === view);
  };
  const showValues = (position) => {
    const shown = mode === "one" ? [sides.a] : [sides.a, sides.b];
    for (const { view, value } of rows) value.textContent = position ? valueAt(view, position) : "";
    for (const one of document.querySelectorAll("[data-value-of]")) {
      const view = views.find(({ name }) => name === one.dataset.valueOf);
      one.textContent = position && view ? valueAt(view, position) : "";
    }
    readout.textContent = position
      ? `${percent(position[0])} from the left, ${percent(position[1])} from the top: ` +
        shown.filter(({ view }) => view.uri).map(({ view }) => `${view.title} ${valueAt(view, position)}`).join("; ")
      : help;
  };
  const refresh = () => showValues(cursor.position);
  let requested = false;
  const load = async () => {
    requested = true;
    const current = views;
    await Promise.all(current.map(stepsOf));
    if (current === views) refresh();
  };
  cursor.listen((position) => {
    if (position && !requested) load();
    showValues(position);
  });

  const choose = (side, name) => {
    fill(sides[side], views.find((view) => view.name === name) || none);
    markSecond();
    refresh();
  };
  const cut = (share) => {
    const percentage = Math.round(100 * clamp(share, 0, 1));
    root.style.setProperty("--cut", `${percentage}%`);
    divider.setAttribute("aria-valuenow", percentage);
    divider.setAttribute("aria-valuetext", `${percentage} % from the left`);
  };
  const setMode = (next) => {
    mode = next;
    root.dataset.mode = root.parentElement.dataset.mode = mode;
    for (const one of modes) one.checked = one.value === mode;
    const two = mode !== "one";
    for (const one of [sides.b.pane, ...sides.b.texts, second.parentElement]) one.hidden = !two;
    sides.a.tag.hidden = sides.b.tag.hidden = !two;
    divider.hidden = mode !== "swipe";
    markSecond();
    refresh();
  };

  const row = (view) => {
    const label = document.createElement("label"), input = document.createElement("input"), option = document.createElement("span");
    const name = document.createElement("span"), value = document.createElement("span");
    input.type = "radio";
    input.name = "map";
    input.value = view.name;
    option.className = "option";
    value.className = "value-here";
    write(name, view.short || view.title);
    option.append(name, value);
    label.append(input, option);
    input.addEventListener("change", () => choose("a", view.name));
    rows.push({ view, value, row: label, input });
    return label;
  };
  const list = (groups) => {
    rows = [];
    by("map-lists").replaceChildren(...groups.map(([title, members]) => {
      const group = document.createElement("fieldset"), legend = document.createElement("legend"), box = document.createElement("div");
      group.className = "map-list";
      box.className = "rows";
      legend.textContent = title;
      box.append(...members.map(row));
      group.append(legend, box);
      return group;
    }));
    const options = groups.map(([title, members]) => {
      const group = document.createElement("optgroup");
      group.label = title;
      group.append(...members.map((view) => new Option(view.title, view.name)));
      return group;
    });
    second.replaceChildren(...options, new Option("image only", ""));
  };

  // Show an image with its maps. `groups` are [title, views]; `first` and `second` are names of maps.
  const show = (given) => {
    ({ views, palettes } = given);
    requested = false;
    for (const side of Object.values(sides)) {
      if (given.image) side.image.src = given.image;
      side.image.alt = given.alt;
    }
    list(given.groups);
    choose("b", given.second);
    choose("a", given.first);
    second.value = given.second;
    for (const { input, row: label } of rows) {
      input.checked = input.value === given.first;
      if (input.checked) label.parentElement.scrollTop = label.offsetTop - label.parentElement.clientHeight / 2;
    }
    const any = views.length > 0;
    for (const one of root.querySelectorAll(".modes, .toolbar, .pair")) one.hidden = !any;
    if (cursor.position) load();
  };

  const fade = () => {
    root.style.setProperty("--opacity", slider.value / 100);
    by("opacity-value").textContent = `${slider.value} %`;
  };
  slider.addEventListener("input", fade);
  for (const input of modes) input.addEventListener("change", () => setMode(input.value));
  second.addEventListener("change", () => choose("b", second.value));
  const drag = (event) => {
    const box = panes.getBoundingClientRect();
    cut((event.clientX - box.left) / box.width);
  };
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    divider.focus();
    event.preventDefault();
  });
  divider.addEventListener("pointermove", (event) => divider.hasPointerCapture(event.pointerId) && drag(event));
  divider.addEventListener("keydown", (event) => {
    const current = Number(divider.getAttribute("aria-valuenow")), step = event.shiftKey ? 10 : 2;
    const next = {
      ArrowLeft: current - step, ArrowDown: current - step, ArrowRight: current + step, ArrowUp: current + step,
      PageDown: current - 10, PageUp: current + 10, Home: 0, End: 100,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    cut(next / 100);
  });
  for (const { pane } of Object.values(sides)) cursor.link(pane, { fixable: true });
  panes.tabIndex = 0;
  panes.setAttribute("role", "application");
  panes.setAttribute("aria-label", "Image with its maps: arrow keys move the cursor");
  panes.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cursor.set(null);
    if (!(event.key in arrows) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const [across, down] = arrows[event.key], step = event.shiftKey ? 0.1 : 0.02;
    readout.setAttribute("aria-live", "polite");
    cursor.set(cursor.position ? [cursor.position[0] + across * step, cursor.position[1] + down * step] : [0.5, 0.5], true);
  });
  panes.addEventListener("pointerenter", () => readout.removeAttribute("aria-live"));
  return {
    show, setMode,
    choose: (name) => rows.find(({ input }) => input.value === name)?.input.click(),
    get mode() { return mode; },
    get shown() { return { a: sides.a.view?.name, b: sides.b.view?.name }; },
  };
})();
