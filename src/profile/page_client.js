/** The script of a profile's page: the timeline, memory, sorting and what is said of what is pointed at. */
(() => {
  /** @typedef {import("./profile.ts").DispatchEvent} Dispatch */
  /** @typedef {{ begin: number, end: number, text: string, colour: string, rows: [string, string][], kernel?: number }} Span */
  /** @typedef {import("uplot")} Plot */
  const { uPlot, wavegatePage } =
    /** @type {{ uPlot: typeof import("uplot"), wavegatePage: import("../page/tools.ts").PageTools }} */ (
      /** @type {unknown} */ (globalThis)
    );
  const { find, digits, css, say, hush, axis: axisOf, onChange } = wavegatePage;
  /** @type {{ profile: import("./profile.ts").Profile, colours: Record<string, number>, stages: [string, number, number][], layers: [string, number, number][] }} */
  const { profile, colours, stages, layers } = wavegatePage.data;
  const { events, cpuEvents, memory, peaks, kernels } = profile;

  /** @param {number} milliseconds */
  const showTime = (milliseconds) =>
    milliseconds < 1 ? `${digits(1000 * milliseconds)} µs` : `${digits(milliseconds)} ms`;
  /** @param {Readonly<Record<string, number>>} shape */
  const showShape = (shape) =>
    Object.entries(shape)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ");
  /** @param {number} index @returns {[string, string][]} */
  const kernelRows = (index) => {
    const {
      shape,
      grid,
      variant,
      time,
      calls,
      flops,
      bytes,
      flopsPerSecond,
      bytesPerSecond,
      ceiling,
      share,
    } = kernels[index];
    return [
      ["shape", showShape(shape)],
      ["grid", grid.join(" × ")],
      ["variant", variant],
      ["time", `${showTime(time.median)} ± ${showTime(time.spread / 2)} in ${calls} calls`],
      [
        "work",
        `${flops === null ? "FLOP unknown" : `${digits(flops / 1e6)} MFLOP`}, ${digits(bytes / 1e6)} MB`,
      ],
      [
        "speed",
        [flopsPerSecond, bytesPerSecond]
          .map((x, i) => (x === null ? "–" : `${digits(x / 1e9)} ${["GFLOP/s", "GB/s"][i]}`))
          .join(", "),
      ],
      ["ceiling", share === null ? "unknown" : `${(100 * share).toFixed(1)} % of ${ceiling}`],
    ];
  };
  /** Lights the dots and the rows of a kernel; none without one. @param {string | undefined} index */
  const light = (index) => {
    for (const each of document.querySelectorAll("[data-kernel]"))
      each.classList.toggle("lit", /** @type {HTMLElement} */ (each).dataset.kernel === index);
  };
  for (const title of document.querySelectorAll(".dot title")) title.remove();
  for (const each of document.querySelectorAll("[data-kernel]")) {
    const { kernel = "0" } = /** @type {HTMLElement} */ (each).dataset;
    each.addEventListener("mousemove", (event) => {
      light(kernel);
      say(
        /** @type {MouseEvent} */ (event),
        `${Number(kernel) + 1} ${kernels[Number(kernel)].name}`,
        kernelRows(Number(kernel)),
      );
    });
    each.addEventListener("mouseleave", () => {
      light(undefined);
      hush();
    });
  }

  // ---- timeline

  /** @param {Dispatch} event @returns {[string, string][]} */
  const dispatchRows = ({
    stage,
    layer,
    shape,
    grid,
    variant,
    begin,
    end,
    flops,
    bytes,
    unit,
    recorded,
    recording,
  }) => {
    const seconds = (end - begin) / 1000;
    /** @type {[string, string][]} */
    const rows = [
      ["stage", stage],
      ["layer", layer],
      ["shape", showShape(shape)],
      ["grid", grid.join(" × ")],
      ["variant", variant],
      ["on the GPU", `${showTime(end - begin)}, from ${showTime(begin)}`],
      ["recorded", `at ${showTime(recorded)}, in ${showTime(recording)}`],
      [
        "work",
        `${flops === null ? "FLOP unknown" : `${digits(flops / 1e6)} MFLOP (${unit})`}, ${digits(bytes / 1e6)} MB`,
      ],
    ];
    if (seconds > 0) {
      const speeds = [
        flops === null ? [] : `${digits(flops / seconds / 1e9)} GFLOP/s`,
        `${digits(bytes / seconds / 1e9)} GB/s`,
      ];
      rows.push(["speed", speeds.flat().join(", ")]);
      const peak = peaks?.[unit];
      if (peaks && peak && flops !== null) {
        const [arithmetic, traffic] = [flops / peak, bytes / peaks.copy];
        const ceiling = arithmetic > traffic ? unit : "copy";
        rows.push([
          "ceiling",
          `${((100 * Math.max(arithmetic, traffic)) / seconds).toFixed(1)} % of ${ceiling}`,
        ]);
      }
    }
    return rows.filter(([, value]) => value !== "");
  };

  /** @param {[string, number, number][]} spans @returns {Span[]} */
  const plainSpans = (spans) =>
    spans.map(([text, begin, end], i) => ({
      ...{ text, begin, end, colour: i % 2 === 0 ? "--k7" : "--wait" },
      rows: [["time", `${showTime(end - begin)}, from ${showTime(begin)}`]],
    }));
  /** @type {{ name: string, spans: Span[] }[]} */
  const known = [
    { name: "stages", spans: plainSpans(stages) },
    { name: "layers", spans: plainSpans(layers) },
    {
      name: "GPU",
      spans: events.map((event) => ({
        ...{ begin: event.begin, end: event.end, text: `${event.kernel}.${event.entry}` },
        ...{ colour: `--k${colours[event.kernel]}`, rows: dispatchRows(event) },
      })),
    },
    {
      name: "CPU records",
      spans: events.map((event) => ({
        ...{ begin: event.recorded, end: event.recorded + event.recording },
        ...{ text: `record ${event.kernel}.${event.entry}`, colour: `--k${colours[event.kernel]}` },
        rows: dispatchRows(event),
      })),
    },
    {
      name: "CPU waits",
      spans: cpuEvents.map(({ kind, begin, end }) => ({
        ...{ begin, end, text: kind, colour: kind === "wait" ? "--wait" : "--submit" },
        rows: [["time", `${showTime(end - begin)}, from ${showTime(begin)}`]],
      })),
    },
  ];
  const lanes = known.filter(({ spans }) => spans.length > 0);
  for (const { spans } of lanes) spans.sort((a, b) => a.begin - b.begin);

  const all = [
    ...events.flatMap(({ begin, end, recorded }) => [begin, end, recorded]),
    ...cpuEvents.map(({ end }) => end),
  ];
  const whole = {
    min: all.reduce((least, x) => Math.min(least, x), 0),
    max: all.reduce((most, x) => Math.max(most, x), 0) || 1,
  };
  const LEFT = 86;
  const LANE = 26;

  /** What text on a colour is legible in. @param {string} colour */
  const inkOn = (colour) => {
    const [r, g, b] = [1, 3, 5].map((i) => Number.parseInt(colour.slice(i, i + 2), 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
  };

  /** @param {Plot} plot */
  const drawLanes = (plot) => {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    const { min = 0, max = 1 } = /** @type {{ min?: number, max?: number }} */ (plot.scales.x);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    const inks = new Map(
      ["--wait", "--submit", ...[0, 1, 2, 3, 4, 5, 6, 7].map((i) => `--k${i}`)].map((name) => [
        name,
        css(name),
      ]),
    );
    for (const [row, { name, spans }] of lanes.entries()) {
      // Layers differ at their ends.
      /** @param {string} text @param {number} length */
      const shorten = (text, length) =>
        name === "layers" ? `…${text.slice(-length)}` : `${text.slice(0, length)}…`;
      const top = bbox.top + ((row + 0.1) * bbox.height) / lanes.length;
      const height = (0.8 * bbox.height) / lanes.length;
      for (const { begin, end, text, colour } of spans) {
        if (end < min || begin > max) continue;
        const x = plot.valToPos(begin, "x", true);
        const width = Math.max(ratio, plot.valToPos(end, "x", true) - x);
        const fill = inks.get(colour) ?? "#888";
        ctx.fillStyle = fill;
        // A line of what lies below parts neighbours.
        ctx.fillRect(x, top, width > 4 * ratio ? width - ratio : width, height);
        const from = Math.max(x, bbox.left) + 4 * ratio;
        const space = Math.min(x + width, bbox.left + bbox.width) - from - 4 * ratio;
        if (space < 24 * ratio) continue;
        const fits = Math.floor(space / ctx.measureText("n").width);
        const shown = text.length <= fits ? text : shorten(text, Math.max(1, fits - 1));
        if (ctx.measureText(shown).width > space) continue;
        ctx.fillStyle = inkOn(fill);
        ctx.fillText(shown, from, top + height / 2);
      }
    }
    ctx.restore();
  };

  /** @param {Plot} plot @param {MouseEvent} event */
  const under = (plot, event) => {
    const { left, top, height } = plot.over.getBoundingClientRect();
    const lane = lanes[Math.floor(((event.clientY - top) / height) * lanes.length)];
    const at = plot.posToVal(event.clientX - left, "x");
    const slack = plot.posToVal(event.clientX - left + 2, "x") - at;
    return lane?.spans.findLast(({ begin, end }) => begin - slack <= at && at <= end + slack);
  };

  /** @type {Plot[]} */
  let plots = [];
  /** @param {number} min @param {number} max */
  const show = (min, max) => {
    const length = Math.min(whole.max - whole.min, Math.max(max - min, 1e-3));
    const from = Math.max(whole.min, Math.min(min, whole.max - length));
    for (const plot of plots) plot.setScale("x", { min: from, max: from + length });
  };
  const shown = () => /** @type {{ min: number, max: number }} */ (plots[0].scales.x);
  /** Makes what is shown `factor` times as long, around `at`. @param {number} factor @param {number} at */
  const zoom = (factor, at) => {
    const { min, max } = shown();
    show(at - (at - min) * factor, at + (max - at) * factor);
  };

  /** Moving, zooming, and the same time in both plots. @param {Plot} plot */
  const steer = (plot) => {
    const { over } = plot;
    over.addEventListener(
      "wheel",
      (event) => {
        if (!(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        zoom(event.deltaY > 0 ? 1.25 : 0.8, plot.posToVal(event.offsetX, "x"));
      },
      { passive: false },
    );
    over.addEventListener(
      "mousedown",
      (event) => {
        if (!event.shiftKey) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        const { min, max } = shown();
        const perPixel = (max - min) / over.clientWidth;
        /** @param {MouseEvent} to */
        const move = (to) =>
          show(min - (to.clientX - event.clientX) * perPixel, max - (to.clientX - event.clientX) * perPixel);
        addEventListener("mousemove", move);
        addEventListener("mouseup", () => removeEventListener("mousemove", move), { once: true });
      },
      { capture: true },
    );
    over.addEventListener(
      "dblclick",
      (event) => {
        event.stopImmediatePropagation();
        show(whole.min, whole.max);
      },
      { capture: true },
    );
    over.addEventListener("mouseleave", hush);
  };

  const draw = () => {
    const range = plots.length > 0 ? { ...shown() } : whole;
    for (const plot of plots) plot.destroy();
    const width = /** @type {HTMLElement} */ (find("#timeline")).clientWidth;
    const axis = axisOf();
    const shared = {
      width,
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { show: false },
        sync: { key: "time" },
      },
      hooks: {
        ready: [steer],
        setSelect: [
          /** @param {Plot} plot */
          (plot) => {
            const { left, width: chosen } = plot.select;
            if (chosen > 2) show(plot.posToVal(left, "x"), plot.posToVal(left + chosen, "x"));
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
      },
    };
    const time = { time: false, min: range.min, max: range.max };
    const timeline = new uPlot(
      {
        ...shared,
        height: LANE * lanes.length + 30,
        padding: [4, 12, 0, 0],
        scales: { x: time, y: { range: [0, lanes.length] } },
        series: [{}, { show: false }],
        axes: [
          { ...axis, size: 24, values: (_, ticks) => ticks.map((tick) => `${+tick.toPrecision(6)} ms`) },
          {
            ...axis,
            size: LEFT,
            grid: { show: false },
            ticks: { show: false },
            splits: () => lanes.map((_, i) => lanes.length - i - 0.5),
            values: () => lanes.map(({ name }) => name),
          },
        ],
        hooks: { ...shared.hooks, draw: [drawLanes] },
      },
      [
        [whole.min, whole.max],
        [0, 0],
      ],
      /** @type {HTMLElement} */ (find("#timeline")),
    );
    timeline.over.addEventListener("mousemove", (event) => {
      const span = under(timeline, event);
      if (span) say(event, span.text, span.rows);
      else hush();
    });
    const stepped = uPlot.paths.stepped?.({ align: 1 });
    /** @type {[number[], number[], number[]]} */
    const data = [
      memory.map(([at]) => at),
      memory.map(([, live]) => live / 2 ** 20),
      memory.map(([, , held]) => held / 2 ** 20),
    ];
    const buffers = new uPlot(
      {
        ...shared,
        height: 96,
        padding: [8, 12, 0, 0],
        scales: { x: time, y: { range: (_, __, max) => [0, (max || 1) * 1.1] } },
        series: [
          {},
          {
            label: "in use",
            stroke: css("--k0"),
            fill: `${css("--k0")}40`,
            width: 1.5,
            paths: stepped,
            points: { show: false },
          },
          {
            label: "held",
            stroke: css("--k1"),
            dash: [5, 4],
            width: 1.5,
            paths: stepped,
            points: { show: false },
          },
        ],
        axes: [
          { ...axis, size: 6, values: () => [], ticks: { show: false } },
          { ...axis, size: LEFT, space: 24, values: (_, ticks) => ticks.map((tick) => `${tick} MiB`) },
        ],
      },
      data,
      /** @type {HTMLElement} */ (find("#memory")),
    );
    buffers.over.addEventListener("mousemove", (event) => {
      const at = buffers.posToVal(event.offsetX, "x");
      const now = memory.findLast(([then]) => then <= at);
      if (now)
        say(event, "GPU buffers", [
          ["in use", `${digits(now[1] / 2 ** 20)} MiB`],
          ["held", `${digits(now[2] / 2 ** 20)} MiB`],
          ["at", showTime(at)],
        ]);
      else hush();
    });
    plots = [timeline, buffers];
  };
  draw();
  for (const button of document.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => {
      const factor = Number(/** @type {HTMLElement} */ (button).dataset.zoom);
      const { min, max } = shown();
      if (factor === 0) show(whole.min, whole.max);
      else zoom(factor, (min + max) / 2);
    });
  onChange(draw);
})();
