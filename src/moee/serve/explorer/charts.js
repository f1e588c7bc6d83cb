// Loads ECharts when the first chart is wanted, and gives charts the page's colours.

let library = null;

/** Apache ECharts, from this server. */
export async function loadCharts() {
  library ??= import("./vendor/echarts.esm.min.js");
  return library;
}

const probe = document.createElement("span");
probe.hidden = true;

/** The value of a colour of the style sheet under the present theme, such as `rgb(1, 2, 3)`. */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** The font of the page at a size, for text on a canvas. */
export function font(size, weight = 400) {
  return { fontFamily: getComputedStyle(document.body).fontFamily, fontSize: size, fontWeight: weight };
}

/**
 * A chart that follows its box and the theme.
 * @param {HTMLElement} box
 * @param {() => object} options Makes the options; called again for a new theme or width.
 */
export async function createChart(box, options) {
  const echarts = await loadCharts();
  const chart = echarts.init(box, null, { renderer: "canvas" });
  const draw = () => {
    if (box.clientWidth && box.clientHeight) chart.setOption(options(), { notMerge: true });
  };
  let width = 0;
  let height = 0;
  new ResizeObserver(() => {
    // hidden boxes have no size; resizing to what it already is would end an animation
    if (!box.clientWidth || (box.clientWidth === width && box.clientHeight === height)) return;
    [width, height] = [box.clientWidth, box.clientHeight];
    chart.resize();
    draw();
  }).observe(box);
  document.addEventListener("themechange", draw);
  return { chart, draw };
}

/**
 * The tooltip of a chart. ECharts would write one as HTML with inline styles, which the page's policy forbids and
 * texts must not become; this one is elements.
 * @param {(parameters: any) => Node | null} content
 */
export function tooltip(content) {
  return {
    confine: true,
    className: "chart-tip",
    backgroundColor: colour("tip"),
    borderColor: colour("line-strong"),
    borderWidth: 1,
    padding: [8, 10],
    transitionDuration: 0,
    extraCssText: "box-shadow: none",
    textStyle: { ...font(13), color: colour("text") },
    formatter: (parameters) => content(parameters) ?? "",
  };
}
