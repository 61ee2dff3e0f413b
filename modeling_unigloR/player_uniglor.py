"""A web page that plays signing: the whole signer, and each hand and the face large.

Shapes: N clips, T frames.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .figure_uniglor import CLOSE_UPS, COLORS, DARK_COLORS, LEGEND, CloseUp, Shape
from .scene_uniglor import Scene, drawable, escape, make_scene, name_of, one_for_each

MISSING = -32768  # int16 for a shape that is not drawn
SPEEDS = (0.25, 0.5, 0.75, 1, 1.5, 2)
WORD_STARTS, WORD_GOES_ON = "\u2581\u0120", "##"  # how SentencePiece and GPT-2 mark a word's first token, and BERT its further ones
MANY = 3  # clips from which on each is shown smaller, without its face

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #ffffff; --line: #d4d4d4; --mark: #ffe08a; LIGHT }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #17181a; --line: #44474b; --mark: #6b5510; DARK } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
main { padding: 8px; max-width: MAXWIDTHpx; margin: 0 auto; background: var(--paper) }
#clips { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, NARROWESTpx), 1fr)) }
figure { margin: 0; min-width: 0; container-type: inline-size }
figcaption { font-weight: 600; min-height: 1.45em; overflow-wrap: anywhere }
/* A narrow figure: the signer, below it the hands; one hand alone is twice as large as the face. A wide one: views of one size. */
.views { display: grid; gap: 6px; align-items: start; grid-template-columns: repeat(12, minmax(0, 1fr)) }
.views > div { position: relative; min-width: 0; grid-column: span 6 }
.views > .whole { grid-column: 1 / -1 }
.views.one-hand > div:not(.whole, .face) { grid-column: span 8 }
.views.one-hand > .face { grid-column: span 4 }
@container (min-width: 560px) {
  .views > .whole { grid-column: span 6 }
  .views.one-hand.of-3 > div:not(.face) { grid-column: span 5 }
  .views.one-hand.of-3 > .face { grid-column: span 2 }
}
@container (min-width: 840px) { .views.of-3:not(.one-hand) > div { grid-column: span 4 } }
#clips.one figcaption:empty { display: none }
#clips.many figcaption { font-weight: 400; font-size: 13px }
#clips.many .views > .whole { grid-column: span 8; grid-row: span 2 }
#clips.many .views > div:not(.whole) { grid-column: span 4 }
#clips.many .views > .face, #clips.many span { display: none }
.views span { position: absolute; left: 4px; bottom: 4px; padding: 0 4px; border-radius: 3px; font-size: 12px; line-height: 1.4; pointer-events: none; background: color-mix(in srgb, var(--paper) 75%, transparent) }
canvas { display: block; width: 100%; aspect-ratio: 1; border: 1px solid var(--line); border-radius: 6px; cursor: pointer; touch-action: manipulation }
p { margin: 6px 0; overflow-wrap: anywhere }
p:empty { display: none }
#words { font-size: 18px }
#words span.now { background: var(--mark); border-radius: 3px; box-shadow: 0 0 0 2px var(--mark) }
#bar { position: sticky; bottom: 0; background: var(--paper); display: flex; flex-wrap: wrap; align-items: center; gap: 6px 8px; margin: 8px 0 4px }
#bar > span { display: inline-flex; flex-wrap: wrap; align-items: center; gap: 6px }
#seek { flex: 1 1 100%; min-width: 0; margin: 4px 0; height: 24px; border-radius: 4px }
#time { font-variant-numeric: tabular-nums; white-space: nowrap; flex: 1 1 auto }
button, select { font: inherit; color: var(--ink); background: var(--torso); border: 1px solid var(--line); border-radius: 6px; min-height: 34px; min-width: 34px; padding: 2px 9px }
button { cursor: pointer }
input[type=checkbox] { width: 18px; height: 18px; margin: 0 }
#play { min-width: 5em; font-weight: 600 }
label { display: inline-flex; align-items: center; gap: 4px; white-space: nowrap }
#legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 6px 0 0; padding: 0; list-style: none; font-size: 13px }
#legend li::before { content: ""; display: inline-block; width: 14px; height: 14px; border-radius: 3px; margin-right: 5px; vertical-align: -2px; background: var(--part) }
details { font-size: 13px; margin-top: 4px }
kbd { border: 1px solid var(--line); border-radius: 4px; padding: 0 4px; font: inherit }
:fullscreen main { max-width: none; height: 100vh; overflow: auto }
:focus-visible { outline: 3px solid #4c99de; outline-offset: 2px }
"""  # noqa: E501

_CONTROLS = """<div id="bar" role="group" aria-label="Playback">
<input id="seek" type="range" min="0" max="LAST" value="0" step="1" aria-label="Frame">
<button id="play" type="button" aria-keyshortcuts="Space">Play</button>
<button id="back" type="button" aria-label="One frame back" aria-keyshortcuts="ArrowLeft">&#x276E;</button>
<button id="next" type="button" aria-label="One frame on" aria-keyshortcuts="ArrowRight">&#x276F;</button>
<span id="time"></span>
<label>Speed <select id="speed">SPEEDS</select></label>
<label><input id="mirror" type="checkbox" aria-keyshortcuts="m"> Mirror</label>
<button id="full" type="button" aria-keyshortcuts="f">Full screen</button>
<span role="group" aria-label="Loop"><label><input id="loop" type="checkbox" checked> Loop</label>
<button id="start" type="button" aria-label="Loop from this frame" aria-keyshortcuts="[">from here</button>
<button id="end" type="button" aria-label="Loop up to this frame" aria-keyshortcuts="]">to here</button>
<button id="all" type="button" aria-label="Loop all frames" aria-keyshortcuts="\\">all</button>
<span id="part" role="status"></span></span>
</div>"""

_KEYS = """<details><summary>Keys</summary><kbd>space</kbd> play or pause, <kbd>&larr;</kbd> <kbd>&rarr;</kbd> one frame,
<kbd>Home</kbd> <kbd>End</kbd> first and last, <kbd>[</kbd> <kbd>]</kbd> loop from here, to here, <kbd>\\</kbd> loop all,
<kbd>m</kbd> mirror, <kbd>f</kbd> full screen</details>"""

_SCRIPT = """
"use strict";
(() => {
  const motion = JSON.parse(document.getElementById("motion").textContent);
  const element = id => document.getElementById(id);
  const [play, seek, time, speed, loop, mirror, full] = ["play", "seek", "time", "speed", "loop", "mirror", "full"].map(element);
  const unpack = text => new Int16Array(Uint8Array.from(atob(text), byte => byte.charCodeAt(0)).buffer);
  const clips = motion.clips.map(clip => ({shapes: clip.shapes, points: unpack(clip.points), size: clip.size,
    centers: Object.fromEntries(Object.entries(clip.closeUps).map(([part, text]) => [part, unpack(text)]))}));
  const canvases = [...document.querySelectorAll("canvas")];
  const words = [...document.querySelectorAll("#words span")];
  let position = 0, shown = -1, playing = false, before = 0, from = 0, to = motion.frames - 1;

  function view(canvas, frame) {  // left, top, side in shoulder lengths
    const part = canvas.dataset.part;
    if (!part) return motion.view;
    const centers = clips[canvas.dataset.clip].centers[part], side = motion.sides[part];
    return [centers[2 * frame] * motion.unit - side / 2, centers[2 * frame + 1] * motion.unit - side / 2, side];
  }

  function draw(frame) {
    const style = getComputedStyle(document.documentElement), colors = {};
    const color = name => colors[name] ??= style.getPropertyValue("--" + name).trim();
    for (const canvas of canvases) {
      const context = canvas.getContext("2d"), clip = clips[canvas.dataset.clip];
      const [left, top, side] = view(canvas, frame), scale = canvas.width / side;
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (mirror.checked) context.setTransform(-1, 0, 0, 1, canvas.width, 0);
      context.lineCap = context.lineJoin = "round";
      let at = frame * clip.size;
      for (const [name, width, closed, rim, count] of clip.shapes) {
        const start = at;
        at += 2 * count;
        if (clip.points[start] === motion.missing) continue;
        context.beginPath();
        for (let point = 0; point < count; point++) {
          const x = (clip.points[start + 2 * point] * motion.unit - left) * scale;
          const y = (clip.points[start + 2 * point + 1] * motion.unit - top) * scale;
          if (point) context.lineTo(x, y); else context.moveTo(x, y);
        }
        if (closed) context.closePath();
        if (rim) {
          context.strokeStyle = color("paper");
          context.lineWidth = (width + 2 * rim) * scale;
          context.stroke();
        }
        context.strokeStyle = context.fillStyle = color(name);
        context.lineWidth = width * scale;
        if (closed) context.fill();
        context.stroke();
      }
    }
  }

  function show(again) {
    const frame = Math.min(Math.floor(position), motion.frames - 1);
    if (frame === shown && again !== true) return;
    shown = frame;
    draw(frame);
    const seconds = (frame / motion.fps).toFixed(2), whole = (motion.frames / motion.fps).toFixed(2);
    seek.value = frame;
    time.textContent = `${seconds} / ${whole} s, frame ${frame + 1} / ${motion.frames}`;
    seek.setAttribute("aria-valuetext", time.textContent);
    for (const word of words) {
      word.classList.toggle("now", frame / motion.fps >= Number(word.dataset.start) && frame / motion.fps < Number(word.dataset.end));
    }
  }

  function tick(now) {
    if (!playing) return;
    position += Math.min((now - before) / 1000, 0.25) * motion.fps * Number(speed.value);  // a tab that slept does not jump
    before = now;
    if (position >= to + 1) {
      if (loop.checked) position = from + (position - from) % (to + 1 - from);
      else { position = to; setPlaying(false); }
    }
    show();
    requestAnimationFrame(tick);
  }

  function setPlaying(value) {
    if (value && !playing) {
      if (position >= to || position < from) position = from;
      before = performance.now();
      requestAnimationFrame(tick);
    }
    playing = value;
    play.textContent = playing ? "Pause" : "Play";
  }

  function go(frame) {
    setPlaying(false);
    position = Math.max(0, Math.min(motion.frames - 1, frame));
    show();
  }

  function setPart(start, end) {  // the frames that loop, both included
    [from, to] = start <= end ? [start, end] : [end, start];
    const whole = from === 0 && to === motion.frames - 1, last = Math.max(1, motion.frames - 1);
    seek.style.background = whole ? "" :
      `linear-gradient(to right, transparent ${100 * from / last}%, var(--mark) 0 ${100 * to / last}%, transparent 0)`;
    element("part").textContent = whole ? "" : `loops ${(from / motion.fps).toFixed(2)} to ${((to + 1) / motion.fps).toFixed(2)} s`;
  }

  function fit() {
    for (const canvas of canvases) {
      const side = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
      if (canvas.width !== side) canvas.width = canvas.height = side;
    }
    show(true);
    try {  // inside the frame of player_html, the frame takes the player's height
      const height = document.querySelector("main").getBoundingClientRect().height;
      const holder = window.frameElement;
      if (holder && holder.hasAttribute("srcdoc") && !document.fullscreenElement) holder.style.height = Math.ceil(height) + 2 + "px";
    } catch (error) { /* a frame of another origin keeps its own */ }
  }

  const actions = {
    " ": () => setPlaying(!playing), ArrowLeft: () => go(shown - 1), ArrowRight: () => go(shown + 1), Home: () => go(0),
    End: () => go(motion.frames - 1), "[": () => setPart(shown, to), "]": () => setPart(from, shown),
    "\\\\": () => setPart(0, motion.frames - 1), m: () => { mirror.checked = !mirror.checked; show(true); },
    f: () => document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen(),
  };
  play.addEventListener("click", actions[" "]);
  for (const [id, key] of [["back", "ArrowLeft"], ["next", "ArrowRight"], ["start", "["], ["end", "]"], ["all", "\\\\"], ["full", "f"]]) {
    element(id).addEventListener("click", actions[key]);
  }
  mirror.addEventListener("change", () => show(true));
  canvases.forEach(canvas => canvas.addEventListener("click", actions[" "]));
  seek.addEventListener("input", () => go(Number(seek.value)));
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target === speed) return;
    if (event.key === " " && event.target.matches?.("button, summary, input[type=checkbox]")) return;  // those have their own use for it
    if (event.key in actions) { actions[event.key](); event.preventDefault(); }
  });
  if (!document.fullscreenEnabled) full.hidden = true;
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(true));
  new ResizeObserver(fit).observe(document.querySelector("main"));
  fit();
  setPlaying(!window.matchMedia("(prefers-reduced-motion: reduce)").matches && motion.frames > 1);
})();
"""


def to_html(
    clips: Any,
    fps: float | str = "auto",
    layout: str | None = None,
    size: int = 360,
    titles: Sequence[str] | str | None = None,
    text: Sequence[str] | str | None = None,
    words: Iterable[tuple[str, float, float]] | None = None,
) -> str:
    """A web page that plays clips in step: the whole signer, each hand and the face large.

    Play and pause (space), step by frame (arrow keys), seek, speeds from a quarter to double, loop a part ([ and ], \\ for all),
    mirror (m) for learners, full screen (f). One file that loads nothing, and works from a disk. It follows the reader's light or dark
    colours, and does not start by itself where the reader has asked for less motion.

    Args:
        clips: a clip or a list of clips, see `rendering_uniglor`.
        fps: frames a second; by default what the clips say, or 25.
        layout: name of the keypoints' layout; by default what the clips say, or uniglor73.
        size: greatest pixels of a view's side; narrow screens get smaller ones.
        titles: a title above each clip.
        text: a str below all clips, or a list with one for each.
        words: [(word, start, end)] in seconds, as `attended_words` gives them, shown below all clips; the word of the moment is marked.

    Returns:
        str, a whole HTML document.
    """
    clips, fps, layout = drawable(clips, fps, layout)
    scene = make_scene(clips, layout, titles, with_close_ups=True)
    num_clips = len(scene.figures)
    below = text if isinstance(text, str) else ""
    texts = one_for_each("text", None if below else text, num_clips)
    spoken = "".join(
        f'<span data-start="{float(start):.3f}" data-end="{float(end):.3f}">{escape(str(word))}</span> ' for word, start, end in words or ()
    )
    kind = "one" if num_clips == 1 else "many" if num_clips >= MANY else "few"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name_of(scene.titles))}</title><style>{_style(scene, size)}</style></head>
<body><main>
<div id="clips" class="{kind}">{_figures(scene, texts)}</div>
<p dir="auto">{escape(below)}</p>
<p dir="auto" id="words">{spoken}</p>
{_controls(scene)}
{_legend(scene)}
{_KEYS}
</main>
<script id="motion" type="application/json">{json.dumps(_motion(scene, fps), separators=(",", ":"))}</script>
<script>{_SCRIPT}</script>
</body></html>
"""


def player_html(
    clips: Any,
    fps: float | str = "auto",
    layout: str | None = None,
    size: int = 360,
    titles: Sequence[str] | str | None = None,
    text: Sequence[str] | str | None = None,
    words: Iterable[tuple[str, float, float]] | None = None,
) -> str:
    """The page of `to_html` as one <iframe> to put into another page, a notebook's output or Gradio's `gr.HTML`.

    A frame of its own, since those do not run a script that is inserted, and so that several players on a page share no keys and
    no styles. Arguments as for `to_html`.

    Returns:
        str, an HTML fragment.
    """
    page = to_html(clips, fps, layout, size, titles, text, words)
    name = escape(name_of(one_for_each("titles", titles, page.count("<figure>"))))
    # The player sets the frame's height when it has run; until then it is about right.
    return (
        f'<iframe title="{name}" srcdoc="{escape(page)}" allow="fullscreen *" '
        f'style="width:100%;height:{size + 200}px;border:0;color-scheme:light dark"></iframe>'
    )


def attended_words(attentions: Mapping[str, Any], special_tokens: Iterable[str] = ()) -> list[tuple[str, float, float]]:
    """When each word of a translation was seen, for `to_html(..., words=...)`.

    A word's moment is the shortest stretch of the clip that holds half of the attention of its tokens: in the decoder's last layer,
    mean over heads.

    Args:
        attentions: what the sign-to-text pipeline gives with `return_attentions=True`.
        special_tokens: tokens that are no words, as in `tokenizer.all_special_tokens`.

    Returns:
        list of (word, start, end) in seconds.
    """
    weights, seconds = attentions["cross"][-1].mean(0), attentions["seconds"]  # (L, S), (S, 2)
    tokens, special = attentions["tokens"], set(special_tokens)
    marked = any(token[:1] in WORD_STARTS for token in tokens if token not in special)
    words: list[tuple[str, np.ndarray]] = []  # each with its attention (S,)
    joined = False  # whether the next token may belong to the last of them
    for token, attention in zip(tokens, weights):
        if token in special:
            joined = False
            continue
        starts = token[:1] in WORD_STARTS if marked else not token.startswith(WORD_GOES_ON)
        if joined and not starts:
            words[-1] = words[-1][0] + token.removeprefix(WORD_GOES_ON), words[-1][1] + attention
        else:
            words.append((token.lstrip(WORD_STARTS), attention))
        joined = True
    spans = ((word, *_shortest_half(attention)) for word, attention in words if word.strip())
    return [(word, float(seconds[first, 0]), float(seconds[last, 1])) for word, first, last in spans]


def _shortest_half(attention: np.ndarray) -> tuple[int, int]:
    """First and last index of the shortest run that holds half of a sum; the fullest of those that are equally short."""
    sums = np.concatenate([[0.0], np.cumsum(attention)])
    for length in range(1, len(attention) + 1):
        runs = sums[length:] - sums[:-length]
        if runs.max() >= sums[-1] / 2:
            return int(runs.argmax()), int(runs.argmax()) + length - 1
    return 0, len(attention) - 1


def _style(scene: Scene, size: int) -> str:
    """The style sheet, which knows the figure's colours and how wide the page grows."""
    light, dark = (" ".join(f"--{name}: {color};" for name, color in colors.items()) for colors in (COLORS, DARK_COLORS))
    views = max(1 + len(followed) for followed in scene.close_ups)
    columns = (min(views, 3) if views != 4 else 2) if len(scene.figures) == 1 else 2 * len(scene.figures)
    narrowest = 240 if len(scene.figures) >= MANY else 340
    sizes = {"MAXWIDTH": max(size * columns + 40, 480), "NARROWEST": narrowest}
    style = _STYLE.replace("LIGHT", light).replace("DARK", dark)
    for name, value in sizes.items():
        style = style.replace(name, str(value))
    return style


def _figures(scene: Scene, texts: Sequence[str]) -> str:
    """A <figure> for each clip: its title, its views, its text."""
    return "".join(
        f'<figure><figcaption dir="auto">{escape(title)}</figcaption>{_views(number, title, followed)}'
        f'<p dir="auto">{escape(text)}</p></figure>'
        for number, (title, text, followed) in enumerate(zip(scene.titles, texts, scene.close_ups))
    )


def _views(number: int, title: str, followed: dict[str, CloseUp]) -> str:
    """The canvases of one clip: the signer, each hand, the face."""
    name = escape(title or f"Clip {number + 1}")
    views = [f'<div class="whole"><canvas role="img" data-clip="{number}" aria-label="{name}: moving figure of a signer"></canvas></div>']
    for part in CLOSE_UPS:
        if part in followed:
            label = followed[part].title
            views.append(
                f'<div class="{part}"><canvas role="img" data-clip="{number}" data-part="{part}" aria-label="{name}: {label}, large">'
                f"</canvas><span>{label}</span></div>"
            )
    hands = len(followed.keys() - {"face"})
    return f'<div class="views of-{len(views)}{" one-hand" if hands == 1 else ""}">{"".join(views)}</div>'


def _controls(scene: Scene) -> str:
    speeds = "".join(f'<option value="{speed}"{" selected" if speed == 1 else ""}>{speed}&times;</option>' for speed in SPEEDS)
    return _CONTROLS.replace("LAST", str(scene.num_frames - 1)).replace("SPEEDS", speeds)


def _legend(scene: Scene) -> str:
    parts = [part for part in LEGEND if any(shape.part == part for shapes in scene.figures for shape in shapes)]
    named = "".join(f'<li style="--part: var(--{part})">{part.replace("_", " ")}</li>' for part in parts)
    return f'<ul id="legend" aria-label="Colours">{named}</ul>'


def _motion(scene: Scene, fps: float) -> dict[str, Any]:
    """What the script plays: numbers of all clips, as JSON takes them."""
    largest = [np.abs(shape.points[shape.drawn]).max() for shapes in scene.figures for shape in shapes]
    largest += [np.abs(part.centers).max() for followed in scene.close_ups for part in followed.values()]
    unit = float(max(largest, default=1.0)) / 32767  # shoulder lengths of one step of an int16
    return {
        "fps": float(fps),
        "frames": scene.num_frames,
        "unit": unit,
        "missing": MISSING,
        "view": scene.view,
        "sides": {part: close_up.side for followed in scene.close_ups for part, close_up in followed.items()},
        "clips": [_packed(shapes, followed, unit) for shapes, followed in zip(scene.figures, scene.close_ups)],
    }


def _packed(shapes: list[Shape], followed: dict[str, CloseUp], unit: float) -> dict[str, Any]:
    """A clip as the player reads it: its shapes, the int16 coordinates of all of them frame by frame, and its close-ups' centres."""

    def packed(values: np.ndarray) -> str:
        return b64encode(np.ascontiguousarray(values, "<i2").tobytes()).decode()

    rounded = [np.where(shape.drawn[:, None, None], np.rint(shape.points / unit), MISSING) for shape in shapes]
    steps = np.concatenate(rounded, 1) if rounded else np.zeros((0, 0, 2))  # (T, P of all shapes, 2)
    return {
        "shapes": [[shape.color, round(shape.width, 5), int(shape.closed), round(shape.rim, 5), shape.points.shape[1]] for shape in shapes],
        "size": 2 * steps.shape[1],
        "points": packed(steps),
        "closeUps": {part: packed(np.rint(close_up.centers / unit)) for part, close_up in followed.items()},
    }
