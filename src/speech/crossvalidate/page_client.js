/** The script of a cross-validation's page: learning curves, reliability, gates over time. */
(() => {
  /** @typedef {{ words?: { text: string, start: number, end: number }[], seconds: number, secondsPerFrame: number, gates?: { acoustic: number[], text: number[], tokens: string[] } }} Example */
  /** @typedef {{ bins: import("../metrics/calibration.ts").ReliabilityBin[], curves: import("./curves.ts").Curve[] }} Row */
  const { uPlot, wavegatePage } =
    /** @type {{ uPlot: typeof import("uplot"), wavegatePage: import("../../page/tools.ts").PageTools }} */ (
      /** @type {unknown} */ (globalThis)
    );
  const { css, say, hush, axis, onChange } = wavegatePage;
  /** @type {{ folds: string[], rows: Row[], examples: Example[] }} */
  const { folds, rows, examples } = wavegatePage.data;
  const COLOURS = 7;
  const FONT = "11px system-ui, sans-serif";
  /** @type {Map<Element, import("uplot")>} */
  const plots = new Map();

  /** Makes a plot in an element, in place of the one before. @param {HTMLElement} element @param {Omit<import("uplot").Options, "width">} options @param {(number | null | undefined)[][]} data */
  const plot = (element, options, data) => {
    plots.get(element)?.destroy();
    const made = new uPlot(
      { legend: { show: false }, ...options, width: element.clientWidth },
      /** @type {import("uplot").AlignedData} */ (data),
      element,
    );
    made.over.addEventListener("mouseleave", hush);
    plots.set(element, made);
    return made;
  };
  /** @param {string} colour @param {object} [more] */
  const line = (colour, more) => ({
    stroke: colour,
    width: 1.3,
    points: { show: false },
    spanGaps: true,
    ...more,
  });
  const plain = { drag: { x: false, y: false }, points: { show: false } };
  /** @param {number} share */
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  // ---- learning curves

  /** @param {HTMLElement} element */
  const drawCurves = (element) => {
    const { curve = "0", stage, of } = element.dataset;
    const own = rows[Number(curve)].curves.filter((each) => String(each.stage) === stage);
    const most = Math.max(...own.map(({ epochs }) => epochs.at(-1) ?? 1), 2);
    const x = Array.from({ length: most }, (_, i) => i + 1);
    /** @type {{ name: string, series: object, values: (number | null)[] }[]} */
    const lines = own.flatMap((each) => {
      const colour = css(`--k${Math.max(0, folds.indexOf(each.fold)) % COLOURS}`);
      const name = `${each.fold}, seed ${each.seed}`;
      /** @param {readonly (number | null)[]} values */
      const placed = (values) => x.map((epoch) => values[each.epochs.indexOf(epoch)] ?? null);
      const points = { points: { show: each.epochs.length === 1, size: 5 } };
      if (of === "ua")
        return [
          {
            name,
            series: line(colour, points),
            values: placed(each.ua.map((v) => (v === null ? null : 100 * v))),
          },
        ];
      return [
        { name: `${name}, training`, series: line(colour, points), values: placed(each.train) },
        { name: `${name}, dev`, series: line(colour, { dash: [5, 4], ...points }), values: placed(each.dev) },
      ];
    });
    const made = plot(
      element,
      {
        height: 190,
        cursor: plain,
        scales: { x: { time: false } },
        series: [{}, ...lines.map(({ series }) => series)],
        axes: [
          {
            ...axis(),
            size: 34,
            incrs: [1, 2, 5, 10, 20, 50, 100],
            label: "epoch",
            labelSize: 14,
            labelFont: FONT,
          },
          { ...axis(), size: 46 },
        ],
      },
      [x, ...lines.map(({ values }) => values)],
    );
    made.over.addEventListener("mousemove", (event) => {
      const at = Math.round(made.posToVal(event.offsetX, "x")) - 1;
      const shown = lines.filter(({ values }) => values[at] !== null && values[at] !== undefined);
      if (shown.length === 0) return hush();
      say(
        event,
        `epoch ${at + 1}`,
        shown.slice(0, 16).map(({ name, values }) => [name, `${+(values[at] ?? 0).toPrecision(4)}`]),
      );
    });
  };

  // ---- reliability

  /** @param {HTMLElement} element */
  const drawReliability = (element) => {
    const { bins } = rows[Number(element.dataset.reliability)];
    const width = bins.length > 0 ? bins[0].high - bins[0].low : 1;
    const count = Math.round(1 / width);
    const x = Array.from({ length: count }, (_, i) => (i + 0.5) * width);
    const at = x.map((middle) => bins.find(({ low, high }) => low < middle && middle < high));
    const bars = uPlot.paths.bars?.({ size: [0.92, 100] });
    const made = plot(
      element,
      {
        height: 260,
        cursor: plain,
        scales: { x: { time: false, range: [0, 1] }, y: { range: [0, 1] } },
        series: [
          {},
          { stroke: css("--k0"), fill: `${css("--k0")}66`, width: 1, paths: bars, points: { show: false } },
          line(css("--soft"), { dash: [4, 4] }),
        ],
        axes: [
          { ...axis(), size: 40, label: "probability of the answer", labelSize: 16, labelFont: FONT },
          { ...axis(), size: 46, label: "right", labelSize: 14, labelFont: FONT },
        ],
      },
      [x, at.map((bin) => bin?.accuracy ?? null), x],
    );
    made.over.addEventListener("mousemove", (event) => {
      const value = made.posToVal(event.offsetX, "x");
      const bin = bins.find(({ low, high }) => low < value && value <= high);
      if (!bin) return hush();
      say(event, `${percent(bin.low)} to ${percent(bin.high)}`, [
        ["answers", `${bin.count}`],
        ["right", percent(bin.accuracy)],
        ["mean probability", percent(bin.confidence)],
      ]);
    });
  };

  // ---- gates

  /** What both gates of an utterance lie in, at least a tenth. @param {NonNullable<Example["gates"]>} gates @returns {[number, number]} */
  const gateRange = ({ acoustic, text }) => {
    const [least, most] = [Math.min(...acoustic, ...text), Math.max(...acoustic, ...text)];
    const rest = Math.max(0.02, (0.1 - (most - least)) / 2);
    return [least - rest, most + rest];
  };

  /** @param {HTMLElement} element */
  const drawGate = (element) => {
    const { words = [], seconds, secondsPerFrame, gates } = examples[Number(element.dataset.gate)];
    if (!gates) return;
    const x = gates.acoustic.map((_, t) => (t + 0.5) * secondsPerFrame);
    const TOP = 24;
    /** Bands of the words, their text above the plot. @param {import("uplot")} made */
    const drawWords = (made) => {
      const { ctx, bbox } = made;
      const ratio = devicePixelRatio;
      ctx.save();
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "bottom";
      let end = Number.NEGATIVE_INFINITY;
      for (const [i, word] of words.entries()) {
        const [from, to] = [word.start, word.end].map((at) => made.valToPos(at, "x", true));
        ctx.fillStyle = `${css(i % 2 ? "--k7" : "--k0")}30`;
        ctx.fillRect(from, bbox.top, to - from, bbox.height);
        const half = ctx.measureText(word.text).width / 2;
        const middle = Math.min(Math.max((from + to) / 2, half), ctx.canvas.width - half);
        if (middle - half < end + 4 * ratio) continue; // no place beside the word before: the band stands for it
        end = middle + half;
        ctx.fillStyle = css("--text");
        ctx.fillText(word.text.toLowerCase(), middle, bbox.top - 3 * ratio);
      }
      ctx.restore();
    };
    const made = plot(
      element,
      {
        height: 150,
        padding: [TOP, 10, 0, 0],
        cursor: plain,
        scales: { x: { time: false, range: [0, seconds] }, y: { range: gateRange(gates) } },
        series: [{}, line(css("--k0"), { width: 1.6 })],
        axes: [
          { ...axis(), size: 24, values: (_, ticks) => ticks.map((tick) => `${+tick.toFixed(2)} s`) },
          { ...axis(), size: 44 },
        ],
        hooks: { drawAxes: [drawWords] },
      },
      [x, gates.acoustic],
    );
    made.over.addEventListener("mousemove", (event) => {
      const at = made.posToVal(event.offsetX, "x");
      const t = Math.min(x.length - 1, Math.max(0, Math.floor(at / secondsPerFrame)));
      const word = words.find(({ start, end }) => start <= at && at <= end);
      say(event, `${at.toFixed(2)} s`, [
        ["acoustic gate", `${gates.acoustic[t]}`],
        ...(word ? /** @type {[string, string][]} */ ([["word", word.text.toLowerCase()]]) : []),
      ]);
    });
    const head = document.createElement("div");
    head.className = "playhead";
    head.hidden = true;
    made.over.append(head);
    const audio = /** @type {HTMLAudioElement | null} */ (
      document.querySelector(`[data-audio="${element.dataset.gate}"]`)
    );
    audio?.addEventListener("timeupdate", () => {
      head.hidden = audio.paused;
      head.style.left = `${made.valToPos(audio.currentTime, "x")}px`;
    });
    made.over.addEventListener("click", (event) => {
      if (!audio) return;
      audio.currentTime = Math.max(0, made.posToVal(event.offsetX, "x"));
      audio.play();
    });
  };

  /** @param {HTMLElement} element */
  const drawTokens = (element) => {
    const { gates } = examples[Number(element.dataset.tokens)];
    if (!gates) return;
    const { text, tokens } = gates;
    const x = text.map((_, i) => i);
    const crowded = element.clientWidth / x.length < 46;
    const made = plot(
      element,
      {
        height: crowded ? 150 : 122,
        padding: [6, 10, 0, 0],
        cursor: plain,
        scales: { x: { time: false, range: [-0.6, x.length - 0.4] }, y: { range: gateRange(gates) } },
        series: [
          {},
          {
            ...{ stroke: css("--k2"), width: 1.2 },
            points: { show: true, size: 7, fill: css("--k2") },
          },
        ],
        axes: [
          {
            ...{ ...axis(), grid: { show: false }, size: crowded ? 58 : 30, rotate: crowded ? -60 : 0 },
            splits: () => x,
            values: () => tokens.map((token) => token.slice(0, 10)),
          },
          { ...axis(), size: 44 },
        ],
      },
      [x, text],
    );
    made.over.addEventListener("mousemove", (event) => {
      const i = Math.round(made.posToVal(event.offsetX, "x"));
      if (tokens[i] === undefined) return hush();
      say(event, tokens[i], [["text gate", `${text[i]}`]]);
    });
  };

  // ---- all of them, where they can be seen

  const kinds = [
    ["[data-curve]", drawCurves],
    ["[data-reliability]", drawReliability],
    ["[data-gate]", drawGate],
    ["[data-tokens]", drawTokens],
  ];
  const draw = () => {
    for (const [selector, make] of /** @type {[string, (element: HTMLElement) => void][]} */ (kinds))
      for (const element of document.querySelectorAll(selector))
        if (/** @type {HTMLElement} */ (element).clientWidth > 0) make(/** @type {HTMLElement} */ (element));
  };
  draw();
  for (const each of document.querySelectorAll("details")) each.addEventListener("toggle", draw);
  onChange(draw);
})();
