// The layer x expert heat map of a pair, with the sum of every layer beside it.

import { colour, createChart, font, tooltip } from "./charts.js";
import { byId, element, signed, weight } from "./dom.js";

const HEIGHT = 400; // pixels that rows share, within the bounds of one
const ROW = { least: 9, most: 18 };
const NARROW = 560;

const ABOUT = {
  part: "One square is one expert of one layer. Orange squares add to the similarity, teal ones take away. Bars, where there is room for them, sum each layer.",
  a: "How much the first text wants each expert. Rows sum to 1 for most models; darker is more.",
  b: "How much the second text wants each expert. Rows sum to 1 for most models; darker is more.",
  difference: "Where the two texts part: orange is wanted more by the first, teal more by the second.",
};

/** What a square shows, and whether it has two directions. */
const SHOWS = {
  part: { value: (layer, expert) => layer.parts[expert], diverges: true },
  a: { value: (layer, expert) => layer.weights[0][expert], diverges: false },
  b: { value: (layer, expert) => layer.weights[1][expert], diverges: false },
  difference: { value: (layer, expert) => layer.weights[0][expert] - layer.weights[1][expert], diverges: true },
};

function cells(layers, show) {
  return layers.flatMap((layer, row) => layer.parts.map((_, expert) => [expert, row, SHOWS[show].value(layer, expert)]));
}

/** The largest value, less the most extreme hundredth: one odd expert must not pale all others. */
function scaleOf(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  return sizes[Math.floor(0.995 * (sizes.length - 1))] || 1e-9;
}

function tip(explanation, row, expert) {
  const layer = explanation.layers[row];
  return element(
    "div",
    { class: "tip" },
    element("strong", {}, `Layer ${layer.layer}, expert ${expert}`),
    element("span", {}, `adds ${signed(layer.parts[expert], 4)}`),
    element("span", {}, `weight A ${weight(layer.weights[0][expert])}, B ${weight(layer.weights[1][expert])}`),
  );
}

function layerTip(explanation, row) {
  const layer = explanation.layers[row];
  return element(
    "div",
    { class: "tip" },
    element("strong", {}, `Layer ${layer.layer}`),
    element("span", {}, `adds ${signed(layer.part, 4)} in all`),
  );
}

function rowHeight(layers) {
  return Math.max(ROW.least, Math.min(ROW.most, Math.round(HEIGHT / layers.length)));
}

function axis(extra) {
  return {
    axisLine: { show: false },
    axisTick: { show: false },
    axisLabel: { ...font(11), color: colour("soft") },
    nameTextStyle: { ...font(12), color: colour("soft") },
    ...extra,
  };
}

function options(explanation, show, narrow) {
  const { layers } = explanation;
  const widest = Math.max(...layers.map((layer) => layer.parts.length));
  const data = cells(layers, show);
  const most = scaleOf(data.map((cell) => cell[2]));
  const names = layers.map((layer) => String(layer.layer));
  const experts = Array.from({ length: widest }, (_, expert) => String(expert));
  const withBars = show === "part" && !narrow;
  const top = 8;
  const height = rowHeight(layers) * layers.length;
  const { diverges } = SHOWS[show];
  return {
    animation: false,
    tooltip: tooltip(({ seriesIndex, dataIndex, data: cell }) =>
      seriesIndex === 0 ? tip(explanation, cell[1], cell[0]) : layerTip(explanation, dataIndex),
    ),
    grid: [
      { left: 52, right: withBars ? "30%" : 8, top, height },
      { left: withBars ? "73%" : "100%", right: 8, top, height, show: false },
    ],
    xAxis: [
      axis({ type: "category", data: experts, name: "expert", nameLocation: "middle", nameGap: 26, gridIndex: 0 }),
      axis({
        type: "value",
        gridIndex: 1,
        show: withBars,
        name: "layer in all",
        nameLocation: "middle",
        nameGap: 26,
        splitNumber: 2,
        splitLine: { lineStyle: { color: colour("line") } },
      }),
    ],
    yAxis: [
      axis({ type: "category", data: names, inverse: true, name: "layer", nameLocation: "middle", nameGap: 34, gridIndex: 0 }),
      axis({ type: "category", data: names, inverse: true, gridIndex: 1, show: false }),
    ],
    visualMap: {
      show: false,
      type: "continuous",
      seriesIndex: 0,
      dimension: 2,
      min: diverges ? -most : 0,
      max: most,
      inRange: {
        color: diverges
          ? [colour("heat-minus"), colour("heat-minus-mid"), colour("heat-zero"), colour("heat-plus-mid"), colour("heat-plus")]
          : [colour("heat-zero"), colour("heat-plus-mid"), colour("heat-plus")],
      },
    },
    series: [
      {
        type: "heatmap",
        data,
        itemStyle: { borderColor: colour("panel"), borderWidth: widest > 96 ? 0 : 1 },
        emphasis: { itemStyle: { borderColor: colour("text"), borderWidth: 2 } },
      },
      {
        type: "bar",
        xAxisIndex: 1,
        yAxisIndex: 1,
        data: withBars
          ? layers.map((layer) => ({
              value: layer.part,
              itemStyle: { color: colour(layer.part < 0 ? "heat-minus" : "rw"), borderRadius: 2 },
            }))
          : [],
        barWidth: "55%",
      },
    ],
  };
}

/** The heat map in `#heat`. */
export function createHeat() {
  const box = byId("heat");
  let explanation = null;
  let show = "part";
  let made = null;

  for (const choice of document.querySelectorAll('input[name="heat"]')) {
    choice.addEventListener("change", () => {
      show = choice.value;
      void draw();
    });
  }

  async function draw() {
    byId("heat-about").textContent = ABOUT[show];
    box.style.height = `${rowHeight(explanation.layers) * explanation.layers.length + 56}px`;
    made ??= createChart(box, () => options(explanation, show, box.clientWidth < NARROW));
    (await made).draw();
  }

  return {
    /** Draw an explanation. */
    show(next) {
      explanation = next;
      return draw();
    },
    /** Mark the square of a layer and an expert, or none. */
    async point(layer, expert) {
      if (!made) return;
      const { chart } = await made;
      chart.dispatchAction({ type: "downplay", seriesIndex: 0 });
      chart.dispatchAction({ type: "hideTip" });
      if (layer === null) return;
      const row = explanation.layers.findIndex((known) => known.layer === layer);
      const dataIndex = explanation.layers.slice(0, row).reduce((sum, known) => sum + known.parts.length, 0) + expert;
      chart.dispatchAction({ type: "highlight", seriesIndex: 0, dataIndex });
      chart.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex });
    },
  };
}
