/** The script of a recording's page: waveform, emotion and gates over time, and the player. */
(() => {
  const { uPlot, wavegatePage } =
    /** @type {{ uPlot: typeof import("uplot"), wavegatePage: import("../../page/tools.ts").PageTools }} */ (
      /** @type {unknown} */ (globalThis)
    );
  const { css, say, hush, axis, onChange, find } = wavegatePage;
  /** @type {import("./page.ts").RecordingData} */
  const { seconds, labels, outline, segments, words } = wavegatePage.data;
  const audio = /** @type {HTMLAudioElement} */ (find("audio"));
  /** @type {import("uplot")[]} */
  const plots = [];
  /** @type {[number, number]} */
  let shown = [0, Math.max(seconds, 0.1)];

  /** @param {number} at */
  const clock = (at) => {
    const minutes = Math.floor(at / 60);
    const rest = at - 60 * minutes;
    return shown[1] - shown[0] < 60 && minutes === 0
      ? `${+at.toFixed(2)} s`
      : `${minutes}:${`${Math.floor(rest)}`.padStart(2, "0")}`;
  };
  /** @param {number} at */
  const play = (at) => {
    if (!audio.src) return;
    audio.currentTime = at;
    audio.play().catch(() => {});
  };
  /** @template {{ start: number, end: number }} T @param {readonly T[]} list @param {number} at */
  const heldAt = (list, at) => list.find(({ start, end }) => start <= at && at < end);

  /** A step line of the segments, with gaps between. @param {(segment: (typeof segments)[number]) => number | undefined} of */
  const steps = (of) => segments.flatMap((segment) => [of(segment) ?? null, of(segment) ?? null, null]);
  const stepTimes = segments.flatMap(({ start, end }) => [start, Math.max(start, end - 1e-4), end]);

  /** @param {string} colour @param {string} [fill] */
  const line = (colour, fill) => ({
    ...{ stroke: colour, width: 2, points: { show: false }, spanGaps: false, fill },
  });

  /** Bands of the segments in the colours of their emotions, and words where there is room. @param {import("uplot")} made */
  const drawSpeech = (made) => {
    const { ctx, bbox } = made;
    const ratio = devicePixelRatio;
    const [left, right] = [bbox.left, bbox.left + bbox.width];
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, 0, bbox.width, ctx.canvas.height);
    ctx.clip();
    for (const { start, end, emotion } of segments) {
      const [from, to] = [start, end].map((at) => made.valToPos(at, "x", true));
      const place = emotion === undefined ? -1 : labels.indexOf(emotion);
      ctx.fillStyle = `${css(place < 0 ? "--k7" : `--k${place % 8}`)}24`;
      ctx.fillRect(from, bbox.top, to - from, bbox.height);
    }
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.textBaseline = "bottom";
    ctx.fillStyle = css("--text");
    let edge = left;
    const visible = words.filter(({ start, end }) => end > shown[0] && start < shown[1]);
    // Where few of them have room, those that have are of no use.
    const crowded = 28 * ratio * visible.length > bbox.width;
    for (const { text, start, end } of crowded ? [] : visible) {
      const middle = made.valToPos((start + end) / 2, "x", true);
      if (middle < left || middle > right) continue;
      const half = ctx.measureText(text).width / 2;
      if (middle - half < edge + 5 * ratio) continue;
      edge = middle + half;
      ctx.fillText(text.toLowerCase(), middle, bbox.top - 3 * ratio);
    }
    ctx.restore();
  };

  /** @param {HTMLElement} element @param {Partial<import("uplot").Options>} options @param {(number | null)[][]} data */
  const plot = (element, options, data) => {
    /** @type {import("uplot").Options} */
    const all = {
      ...{ legend: { show: false }, width: element.clientWidth, height: 130 },
      cursor: { drag: { x: true, y: false }, points: { show: false } },
      ...options,
      series: [{}, ...(options.series ?? [])],
      scales: { x: { time: false, min: shown[0], max: shown[1] }, ...options.scales },
      axes: [
        { ...axis(), size: 26, values: (_, ticks) => ticks.map(clock) },
        { ...axis(), size: 52, ...options.axes?.[0] },
      ],
      hooks: {
        ...options.hooks,
        setScale: [
          (made, key) => {
            const { min, max } = made.scales.x;
            if (key !== "x" || min == null || max == null || (min === shown[0] && max === shown[1])) return;
            shown = [Math.max(0, min), Math.min(seconds, max)];
            for (const each of plots) each.setScale("x", { min: shown[0], max: shown[1] });
          },
        ],
      },
    };
    const made = new uPlot(all, /** @type {import("uplot").AlignedData} */ (data), element);
    const head = document.createElement("div");
    head.className = "playhead";
    made.over.append(head);
    let pressed = 0;
    made.over.addEventListener("mousedown", ({ clientX }) => {
      pressed = clientX;
    });
    made.over.addEventListener("click", ({ clientX, offsetX }) => {
      if (Math.abs(clientX - pressed) < 4) play(Math.max(0, made.posToVal(offsetX, "x")));
    });
    made.over.addEventListener("dblclick", () => made.setScale("x", { min: 0, max: seconds }));
    made.over.addEventListener("mouseleave", hush);
    made.over.addEventListener("mousemove", (event) => {
      const at = made.posToVal(event.offsetX, "x");
      const segment = heldAt(segments, at);
      const word = heldAt(words, at);
      /** @type {[string, string][]} */
      const rows = [];
      if (word) rows.push(["word", word.text.toLowerCase()]);
      if (!segment) rows.push(["no speech", ""]);
      for (const [i, p] of (segment?.probabilities ?? []).entries())
        rows.push([labels[i], `${(100 * p).toFixed(1)} %`]);
      if (segment?.gates) {
        rows.push(["acoustic gate", segment.gates.acoustic.toFixed(3)]);
        rows.push(["text gate", segment.gates.text.toFixed(3)]);
      }
      say(event, `${at.toFixed(2)} s`, rows);
    });
    plots.push(made);
  };

  const follow = () => {
    const at = audio.currentTime;
    for (const made of plots) {
      const head = /** @type {HTMLElement} */ (made.over.querySelector(".playhead"));
      head.hidden = at < shown[0] || at > shown[1] || (audio.paused && at === 0);
      head.style.left = `${made.valToPos(at, "x")}px`;
    }
    for (const each of document.querySelectorAll(".now")) each.classList.remove("now");
    if (audio.paused) return;
    const i = segments.findIndex(({ start, end }) => start <= at && at < end);
    const item = document.querySelector(`[data-segment="${i}"]`);
    item?.classList.add("now");
    const spoken = [...(item?.querySelectorAll("p button") ?? [])].filter(
      (button) => Number(/** @type {HTMLElement} */ (button).dataset.at) <= at + 0.02,
    );
    spoken.at(-1)?.classList.add("now");
  };

  const draw = () => {
    for (const made of plots.splice(0)) made.destroy();
    for (const element of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-plot]"))) {
      if (element.dataset.plot === "wave") {
        const x = outline.least.map((_, i) => Math.min(seconds, (i + 0.5) * outline.step));
        const loudest = Math.max(1, ...outline.most.map(Math.abs), ...outline.least.map(Math.abs));
        plot(
          element,
          {
            ...{ height: 150, padding: [20, 10, 0, 0] },
            series: [line(css("--k0")), line(css("--k0"))].map((each) => ({ ...each, width: 1 })),
            bands: [{ series: [2, 1], fill: css("--k0") }],
            scales: { y: { range: [-1.05 * loudest, 1.05 * loudest] } },
            axes: [{ values: (_, ticks) => ticks.map((tick) => `${tick} %`) }],
            hooks: { drawAxes: [drawSpeech] },
          },
          [x, [...outline.least], [...outline.most]],
        );
      } else if (element.dataset.plot === "emotion")
        plot(
          element,
          {
            ...{ height: 150, padding: [8, 10, 0, 0] },
            series: labels.map((_, i) => line(css(`--k${i % 8}`), `${css(`--k${i % 8}`)}18`)),
            scales: { y: { range: [0, 1] } },
            axes: [{ values: (_, ticks) => ticks.map((tick) => `${Math.round(100 * tick)} %`) }],
          },
          [stepTimes, ...labels.map((_, i) => steps(({ probabilities }) => probabilities?.[i]))],
        );
      else
        plot(
          element,
          {
            ...{ height: 120, padding: [8, 10, 0, 0] },
            series: [line(css("--k5")), line(css("--k6"))],
            axes: [{ values: (_, ticks) => ticks.map((tick) => `${+tick.toFixed(3)}`) }],
          },
          [stepTimes, steps(({ gates }) => gates?.acoustic), steps(({ gates }) => gates?.text)],
        );
    }
    follow();
  };

  draw();
  onChange(draw);
  for (const event of ["timeupdate", "pause", "seeked"]) audio.addEventListener(event, follow);
  document.addEventListener("click", ({ target }) => {
    const at = /** @type {HTMLElement} */ (target).closest?.("[data-at]")?.getAttribute("data-at");
    if (at) play(Number(at));
  });
  document.querySelector("input[type=file]")?.addEventListener("change", ({ target }) => {
    const [file] = /** @type {HTMLInputElement} */ (target).files ?? [];
    if (file) audio.src = URL.createObjectURL(file);
  });
})();
