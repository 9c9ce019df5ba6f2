"use strict";

// The functions that the data scripts call. A script is loaded when it is needed, and only the latest are kept.
const attnviz = (() => {
  const images = [], stores = { thumbs: new Map(), data: new Map(), columns: new Map() };
  const capacity = { thumbs: 400, data: 6, columns: 24 }, pending = new Map();
  const index = ({ items, names, labels, models }) => {
    const states = models.map((one) => unpacked(one.states));
    const shares = models.map((one) => new Float32Array(unpacked(one.probability).buffer));
    items.forEach((item, at) => {
      images.push({
        item, name: names[at], lowerCase: names[at].toLowerCase(), label: labels[at],
        predictions: models.map((one, model) => ({ target: one.targets[at], state: states[model][at], share: shares[model][at] })),
      });
    });
  };
  const keep = (kind) => (number, value) => {
    const store = stores[kind];
    store.set(number, value);
    if (store.size > capacity[kind]) store.delete(store.keys().next().value);
  };
  const load = (kind, number) => {
    const store = stores[kind], source = `page/${kind}/${kind === "columns" ? "" : "part-"}${String(number).padStart(6, "0")}.js`;
    if (store.has(number)) return Promise.resolve(store.get(number));
    if (!pending.has(source)) {
      pending.set(source, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = source;
        script.onload = () => resolve(store.get(number));
        script.onerror = () => reject(new Error(`${source} cannot be loaded`));
        document.head.append(script);
        script.addEventListener("load", () => script.remove());
      }).finally(() => pending.delete(source)));
    }
    return pending.get(source);
  };
  return {
    images, load, index,
    loaded: (kind, number) => stores[kind].get(number),
    thumbs: keep("thumbs"), data: keep("data"),
    column: (number, text) => keep("columns")(number, new Float32Array(unpacked(text).buffer)),
  };
})();

const run = JSON.parse(by("data").textContent);
const [MISSING, FAILED, UNKNOWN, WRONG, CORRECT] = [0, 1, 2, 3, 4];
const stateNames = { [CORRECT]: "correct", [WRONG]: "wrong" };

const element = (tag, name, text) => {
  const one = document.createElement(tag);
  if (name) one.className = name;
  if (text !== undefined) one.textContent = text;
  return one;
};
const baseName = (path) => path.split("/").pop() || path;
const column = (at) => {
  const [model, kind, subject, other, measure] = run.columns[at];
  return { model, kind, subject, other, measure: measure.replaceAll("_", " ") };
};
const mapTitle = (name) => (run.texts[`attribution/${name}`] || { title: name }).title;
const subjectTitle = ({ kind, subject, other }) => {
  if (kind === "answer") return "prediction";
  if (!subject) return { pair: "all pairs of maps", site: "all sites", attention: "all attention maps", attribution: "all attributions" }[kind] || kind;
  return kind === "pair" ? `${mapTitle(subject)} and ${mapTitle(other)}` : kind === "attribution" ? mapTitle(subject) : subject;
};
