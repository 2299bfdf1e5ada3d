// The chart of a bot's page: candles from this server, with what the bot did on them. New ones come over the page's own
// stream (event "live:chart"); colours come from the style sheet, so themes and preferences count here too.
"use strict";
(() => {
  const box = document.getElementById("chart");
  const note = document.getElementById("chart-note");
  if (!box || !window.LightweightCharts) return;
  const { createChart, createSeriesMarkers, CandlestickSeries, LineSeries, LineStyle, CrosshairMode } = LightweightCharts;

  const step = Number(box.dataset.interval) / 1000;
  const inSight = Number(box.dataset.bars);
  const seconds = (ms) => Math.floor(ms / 1000 / step) * step;

  // --- colours: the style sheet's, resolved by the browser -------------------------------------------------------

  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function colour(name, alpha) {
    probe.className = `probe probe-${name}`;
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = getComputedStyle(probe).color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return `rgba(${red}, ${green}, ${blue}, ${alpha ?? 1})`;
  }
  const NAMES = ["text", "text-2", "text-3", "line", "line-2", "up", "down", "candle-up", "candle-down", "accent", "violet"];
  let c = {};
  function readColours() {
    c = Object.fromEntries(NAMES.map((name) => [name, colour(name)]));
    c.violetBg = colour("violet-bg");
    c.upBg = colour("up", 0.07);
    c.downBg = colour("down", 0.07);
  }
  readColours();

  // --- the chart --------------------------------------------------------------------------------------------------

  const utc = (time, options) => new Date(time * 1000).toLocaleString("en-GB", { timeZone: "UTC", hourCycle: "h23", ...options });
  function tick(time, kind) {
    if (kind < 3) return utc(time, { day: "numeric", month: "short" });
    return utc(time, { hour: "2-digit", minute: "2-digit", ...(kind === 4 ? { second: "2-digit" } : {}) });
  }
  const looks = () => ({
    layout: { background: { color: "transparent" }, textColor: c["text-3"], fontSize: 11, attributionLogo: false,
      fontFamily: getComputedStyle(document.body).fontFamily, panes: { separatorColor: c["line-2"], separatorHoverColor: c["line"] } },
    grid: { vertLines: { color: c.line }, horzLines: { color: c.line } },
    rightPriceScale: { borderColor: c.line }, timeScale: { borderColor: c.line },
    crosshair: { mode: CrosshairMode.Normal, vertLine: { color: c["text-3"], labelBackgroundColor: c["text-2"] },
      horzLine: { color: c["text-3"], labelBackgroundColor: c["text-2"] } },
  });
  const candleLooks = () => ({
    upColor: c["candle-up"], downColor: c["candle-down"], wickUpColor: c["candle-up"], wickDownColor: c["candle-down"],
    borderVisible: false, priceLineColor: c["text-3"],
  });
  const phone = matchMedia("(max-width: 640px)");
  const chart = createChart(box, {
    ...looks(),
    autoSize: true,
    // A finger that moves up or down scrolls the page; sideways it pans the chart. The wheel scrolls the page.
    handleScroll: { mouseWheel: false, pressedMouseMove: true, horzTouchDrag: true, vertTouchDrag: false },
    handleScale: { mouseWheel: false, pinch: true, axisPressedMouseMove: true },
    localization: { timeFormatter: (time) => utc(time, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" }) },
  });
  chart.applyOptions({ timeScale: { timeVisible: true, secondsVisible: step < 60, rightOffset: 6, tickMarkFormatter: tick } });
  box.addEventListener("wheel", (event) => {  // with a key held down it zooms, as in maps
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const seen = chart.timeScale().getVisibleLogicalRange();
    if (!seen) return;
    const by = (seen.to - seen.from) * (event.deltaY > 0 ? 0.1 : -0.1);
    chart.timeScale().setVisibleLogicalRange({ from: seen.from - by, to: seen.to });
  }, { passive: false });

  const candles = chart.addSeries(CandlestickSeries, candleLooks());
  const markers = createSeriesMarkers(candles, []);
  let score = null, threshold = null, scoreDots = null;

  // Behind the candles: what an open position may win and lose, the way from each buy to its sell, and config changes
  // as a dashed line from top to bottom with the version on top.
  class Marks {
    constructor() { this.marks = []; this.views = [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => this.draw(target) }) }]; }
    attached({ requestUpdate }) { this.update = requestUpdate; }
    paneViews() { return this.views; }
    show(marks) { this.marks = marks; this.update?.(); }
    drawPositions(context, size, ratio, tall) {
      const x = (ms) => { const at = chart.timeScale().timeToCoordinate(seconds(ms)); return at === null ? null : at * ratio; };
      const y = (price) => { const at = candles.priceToCoordinate(price); return at === null ? null : at * tall; };
      const entries = lines.filter((line) => line.kind === "entry");
      for (const entry of entries.length > 1 ? [] : entries) {
        const left = x(entry.since) ?? 0, from = y(entry.price);
        for (const line of lines.filter((other) => other.kind !== "entry")) {
          const to = y(line.price);
          if (from === null || to === null) continue;
          context.fillStyle = line.kind === "target" ? c.upBg : c.downBg;
          context.fillRect(left, Math.min(from, to), size.width - left, Math.abs(from - to));
        }
      }
      const bought = new Map();
      for (const trade of trades.values()) if (trade.side === "buy") bought.set(trade.position, trade);
      context.strokeStyle = c["text-3"];
      context.setLineDash([tall, 3 * tall]);
      for (const trade of trades.values()) {
        const buy = trade.side === "sell" && bought.get(trade.position);
        if (!buy || x(buy.time) === null || x(trade.time) === null) continue;
        context.beginPath();
        context.moveTo(x(buy.time), y(buy.price));
        context.lineTo(x(trade.time), y(trade.price));
        context.stroke();
      }
      context.setLineDash([]);
    }
    draw(target) {
      target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: ratio, verticalPixelRatio: tall }) => {
        this.drawPositions(context, bitmapSize, ratio, tall);
        context.font = `600 ${10 * tall}px ${getComputedStyle(document.body).fontFamily}`;
        context.textAlign = "center";
        for (const mark of this.marks) {
          const at = chart.timeScale().timeToCoordinate(seconds(mark.time));
          if (at === null) continue;
          const x = Math.round(at * ratio);
          context.strokeStyle = c.violet;
          context.setLineDash([2 * tall, 3 * tall]);
          context.beginPath();
          context.moveTo(x, 0);
          context.lineTo(x, bitmapSize.height);
          context.stroke();
          context.setLineDash([]);
          const width = context.measureText(mark.text).width + 10 * ratio;
          context.fillStyle = c.violetBg;
          context.beginPath();
          context.roundRect(x - width / 2, 3 * tall, width, 16 * tall, 4 * tall);
          context.fill();
          context.fillStyle = c.violet;
          context.fillText(mark.text, x, 14.5 * tall);
        }
      });
    }
  }
  const marks = new Marks();
  candles.attachPrimitive(marks);

  // --- what it shows ------------------------------------------------------------------------------------------------

  const bars = new Map(), trades = new Map(), versions = new Map(), scores = new Map();
  let lines = [], drawnLines = [], decimals = 2;

  function fitDecimals() {
    const last = [...bars.values()].at(-1);
    if (!last) return;
    decimals = last.close >= 100 ? 2 : last.close >= 0.1 ? 4 : 8;  // as formats.price writes it
    candles.applyOptions({ priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: figure } });
  }
  const bar = ([ms, open, high, low, close]) => ({ time: ms / 1000, open, high, low, close });
  const sorted = (map) => [...map.values()].sort((a, b) => a.time - b.time);

  function take(found) {
    for (const row of found.bars || []) bars.set(row[0], bar(row));
    for (const trade of found.trades || []) trades.set(`${trade.position} ${trade.side}`, trade);
    for (const mark of found.marks || []) versions.set(mark.time, mark);
    for (const point of found.scores || []) scores.set(point[0], point);
    if (found.lines) lines = found.lines;
  }
  // One arrow each for the buys and the sells of a candle; results are added up, and left out where they would overlap.
  let spacing = 0;
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(Math.abs(value) < 0.01 ? 6 : 2);
  function drawMarks() {
    const first = Math.min(...bars.keys()), found = new Map();
    for (const trade of [...trades.values()].sort((one, other) => one.time - other.time)) {
      if (trade.time < first) continue;
      const time = seconds(trade.time), key = `${time} ${trade.side}`, mark = found.get(key) || { time, side: trade.side };
      if (trade.result !== undefined) mark.result = (mark.result || 0) + trade.result;
      found.set(key, mark);
    }
    spacing = chart.timeScale().options().barSpacing;
    const apart = Math.ceil(40 / spacing) * step;
    let labelled = -Infinity;
    markers.setMarkers([...found.values()].map(({ time, side, result }) => {
      if (side === "buy") return { time, position: "belowBar", shape: "arrowUp", color: c.text, size: 1 };
      const says = result !== undefined && time - labelled >= apart;
      if (says) labelled = time;
      const color = result === undefined ? c.text : result < 0 ? c.down : c.up;
      return { time, position: "aboveBar", shape: "arrowDown", size: 1, color, text: says ? signed(result) : "" };
    }));
    marks.show([...versions.values()]);
  }
  function drawLines() {
    const key = JSON.stringify(lines);
    if (drawLines.key === key) return;
    drawLines.key = key;
    for (const line of drawnLines) candles.removePriceLine(line);
    const look = { entry: [c["text-2"], LineStyle.Solid], target: [c.up, LineStyle.Dashed], stop: [c.down, LineStyle.Dashed] };
    drawnLines = lines.map((line) => candles.createPriceLine({
      price: line.price, title: line.title, color: look[line.kind][0], lineStyle: look[line.kind][1], lineWidth: 1,
      axisLabelVisible: lines.length <= 9,
    }));
  }
  function drawScores() {
    if (!scores.size) return;
    if (!score) {
      score = chart.addSeries(LineSeries, { color: c.accent, lineWidth: 1, priceLineVisible: false, lastValueVisible: false,
        pointMarkersVisible: true, pointMarkersRadius: 2.5, title: "", crosshairMarkerVisible: true }, 1);
      threshold = chart.addSeries(LineSeries, { color: c["text-2"], lineWidth: 1, lineStyle: LineStyle.Dashed,
        priceLineVisible: false, lastValueVisible: true, title: "needs", crosshairMarkerVisible: false }, 1);
      const panes = chart.panes();
      panes[0].setStretchFactor(4);
      panes[1].setStretchFactor(1);
    }
    const byTime = new Map();
    for (const [ms, value, needs] of [...scores.values()].sort((a, b) => a[0] - b[0])) byTime.set(seconds(ms), [value, needs]);
    score.setData([...byTime].map(([time, [value]]) => ({ time, value })));
    threshold.setData([...byTime].filter(([, [, needs]]) => needs !== undefined).map(([time, [, needs]]) => ({ time, value: needs })));
  }
  function drawAll() {
    fitDecimals();
    candles.setData(sorted(bars));
    drawMarks();
    drawLines();
    drawScores();
  }
  function say(words) {
    if (!note) return;
    note.hidden = !words;
    if (note.textContent !== words) note.textContent = words;
  }

  // --- loading: the newest, then older ones as somebody goes back --------------------------------------------------

  // Busy from the start, until the first candles stand where they belong: before that the chart shows any range.
  let isLoading = true, isAtEnd = false, leftEdge = Infinity;
  const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  async function load(before) {
    const address = new URL(box.dataset.src, location.href);
    if (before !== undefined) address.searchParams.set("before", before);
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    const found = await answer.json();
    if (!answer.ok) {
      const waitMs = 1000 * (Number(answer.headers.get("Retry-After")) || 30);
      throw Object.assign(new Error(found.message || "The candles could not be read."), { waitMs });
    }
    return found;
  }
  async function begin() {
    isLoading = true;
    try {
      const found = await load();
      bars.clear();
      take(found);
      drawAll();
      const count = bars.size, width = Math.min(inSight, count, phone.matches ? 70 : Infinity);
      chart.timeScale().setVisibleLogicalRange({ from: count - width - 0.5, to: count + 5 });
      say(count ? "" : "The exchange has no candles of this market yet.");
      await drawn();
      isLoading = isAtEnd = false;
      box.dataset.ready = String(count);
    } catch (error) {
      say(error.message);
      setTimeout(begin, error.waitMs || 3000);
    }
  }
  chart.timeScale().subscribeVisibleLogicalRangeChange(() => {
    if (bars.size && Math.abs(chart.timeScale().options().barSpacing / spacing - 1) > 0.1) drawMarks();
  });
  chart.timeScale().subscribeVisibleLogicalRangeChange(async (range) => {
    if (!range) return;
    const isGoingBack = range.from < leftEdge;  // and not a new candle that moves the others
    leftEdge = range.from;
    if (!isGoingBack || range.from > 20 || isLoading || isAtEnd || !bars.size) return;
    isLoading = true;
    try {
      const first = Math.min(...bars.keys());
      const before = bars.size;
      const found = await load(first);
      delete found.lines;
      take(found);
      isAtEnd = bars.size === before;
      if (!isAtEnd) drawAll();
      box.dataset.ready = String(bars.size);
    } catch (error) {
      say(error.message);
      await new Promise((done) => setTimeout(done, error.waitMs || 3000));
    }
    isLoading = false;
  });

  // --- live -----------------------------------------------------------------------------------------------------------

  document.addEventListener("live:chart", ({ detail }) => {
    if (!bars.size) {
      if (!isLoading && detail.bars?.length) begin();
      return;
    }
    const newest = Math.max(...bars.keys());
    const fresh = (detail.bars || []).filter((row) => row[0] >= newest);
    const hasHole = fresh.length && fresh[0][0] > newest + step * 1000;
    const counts = [trades.size, versions.size, scores.size].join();
    take({ ...detail, bars: hasHole ? [] : fresh });
    if (hasHole) { if (!isLoading) begin(); return; }
    for (const row of fresh) candles.update(bar(row));
    if ([trades.size, versions.size, scores.size].join() !== counts) { drawMarks(); drawScores(); }
    drawLines();
    say(detail.message || "");
  });

  // --- the line of figures above: the candle under the pointer, else the newest ----------------------------------------

  const ohlc = document.getElementById("chart-ohlc");
  const figure = (value) => value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  function legend(shown) {
    if (!ohlc || !shown) return;
    ohlc.textContent = `O ${figure(shown.open)}  H ${figure(shown.high)}  L ${figure(shown.low)}  C ${figure(shown.close)}`;
  }
  chart.subscribeCrosshairMove(({ time, seriesData }) => legend(time === undefined ? sorted(bars).at(-1) : seriesData.get(candles)));
  document.addEventListener("live:chart", () => legend(sorted(bars).at(-1)));

  function restyle() {
    readColours();
    chart.applyOptions(looks());
    candles.applyOptions(candleLooks());
    score?.applyOptions({ color: c.accent });
    threshold?.applyOptions({ color: c["text-2"] });
    drawLines.key = "";
    if (bars.size) { drawMarks(); drawLines(); }
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  begin().then(() => legend(sorted(bars).at(-1)));
})();
