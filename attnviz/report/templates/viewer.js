"use strict";

const by = (id) => document.getElementById(id);
const unpacked = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const percent = (share) => `${Math.round(100 * share)} %`;
const between = (value, low, high) => Math.min(high, Math.max(low, value));

// Three digits or the whole part, as report/numbers.py writes them.
const number = (value) => {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  let text = size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  if ((size > 0 && size < 1e-3) || size >= 1e5) text = value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");
  return text.replace(/^-/, "−");
};

// Text that may break after each dot of a path; never markup.
const write = (element, text) => {
  element.textContent = "";
  text.split(/(?<=\.)/).forEach((part, index) => element.append(...(index ? [document.createElement("wbr")] : []), part));
};

// The bytes of a picture: red alone, which is all that a grey one has, or all four channels.
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

// One place, marked on everything that is linked: shares of the photograph from its upper left corner.
const cursor = (() => {
  const linked = new Map(), listeners = [];
  let place = null, kept = false;
  const mark = () => {
    for (const [element, cross] of linked) {
      if (!element.isConnected) linked.delete(element);
      cross.hidden = !place;
      if (place) [cross.style.left, cross.style.top] = [`${100 * place[0]}%`, `${100 * place[1]}%`];
    }
    for (const tell of listeners) tell(place, kept);
  };
  const set = (next, keep = false) => {
    place = next && next.map((share) => between(share, 0, 0.9999));
    kept = keep;
    mark();
  };
  const link = (element, { keeps = false } = {}) => {
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
    element.addEventListener("pointermove", (event) => kept || set(at(event)));
    element.addEventListener("pointerleave", () => kept || set(null));
    if (keeps) element.addEventListener("click", (event) => set(at(event), true));
  };
  return { link, set, listen: (tell) => listeners.push(tell), get place() { return place; } };
})();

// Maps over a photograph, of the markup in viewer.html.j2.
const viewer = (() => {
  const root = document.querySelector(".viewer");
  if (!root) return null;
  const stages = by("stages"), divider = by("divider"), slider = by("opacity"), second = by("second"), readout = by("readout");
  const modes = [...root.querySelectorAll('input[name="mode"]')];
  const help = readout.textContent;
  const sides = { a: { stage: by("stage") }, b: { stage: by("stage-b") } };
  for (const [name, side] of Object.entries(sides)) {
    side.told = [...root.querySelectorAll(`[data-side="${name}"]`)];
    side.part = (part) => root.querySelector(`[data-side="${name}"] [data-part="${part}"]`);
    [side.photo, side.overlay, side.tag] = [".photo", ".overlay", ".tag"].map((one) => side.stage.querySelector(one));
  }
  const none = { name: "", title: "Photograph", subtitle: "without a map", means: "", not_means: "", low: "", middle: "", high: "", gradient: "none" };
  let views = [], palettes = {}, rows = [], mode = "one";

  // The steps of a map's colour scale, (height, width), read back from its picture where they are not given.
  const stepsOf = async (view) => {
    if (view.steps) return view.steps;
    const { data, width, height } = await pixels(view.uri);
    const colours = unpacked(palettes[view.palette]), known = new Map();
    for (let step = 0; step < 256; step += 1) known.set((colours[3 * step] << 16) | (colours[3 * step + 1] << 8) | colours[3 * step + 2], step);
    const steps = Uint8Array.from({ length: width * height }, (_, at) => known.get((data[4 * at] << 16) | (data[4 * at + 1] << 8) | data[4 * at + 2]) ?? 0);
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
    if (view.photo) side.photo.src = view.photo;
    side.overlay.hidden = !view.uri;
    if (view.uri) side.overlay.src = view.uri;
    side.overlay.alt = view.uri ? `Map of ${view.title}` : "";
    side.stage.classList.toggle("bare", !view.uri);
    write(side.tag, view.title);
    for (const part of ["low", "middle", "high", "subtitle", "means", "not_means"]) side.part(part).textContent = view[part] || "";
    write(side.part("title"), view.title);
    side.part("not-line").hidden = !view.not_means;
    side.part("more-line").hidden = !view.more;
    if (view.more) side.part("more").href = `#${view.more}`;
    const ramp = side.told[0].querySelector(".ramp");
    ramp.style.background = view.gradient;
    ramp.setAttribute("aria-label", view.uri ? `Colour scale from ${view.low || view.middle} to ${view.high || view.middle}` : "No colour scale");
  };
  const badges = () => {
    for (const { row, view } of rows) row.classList.toggle("other", mode !== "one" && sides.b.view === view);
  };
  const tell = (place) => {
    const shown = mode === "one" ? [sides.a] : [sides.a, sides.b];
    for (const { view, at } of rows) at.textContent = place ? valueAt(view, place) : "";
    for (const one of document.querySelectorAll("[data-at]")) {
      const view = views.find(({ name }) => name === one.dataset.at);
      one.textContent = place && view ? valueAt(view, place) : "";
    }
    readout.textContent = place
      ? `${percent(place[0])} from the left, ${percent(place[1])} from the top: ` +
        shown.filter(({ view }) => view.uri).map(({ view }) => `${view.title} ${valueAt(view, place)}`).join("; ")
      : help;
  };
  const refresh = () => tell(cursor.place);
  let asked = false;
  const load = async () => {
    asked = true;
    const wanted = views;
    await Promise.all(wanted.map(stepsOf));
    if (wanted === views) refresh();
  };
  cursor.listen((place) => {
    if (place && !asked) load();
    tell(place);
  });

  const choose = (side, name) => {
    fill(sides[side], views.find((view) => view.name === name) || none);
    badges();
    refresh();
  };
  const cut = (share) => {
    const now = Math.round(100 * between(share, 0, 1));
    root.style.setProperty("--cut", `${now}%`);
    divider.setAttribute("aria-valuenow", now);
    divider.setAttribute("aria-valuetext", `${now} % from the left`);
  };
  const setMode = (next) => {
    mode = next;
    root.dataset.mode = root.parentElement.dataset.mode = mode;
    for (const one of modes) one.checked = one.value === mode;
    const two = mode !== "one";
    for (const one of [sides.b.stage, ...sides.b.told, second.parentElement]) one.hidden = !two;
    sides.a.tag.hidden = sides.b.tag.hidden = !two;
    divider.hidden = mode !== "swipe";
    badges();
    refresh();
  };

  const row = (view) => {
    const label = document.createElement("label"), input = document.createElement("input"), face = document.createElement("span");
    const name = document.createElement("span"), at = document.createElement("span");
    input.type = "radio";
    input.name = "map";
    input.value = view.name;
    face.className = "face";
    at.className = "at";
    write(name, view.short || view.title);
    face.append(name, at);
    label.append(input, face);
    input.addEventListener("change", () => choose("a", view.name));
    rows.push({ view, at, row: label, input });
    return label;
  };
  const list = (groups) => {
    rows = [];
    by("choosers").replaceChildren(...groups.map(([title, members]) => {
      const group = document.createElement("fieldset"), legend = document.createElement("legend"), box = document.createElement("div");
      group.className = "chooser";
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
    second.replaceChildren(...options, new Option("the photograph", ""));
  };

  // Show one picture with its maps; `groups` are [title, views], `first` and `other` names of maps.
  const show = (given) => {
    ({ views, palettes } = given);
    asked = false;
    for (const side of Object.values(sides)) {
      if (given.photo) side.photo.src = given.photo;
      side.photo.alt = given.alt;
    }
    list(given.groups);
    choose("b", given.other);
    choose("a", given.first);
    second.value = given.other;
    for (const { input, row: label } of rows) {
      input.checked = input.value === given.first;
      if (input.checked) label.parentElement.scrollTop = label.offsetTop - label.parentElement.clientHeight / 2;
    }
    const any = views.length > 0;
    for (const one of root.querySelectorAll(".modes, .under, .pair")) one.hidden = !any;
    if (any && mode === "one" && given.mode) setMode(given.mode);
    if (cursor.place) load();
  };

  const fade = () => {
    root.style.setProperty("--opacity", slider.value / 100);
    by("opacity-value").textContent = `${slider.value} %`;
  };
  slider.addEventListener("input", fade);
  for (const input of modes) input.addEventListener("change", () => setMode(input.value));
  second.addEventListener("change", () => choose("b", second.value));
  const dragged = (event) => {
    const box = stages.getBoundingClientRect();
    cut((event.clientX - box.left) / box.width);
  };
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    divider.focus();
    event.preventDefault();
  });
  divider.addEventListener("pointermove", (event) => divider.hasPointerCapture(event.pointerId) && dragged(event));
  divider.addEventListener("keydown", (event) => {
    const now = Number(divider.getAttribute("aria-valuenow")), step = event.shiftKey ? 10 : 2;
    const next = {
      ArrowLeft: now - step, ArrowDown: now - step, ArrowRight: now + step, ArrowUp: now + step,
      PageDown: now - 10, PageUp: now + 10, Home: 0, End: 100,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    cut(next / 100);
  });
  for (const { stage } of Object.values(sides)) cursor.link(stage, { keeps: true });
  stages.tabIndex = 0;
  stages.setAttribute("role", "application");
  stages.setAttribute("aria-label", "Picture with its maps: arrow keys move the cursor");
  stages.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cursor.set(null);
    if (!(event.key in arrows) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const [across, down] = arrows[event.key], step = event.shiftKey ? 0.1 : 0.02;
    readout.setAttribute("aria-live", "polite");
    cursor.set(cursor.place ? [cursor.place[0] + across * step, cursor.place[1] + down * step] : [0.5, 0.5], true);
  });
  stages.addEventListener("pointerenter", () => readout.removeAttribute("aria-live"));
  return { show, setMode, choose: (name) => rows.find(({ input }) => input.value === name)?.input.click(), get mode() { return mode; }, get shown() { return { a: sides.a.view?.name, b: sides.b.view?.name }; } };
})();
