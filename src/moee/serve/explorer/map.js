// The map of the corpus: one point a text, coloured by topic, with the hits of the search lit.

import { colour, createChart, font, tooltip } from "./charts.js";
import { byId, counted, element, reducesMotion, signed } from "./dom.js";
import { isChosen } from "./results.js";

export const NUM_LIT = 10;
const PALETTE = 12; // --topic-0 to --topic-11; the next topic has the colour of the first again
const CUT = 200; // characters that the map keeps of a text
const MARGIN = 0.04;
const ZOOM = 1.6;

const topicColour = (topic) => (topic < 0 ? colour("topic-none") : colour(`topic-${topic % PALETTE}`));

/** Ranges of both axes that show every point, with the same length of a unit on both. */
function ranges(xs, ys, width, height) {
  const extent = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [[x0, x1], [y0, y1]] = [extent(xs), extent(ys)];
  const unit = Math.max((x1 - x0) / width, (y1 - y0) / height, 1e-9) * (1 + 2 * MARGIN);
  const around = (low, high, pixels) => [(low + high) / 2 - (unit * pixels) / 2, (low + high) / 2 + (unit * pixels) / 2];
  return [around(x0, x1, width), around(y0, y1, height)];
}

function tip(text, topic, rank) {
  return element(
    "div",
    { class: "tip wide" },
    rank ? element("strong", {}, `Hit ${rank}`) : null,
    element("span", { dir: "auto" }, text),
    topic ? element("span", { class: "tip-soft" }, topic) : null,
  );
}

/**
 * The view.
 * @param {{choose: (hit: {id: string, text: string, cut: boolean}) => void}} page
 */
export function createMap(page) {
  const box = byId("map");
  let points = null; // the answer of GET /map
  let made = null;
  let lit = [];
  let waits = false; // for the hits of a search
  let chosen = [];
  let places = new Map(); // id to the point's place in the arrays
  let labels = new Map(); // topic to its label
  let pointed = null; // the id whose row in the list is pointed to
  let isDimmed = false; // whether the points were drawn behind lit ones
  let window_ = [0, 100, 0, 100]; // what the zoom shows, percent of each axis

  const textOf = (at) => points.texts[at];
  const labelOf = (at) => labels.get(points.topic[at]) ?? "";

  function topicSeries() {
    const groups = new Map();
    for (const [at, topic] of points.topic.entries()) {
      if (!groups.has(topic)) groups.set(topic, []);
      groups.get(topic).push([points.x[at], points.y[at], at]);
    }
    const size = points.ids.length > 4000 ? 3.5 : points.ids.length > 600 ? 5 : 8;
    return [...groups].map(([topic, data]) => ({
      type: "scatter",
      id: `topic-${topic}`,
      data,
      symbolSize: size,
      large: data.length > 2000,
      itemStyle: { color: topicColour(topic), opacity: lit.length ? 0.3 : 0.75 },
      emphasis: { itemStyle: { opacity: 1, borderColor: colour("text"), borderWidth: 1.5 } },
      z: 2,
    }));
  }

  /** A series for every rank: the better one lies above the others, number and all. */
  function litSeries() {
    return Array.from({ length: NUM_LIT }, (_, place) => {
      const at = lit[place] ? places.get(lit[place].id) : undefined;
      return {
        type: "scatter",
        id: `lit-${place}`,
        data: at === undefined ? [] : [[points.x[at], points.y[at], at, place + 1]],
        symbolSize: 22,
        itemStyle: { color: colour("lit"), borderColor: colour("panel"), borderWidth: 2, opacity: 1 },
        label: { show: true, formatter: ({ value }) => String(value[3]), ...font(11, 700), color: colour("on-lit") },
        emphasis: { scale: 1.25 },
        z: 10 + NUM_LIT - place,
      };
    });
  }

  function chosenSeries() {
    const data = chosen
      .map((text, letter) => ({ at: text ? places.get(text.id) : undefined, letter: "AB"[letter] }))
      .filter(({ at }) => at !== undefined)
      .map(({ at, letter }) => ({ value: [points.x[at], points.y[at], at, letter] }));
    return {
      type: "scatter",
      id: "chosen",
      data,
      symbolSize: 30,
      itemStyle: { color: "transparent", borderColor: colour("text"), borderWidth: 2.5 },
      label: { show: true, position: "right", formatter: ({ value }) => value[3], ...font(13, 700), color: colour("text"), textBorderColor: colour("panel"), textBorderWidth: 3 },
      silent: true,
      z: 11 + NUM_LIT,
    };
  }

  function labelSeries() {
    return {
      type: "scatter",
      id: "labels",
      silent: true,
      symbolSize: 0.01,
      data: points.topics
        .filter(({ topic }) => topic >= 0)
        .map(({ label, x, y }) => ({ value: [x, y], name: label })),
      itemStyle: { opacity: 1 },
      label: {
        show: true,
        formatter: "{b}",
        ...font(12, 600),
        color: colour("text"),
        textBorderColor: colour("panel"),
        textBorderWidth: 4,
      },
      // long labels at the edge move inside
      labelLayout: ({ labelRect: { x, width } }) => ({
        hideOverlap: true,
        dx: Math.max(0, 6 - x) + Math.min(0, box.clientWidth - 6 - x - width),
      }),
      z: 4,
    };
  }

  function options() {
    const [x, y] = ranges(points.x, points.y, box.clientWidth, box.clientHeight);
    const bare = { type: "value", show: false, splitLine: { show: false } };
    return {
      animation: !reducesMotion(),
      animationDuration: 300,
      animationDurationUpdate: 200,
      grid: { left: 0, right: 0, top: 0, bottom: 0 },
      xAxis: { ...bare, min: x[0], max: x[1] },
      yAxis: { ...bare, min: y[0], max: y[1] },
      dataZoom: [
        { type: "inside", xAxisIndex: 0, filterMode: "none", start: window_[0], end: window_[1] },
        { type: "inside", yAxisIndex: 0, filterMode: "none", start: window_[2], end: window_[3] },
      ],
      tooltip: tooltip(({ value }) => (value?.length > 2 ? tip(textOf(value[2]), labelOf(value[2]), value[3]) : null)),
      series: [...topicSeries(), labelSeries(), ...litSeries(), chosenSeries()],
    };
  }

  async function draw() {
    if (!points || !box.offsetParent) return;
    if (!made) {
      made = createChart(box, options);
      const { chart } = await made;
      chart.on("click", ({ value }) => {
        if (value?.length > 2) choose(value[2]);
      });
      chart.on("datazoom", () => {
        const [x, y] = chart.getOption().dataZoom;
        window_ = [x.start, x.end, y.start, y.end];
      });
    }
    isDimmed = lit.length > 0;
    (await made).draw();
    void showPointed();
  }

  /** Draw what a search lit; the thousands of other points stay as they are. */
  async function drawLit() {
    if (!made || isDimmed !== lit.length > 0 || !box.offsetParent) return draw();
    const { chart } = await made;
    chart.setOption({ series: [...litSeries(), chosenSeries()] });
    return showPointed();
  }

  function choose(at) {
    const text = textOf(at);
    page.choose({ id: points.ids[at], text, cut: [...text].length >= CUT });
  }

  async function show(next) {
    window_ = next;
    const { chart } = await made;
    chart.dispatchAction({
      type: "dataZoom",
      batch: [
        { dataZoomIndex: 0, start: next[0], end: next[1] },
        { dataZoomIndex: 1, start: next[2], end: next[3] },
      ],
    });
  }

  function zoom(factor) {
    const [x0, x1, y0, y1] = window_;
    const around = (low, high) => {
      const half = Math.min(50, ((high - low) / 2) * factor);
      const middle = Math.max(half, Math.min(100 - half, (low + high) / 2));
      return [middle - half, middle + half];
    };
    void show([...around(x0, x1), ...around(y0, y1)]);
  }

  /** Zoom onto the points of a topic. */
  async function showTopic(topic) {
    const at = points.topic.flatMap((known, index) => (known === topic ? [index] : []));
    const [x, y] = ranges(points.x, points.y, box.clientWidth, box.clientHeight);
    const [tx, ty] = ranges(at.map((i) => points.x[i]), at.map((i) => points.y[i]), box.clientWidth, box.clientHeight);
    const share = (range, [low, high]) => range.map((v) => Math.max(0, Math.min(100, (100 * (v - low)) / (high - low))));
    await show([...share(tx, x), ...share(ty, y)]);
  }

  /** Mark the lit point of a text whose row is pointed to or has the focus; none for null. */
  function point(id) {
    pointed = id;
    void showPointed();
  }

  async function showPointed() {
    if (!made) return;
    const { chart } = await made;
    const all = Array.from({ length: NUM_LIT }, (_, place) => `lit-${place}`);
    chart.dispatchAction({ type: "downplay", seriesId: all });
    const place = lit.findIndex((hit) => hit.id === pointed && places.has(hit.id));
    if (place < 0) return void chart.dispatchAction({ type: "hideTip" });
    chart.dispatchAction({ type: "highlight", seriesId: all[place], dataIndex: 0 });
    const seriesIndex = chart.getOption().series.findIndex(({ id }) => id === all[place]);
    chart.dispatchAction({ type: "showTip", seriesIndex, dataIndex: 0 });
  }

  function drawLists() {
    const focused = [...byId("lit").querySelectorAll("button")].indexOf(document.activeElement);
    byId("lit").replaceChildren(
      ...lit.map((hit, rank) => {
        const missing = places.has(hit.id) ? null : element("span", { class: "tip-soft" }, " (added after the map was made)");
        return element(
          "li",
          {},
          element(
            "button",
            {
              type: "button",
              class: "row",
              "aria-pressed": String(chosen.some((text) => isChosen(text, hit))),
              on: {
                click: () => page.choose(hit),
                focus: () => point(hit.id),
                blur: () => point(null),
                mouseenter: () => point(hit.id),
                mouseleave: () => point(null),
              },
            },
            element("span", { class: "lit-rank", "aria-hidden": "true" }, String(rank + 1)),
            element("span", { class: "row-text", dir: "auto" }, hit.text, missing),
            element("span", { class: "row-number" }, signed(hit.score, 2)),
          ),
        );
      }),
    );
    if (!lit.length) byId("lit").append(element("li", { class: "about" }, waits ? "Searching \u2026" : "Search above, and the nearest texts light up here."));
    if (focused >= 0) byId("lit").querySelectorAll("button")[focused]?.focus({ preventScroll: true });
  }

  function drawTopics() {
    const sorted = [...points.topics].sort((a, b) => b.count - a.count);
    const alone = points.topic.filter((topic) => topic < 0).length;
    if (alone && sorted.every(({ topic }) => topic >= 0)) sorted.push({ topic: -1, label: "in no topic", count: alone });
    byId("topics").replaceChildren(
      ...sorted.map(({ topic, label, count }) => {
        const dot = element("span", { class: "topic-dot", "aria-hidden": "true" });
        dot.style.backgroundColor = topic < 0 ? "var(--topic-none)" : `var(--topic-${topic % PALETTE})`;
        return element(
          "li",
          {},
          element(
            "button",
            { type: "button", class: "row", title: "Zoom to this topic", on: { click: () => void showTopic(topic) } },
            dot,
            element("span", { class: "row-text" }, label),
            element("span", { class: "row-number" }, count.toLocaleString("en")),
          ),
        );
      }),
    );
  }

  byId("zoom-in").addEventListener("click", () => zoom(1 / ZOOM));
  byId("zoom-out").addEventListener("click", () => zoom(ZOOM));
  byId("zoom-reset").addEventListener("click", () => void show([0, 100, 0, 100]));

  return {
    /** Whether the points are at hand. */
    get loaded() {
      return points !== null;
    },
    /** Take the answer of `GET /map`. */
    load(answer) {
      points = answer;
      places = new Map(answer.ids.map((id, at) => [id, at]));
      labels = new Map(answer.topics.map(({ topic, label }) => [topic, label]));
      byId("map-lead").textContent =
        `${counted(answer.ids.length, "text")}. Those that the model finds alike lie close together; distances across the whole map mean little. Click a point to choose its text.`;
      byId("map-stale").hidden = !answer.stale;
      byId("map-stale").textContent = answer.stale ? `${answer.stale} moee map makes it anew.` : "";
      drawTopics();
      drawLists();
      return draw();
    },
    /** Light hits, best first, and ring the chosen texts. */
    light(hits, pair, isWaiting = false) {
      lit = hits;
      waits = isWaiting;
      chosen = pair;
      if (!points) return;
      drawLists();
      void drawLit();
    },
    draw,
  };
}
