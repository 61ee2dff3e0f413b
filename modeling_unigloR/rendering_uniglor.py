"""Skeletons as pictures: still strips, animations, a player for web pages, and .pose files for other viewers.

    render(generated, "hello.mp4", fps=25)  # or .html, .svg, .gif, .png, .pose
    page = to_html([(truth, mask), generated], titles=["truth", "generated"], text="hello")

Every function takes clips: keypoints (T, K, 2 or 3) in shoulder lengths about the neck, y downwards, as `KeypointProcessor` and
the models give them; or a pair (keypoints, keypoint_mask); or a list of these, drawn together on one scale. A clip that is shorter
than its neighbours holds its last frame. A stroke is drawn only where both of its ends were seen; of three coordinates x and y are
drawn. SVG and HTML need nothing but numpy; the others import Pillow, PyAV or pose-format when they are called.

Shapes: N clips, T frames, K keypoints, C channels, E strokes of a part.
"""

import json
import re
from base64 import b64encode
from fractions import Fraction
from html import escape as escape_markup
from pathlib import Path

import numpy as np

from .keypoints_uniglor import edge_indices, get_layout, point_index

COLORS = {"body": "#444444", "face": "#8a6d3b", "left_hand": "#1f77b4", "right_hand": "#d62728"}
DARK_COLORS = {"body": "#d0d0d0", "face": "#d9b36c", "left_hand": "#6cb6f5", "right_hand": "#ff8078"}  # the player's, on a dark page
VIEW = (-1.5, -1.3, 3.0, 3.0)  # x, y, width, height in shoulder lengths, about the neck: head to hips, elbows out
VIEW_MARGIN = 0.1  # shoulder lengths beyond the farthest point, where a motion leaves the view
STROKES = {"body": 1 / 120, "face": 1 / 160, "left_hand": 1 / 160, "right_hand": 1 / 160}  # widths, of the picture's side
GRID = 1000  # coordinates in an SVG are integers on so many lines: half a pixel on a picture of 500
STRIP_HEADER, HEADER = 18, 24  # pixels above a strip's row, and above clips side by side, for titles
SUPERSAMPLING = (2, 4)  # Pillow draws lines without anti-aliasing: drawn so many times larger, small pictures more, then averaged
GIF_MAX_FPS = 50  # browsers play anything faster at 10 frames a second
POSE_SCALE = 128.0  # pixels of a shoulder length in .pose files; a power of 2, so that scaling loses nothing
MISSING = -32768  # the player's int16 for a coordinate that was not seen
SPEEDS = (0.25, 0.5, 1, 1.5, 2)
NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


# --- SVG --------------------------------------------------------------------------------------------------------------------------


def to_svg(clips, layout="uniglor73", num_frames=8, size=150, titles=None):
    """A still strip: one row for each clip, frames evenly spaced from the first to the last.

    Args:
        clips: keypoints (T, K, 2 or 3) in shoulder lengths, a pair (keypoints, keypoint_mask (T, K) or None), or a list of these.
        layout: name of the keypoints' layout.
        num_frames: how many frames to show, at most all; 1 is the middle one.
        size: pixels of a frame's side.
        titles: a title above each clip.

    Returns:
        str, a whole SVG document.
    """
    points, seen, view, titles = _prepare(clips, layout, titles)
    frames = _strip_frames(points.shape[1], num_frames)
    pictures = []
    for row, title in enumerate(titles):
        top = row * (size + STRIP_HEADER)
        pictures.append(f'<text x="4" y="{top + 13}">{escape(title)}</text>')
        paths = _paths(points[row, frames], seen[row, frames], layout, view)
        for column in range(len(frames)):
            drawn = "".join(f'{_path_start(part)} d="{path[column]}"/>' for part, path in paths.items() if path[column])
            pictures.append(_panel(column * size, top + STRIP_HEADER, size, drawn))
    return _svg(size * len(frames), len(points) * (size + STRIP_HEADER), pictures, titles)


def to_animated_svg(clips, fps=25, layout="uniglor73", size=300, titles=None):
    """An SVG that plays in a loop, clips side by side, without a script: in a page, in an <img>, in a README.

    Args:
        clips, layout, titles: as for `to_svg`.
        fps: frames a second.
        size: pixels of a clip's side.

    Returns:
        str, a whole SVG document. Programs that do not animate show the middle frame.
    """
    _check_fps(fps)
    points, seen, view, titles = _prepare(clips, layout, titles)
    num_frames, header = points.shape[1], HEADER if any(titles) else 0
    timing = f'dur="{num_frames / fps:.6g}s" calcMode="discrete" repeatCount="indefinite"'
    pictures = []
    for column, title in enumerate(titles):
        if title:
            pictures.append(f'<text x="{column * size + 4}" y="16">{escape(title)}</text>')
        drawn = []
        for part, path in _paths(points[column], seen[column], layout, view).items():
            path = [frame or "M0 0" for frame in path]  # for one empty value, browsers drop the whole animation
            animation = f'<animate attributeName="d" values="{";".join(path)}" {timing}/>'
            drawn.append(f'{_path_start(part)} d="{path[num_frames // 2]}">{animation}</path>')
        pictures.append(_panel(column * size, header, size, "".join(drawn)))
    return _svg(size * len(points), size + header, pictures, titles)


def _svg(width, height, pictures, titles):
    style = "<style>text{font:12px sans-serif;fill:#222222}path{fill:none;stroke-linecap:round}</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(_name(titles))}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'{style}<rect width="100%" height="100%" fill="#ffffff"/>{"".join(pictures)}</svg>\n'
    )


def _panel(x, y, size, drawn):
    return f'<svg x="{x}" y="{y}" width="{size}" height="{size}" viewBox="0 0 {GRID} {GRID}">{drawn}</svg>'


def _path_start(part):
    return f'<path stroke="{_of_part(COLORS, part)}" stroke-width="{_of_part(STROKES, part) * GRID:.3g}"'


def _paths(points, seen, layout_name, view):
    """{part: T path strings, "" where no stroke was seen} of one clip; parts that are never seen are left out."""
    paths = {}
    for part, strokes, drawn in _strokes(points, seen, layout_name, view, GRID):
        strokes = np.rint(strokes).astype(int)
        strokes[..., 2:] -= strokes[..., :2]  # the second end as a step from the first: fewer digits
        # One format for all strokes of a frame: formatting stroke by stroke would be most of the work.
        path = ["M%d %dl%d%+d" * here.sum() % tuple(frame[here].ravel().tolist()) for frame, here in zip(strokes, drawn)]
        if any(path):
            paths[part] = path
    return paths


# --- HTML -------------------------------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #d4d4d4; LIGHT }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #17181a; --line: #44474b; DARK } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.4 system-ui, sans-serif }
main { padding: 8px; max-width: MAXWIDTHpx; margin: 0 auto }
#clips { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr)); gap: 8px }
figure { margin: 0; min-width: 0; max-width: SIZEpx }
figcaption { font-weight: 600; min-height: 1.4em }
canvas { display: block; width: 100%; aspect-ratio: 1; border: 1px solid var(--line); border-radius: 4px; cursor: pointer }
p { margin: 4px 0; overflow-wrap: anywhere }
p:empty { display: none }
#bar { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin: 8px 0 4px }
#seek { flex: 1 1 160px; min-width: 0; margin: 0 }
#play { min-width: 5em }
#time { font-variant-numeric: tabular-nums; white-space: nowrap }
button, select, input { font: inherit }
#legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 4px 0 0; padding: 0; list-style: none; font-size: 12px }
#legend li::before { content: ""; display: inline-block; width: 16px; height: 3px; margin-right: 5px; vertical-align: middle; background: var(--part) }
"""  # noqa: E501

_SCRIPT = """
"use strict";
(() => {
  const motion = JSON.parse(document.getElementById("motion").textContent);
  const [play, seek, time, speed, loop] = ["play", "seek", "time", "speed", "loop"].map(id => document.getElementById(id));
  const canvases = [...document.querySelectorAll("canvas")];
  const clips = motion.clips.map(text => new Int16Array(Uint8Array.from(atob(text), byte => byte.charCodeAt(0)).buffer));
  const [left, top, side] = motion.view;
  let position = 0, shown = -1, playing = false, before = 0;

  function draw(frame) {
    const style = getComputedStyle(document.documentElement);
    canvases.forEach((canvas, number) => {
      const context = canvas.getContext("2d"), scale = canvas.width / side, points = clips[number];
      const start = frame * motion.points * 2;
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.lineCap = "round";
      for (const [part, edges] of Object.entries(motion.edges)) {
        context.lineWidth = canvas.width * motion.strokes[part];
        context.strokeStyle = style.getPropertyValue("--" + part);
        context.beginPath();
        for (let edge = 0; edge < edges.length; edge += 2) {
          const a = start + 2 * edges[edge], b = start + 2 * edges[edge + 1];
          if (points[a] === motion.missing || points[b] === motion.missing) continue;
          context.moveTo((points[a] * motion.unit - left) * scale, (points[a + 1] * motion.unit - top) * scale);
          context.lineTo((points[b] * motion.unit - left) * scale, (points[b + 1] * motion.unit - top) * scale);
        }
        context.stroke();
      }
    });
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
  }

  function tick(now) {
    if (!playing) return;
    position += Math.min((now - before) / 1000, 0.25) * motion.fps * Number(speed.value);  // a tab that slept does not jump
    before = now;
    if (position >= motion.frames) {
      if (loop.checked) position %= motion.frames;
      else setPlaying(false);
    }
    show();
    requestAnimationFrame(tick);
  }

  function setPlaying(value) {
    if (value && !playing) {
      if (position >= motion.frames - 1) position = 0;
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

  function fit() {
    for (const canvas of canvases) {
      canvas.width = canvas.height = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
    }
    show(true);
    try {  // inside the frame of player_html, the frame takes the player's height
      const height = document.querySelector("main").getBoundingClientRect().height;
      const holder = window.frameElement;
      if (holder && holder.hasAttribute("srcdoc")) holder.style.height = Math.ceil(height) + 2 + "px";
    } catch (error) { /* a frame of another origin keeps its own */ }
  }

  play.addEventListener("click", () => setPlaying(!playing));
  canvases.forEach(canvas => canvas.addEventListener("click", () => setPlaying(!playing)));
  seek.addEventListener("input", () => go(Number(seek.value)));
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target === speed) return;
    const keys = {ArrowLeft: () => go(shown - 1), ArrowRight: () => go(shown + 1), Home: () => go(0), End: () => go(motion.frames - 1)};
    if (event.target !== play && event.target !== loop) keys[" "] = () => setPlaying(!playing);  // those two have their own use for it
    if (event.key in keys) { keys[event.key](); event.preventDefault(); }
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(true));
  new ResizeObserver(fit).observe(document.querySelector("main"));
  fit();
  setPlaying(!window.matchMedia("(prefers-reduced-motion: reduce)").matches && motion.frames > 1);
})();
"""


def to_html(clips, fps=25, layout="uniglor73", size=320, titles=None, text=None):
    """A web page that plays clips side by side in step: play and pause, seek, speed, loop, frame by frame with the arrow keys.

    One file that loads nothing, and works from a disk. It follows the reader's light or dark colours, and does not start by itself
    where the reader has asked for less motion.

    Args:
        clips, layout: as for `to_svg`.
        fps: frames a second.
        size: greatest pixels of a clip's side; narrow screens get smaller ones.
        titles: a title above each clip.
        text: a str below all clips, or a list with one for each.

    Returns:
        str, a whole HTML document.
    """
    _check_fps(fps)
    points, seen, view, titles = _prepare(clips, layout, titles)
    num_clips, num_frames, num_points, _ = points.shape
    below = text if isinstance(text, str) else ""
    texts = _per_clip("text", None if below else text, num_clips)
    unit = float(np.abs(points[seen]).max(initial=1.0)) / 32767  # shoulder lengths of one step of an int16
    steps = np.where(seen[..., None], np.rint(points / unit), MISSING).astype("<i2")
    part_edges = {part: edges for part, edges in _part_edges(layout).items() if seen[..., edges].all(-1).any()}  # what is ever drawn
    motion = {
        "fps": float(fps), "frames": num_frames, "points": num_points, "unit": unit, "missing": MISSING, "view": view[:3],
        "edges": {part: edges.ravel().tolist() for part, edges in part_edges.items()},
        "strokes": {part: round(_of_part(STROKES, part), 5) for part in part_edges},
        "clips": [b64encode(clip.tobytes()).decode() for clip in steps],
    }  # fmt: skip
    figures = "".join(
        f'<figure><figcaption dir="auto">{escape(title)}</figcaption>'
        f'<canvas role="img" aria-label="{escape(title or f"Clip {number}")}: moving skeleton of a signer"></canvas>'
        f'<p dir="auto">{escape(caption)}</p></figure>'
        for number, (title, caption) in enumerate(zip(titles, texts), 1)
    )
    speeds = "".join(f'<option value="{speed}"{" selected" if speed == 1 else ""}>{speed}&times;</option>' for speed in SPEEDS)
    legend = "".join(f'<li style="--part: var(--{part})">{part.replace("_", " ")}</li>' for part in part_edges)
    light, dark = (" ".join(f"--{part}: {_of_part(colors, part)};" for part in part_edges) for colors in (COLORS, DARK_COLORS))
    style = _STYLE.replace("LIGHT", light).replace("DARK", dark).replace("SIZE", str(size))
    style = style.replace("MAXWIDTH", str(max(num_clips * (size + 8) + 8, 480)))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(_name(titles))}</title><style>{style}</style></head>
<body><main>
<div id="clips">{figures}</div>
<p dir="auto">{escape(below)}</p>
<div id="bar" role="group" aria-label="Playback">
<button id="play" type="button">Play</button>
<input id="seek" type="range" min="0" max="{num_frames - 1}" value="0" step="1" aria-label="Frame">
<span id="time"></span>
<label>Speed <select id="speed">{speeds}</select></label>
<label><input id="loop" type="checkbox" checked> Loop</label>
</div>
<ul id="legend" aria-label="Colours">{legend}</ul>
</main>
<script id="motion" type="application/json">{json.dumps(motion, separators=(",", ":"))}</script>
<script>{_SCRIPT}</script>
</body></html>
"""


def player_html(clips, fps=25, layout="uniglor73", size=320, titles=None, text=None):
    """The page of `to_html` as one <iframe> to put into another page, a notebook's output or Gradio's `gr.HTML`.

    A frame of its own, since those do not run a script that is inserted, and so that several players on a page share no keys and
    no styles. Arguments as for `to_html`.

    Returns:
        str, an HTML fragment.
    """
    page = to_html(clips, fps, layout, size, titles, text)
    name = escape(_name(_per_clip("titles", titles, page.count("<canvas"))))
    # The player sets the frame's height when it has run; until then it is about right.
    return f'<iframe title="{name}" srcdoc="{escape(page)}" style="width:100%;height:{size + 150}px;border:0"></iframe>'


# --- Pillow and PyAV --------------------------------------------------------------------------------------------------------------


def to_png(clips, path, layout="uniglor73", num_frames=8, size=150, titles=None):
    """The still strip of `to_svg` as a PNG; `num_frames=1` is a single picture. Needs Pillow: pip install uniglor[render].

    Args:
        clips, layout, num_frames, size, titles: as for `to_svg`. The font has Latin letters only.
        path: the .png file to write.
    """
    _check_suffix(path, ".png")
    points, seen, view, titles = _prepare(clips, layout, titles)
    frames = _strip_frames(points.shape[1], num_frames)
    header = STRIP_HEADER if any(titles) else 0
    image = _blank(size * len(frames), len(points) * (size + header))
    for row, title in enumerate(titles):
        top = row * (size + header)
        _write_text(image, title, (4, top + 2))
        # The frames of a strip are drawn as clips side by side, of one frame each.
        shown = points[row, frames][:, None], seen[row, frames][:, None]
        image.paste(next(_draw_frames(*shown, layout, view, size)), (0, top + header))
    image.save(path)


def to_gif(clips, path, fps=25, layout="uniglor73", size=256, titles=None, every=1):
    """A GIF that plays in a loop, clips side by side. Needs Pillow: pip install uniglor[render].

    Args:
        clips, layout, titles: as for `to_svg`. The font has Latin letters only.
        path: the .gif file to write.
        fps: frames a second of the clips.
        size: pixels of a clip's side.
        every: 2 draws every second frame at the same speed: half the bytes, often enough for a README.
    """
    _check_suffix(path, ".gif")
    _check_fps(fps)
    if every < 1 or fps / every > GIF_MAX_FPS:
        raise ValueError(
            f"fps={fps} with every={every}: expected every >= 1 and fps / every <= {GIF_MAX_FPS}, the most that browsers play of a GIF."
        )
    points, seen, view, titles = _prepare(clips, layout, titles)
    palette = _blank(1, 1).convert("P")
    palette.putpalette(_shades())
    frames = [
        frame.quantize(palette=palette, dither=0)
        for frame in _draw_frames(points[:, ::every], seen[:, ::every], layout, view, size, titles)
    ]
    # Times are whole hundredths of a second: the sums are rounded, not the steps, so that the clip keeps its length.
    ends = np.rint(np.arange(len(frames) + 1) * 100 * every / fps) * 10
    durations = np.diff(ends).astype(int).tolist()
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False)


def to_mp4(clips, path, fps=25, layout="uniglor73", size=512, titles=None):
    """An H.264 video that browsers play, clips side by side. Needs Pillow and PyAV: pip install uniglor[render].

    Args:
        clips, layout, titles: as for `to_svg`. The font has Latin letters only.
        path: the .mp4 file to write.
        fps: frames a second.
        size: pixels of a clip's side, made even.
    """
    _check_suffix(path, ".mp4")
    _check_fps(fps)
    points, seen, view, titles = _prepare(clips, layout, titles)
    size += size % 2
    _pillow()  # asked for before a file is begun
    av = _av()
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(float(fps)).limit_denominator(10_000))
        stream.width, stream.height = size * len(points), size + (HEADER if any(titles) else 0)
        stream.pix_fmt = "yuv420p"  # the one that browsers decode
        stream.options = {"preset": "veryfast", "crf": "20"}
        for frame in _draw_frames(points, seen, layout, view, size, titles):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def _draw_frames(points, seen, layout_name, view, size, titles=()):
    """Pillow images of the T frames, clips (N, T, K, 2) side by side, titles above."""
    _, ImageDraw, _ = _pillow()
    header = HEADER if any(titles) else 0
    page = _blank(size * len(points), size + header)
    for column, title in enumerate(titles):
        _write_text(page, title, (column * size + 4, 5))
    times = int(np.clip(1024 // size, *SUPERSAMPLING))
    fine = size * times
    drawn = []  # (colour, width, (T, E, 4) strokes, (T, E) which of them)
    for column, (clip, clip_seen) in enumerate(zip(points, seen)):
        for part, strokes, here in _strokes(clip, clip_seen, layout_name, view, fine):
            strokes[..., ::2] += column * fine
            drawn.append((_of_part(COLORS, part), round(_of_part(STROKES, part) * fine), strokes, here))
    for frame in range(points.shape[1]):
        picture = _blank(fine * len(points), fine)
        draw = ImageDraw.Draw(picture)
        for color, width, strokes, here in drawn:
            for stroke in strokes[frame][here[frame]].tolist():
                draw.line(stroke, color, width)
        image = page.copy()
        image.paste(picture.reduce(times), (0, header))
        yield image


def _blank(width, height):
    return _pillow()[0].new("RGB", (width, height), "#ffffff")


def _write_text(image, text, place):
    _, ImageDraw, ImageFont = _pillow()
    if text:
        ImageDraw.Draw(image).text(place, NO_XML.sub("\ufffd", text), "#222222", ImageFont.load_default(12))


def _shades(num_shades=15):
    """White and each part's colour in shades on white: what anti-aliased strokes consist of, as a flat palette."""
    colors = np.array([_rgb(color) for color in COLORS.values()])
    share = np.arange(1, num_shades + 1)[:, None] / num_shades
    return [255, 255, 255, *np.rint(255 + (colors[:, None] - 255) * share).astype(int).ravel().tolist()]


def _pillow():
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ImportError("Drawing PNG, GIF and MP4 needs Pillow: pip install uniglor[render]") from error
    return Image, ImageDraw, ImageFont


def _av():
    try:
        import av
    except ImportError as error:
        raise ImportError("Writing MP4 needs PyAV: pip install uniglor[render]") from error
    return av


# --- .pose ------------------------------------------------------------------------------------------------------------------------


def to_pose(clip, path, fps=25, layout="uniglor73"):
    """One clip as a .pose file for pose-format and its viewers. Needs pose-format: pip install uniglor[pose].

    Parts become the components POSE, FACE, LEFT_HAND and RIGHT_HAND in their colours. Coordinates are pixels, `POSE_SCALE` to a
    shoulder length, on a canvas that holds the motion.

    Args:
        clip: keypoints (T, K, 2 or 3) in shoulder lengths, or a pair (keypoints, keypoint_mask (T, K) or None).
        path: the .pose file to write.
        fps: frames a second.
        layout: name of the keypoints' layout.
    """
    _check_suffix(path, ".pose")
    _check_fps(fps)
    Pose, NumPyPoseBody, PoseHeader, PoseHeaderComponent, PoseHeaderDimensions = _pose_format()
    clips = clip if isinstance(clip, list) else [clip]
    if len(clips) != 1:
        raise ValueError(f"Found {len(clips)} clips, expected one: a .pose file holds one signer. Write a file for each.")
    keypoints, seen = _check_clip(clips[0], layout, "Clip 0")
    # The canvas grows about the neck's place in VIEW, so that its size alone tells `from_pose` where the neck is.
    low, high = keypoints[seen][:, :2].min(0), keypoints[seen][:, :2].max(0)
    start, end = np.array(VIEW[:2]), np.array(VIEW[:2]) + VIEW[2:]
    canvas = int(np.ceil(max(1, *(low / start), *(high / end)) * VIEW[2] * POSE_SCALE))
    pixels = keypoints * POSE_SCALE
    pixels[..., :2] += _pose_neck(canvas)
    channels = "XYZC" if keypoints.shape[2] == 3 else "XYC"
    components = [
        PoseHeaderComponent(name, points, limbs, [_rgb(_of_part(COLORS, part))] * len(limbs), channels)
        for part, (name, points, limbs) in _pose_components(layout).items()
    ]
    header = PoseHeader(0.2, PoseHeaderDimensions(canvas, canvas, canvas if channels == "XYZC" else 0), components)
    data = np.where(seen[..., None], pixels, 0).astype(np.float32)[:, None]  # (T, one person, K, C)
    pose = Pose(header, NumPyPoseBody(float(fps), data, seen.astype(np.float32)[:, None]))
    with open(path, "wb") as file:
        pose.write(file)


def from_pose(path, layout="uniglor73"):
    """What `to_pose` wrote. Needs pose-format: pip install uniglor[pose].

    Args:
        path: a .pose file of `to_pose`; those of other programs are read by `KeypointProcessor` and the readers.
        layout: name of the layout that it was written in.

    Returns:
        keypoints (T, K, 2 or 3) float32 in shoulder lengths, 0 where not seen, equal to what was written but for float32's last
        bit on the canvas; keypoint_mask (T, K) bool; fps float.
    """
    Pose, *_ = _pose_format()
    with open(path, "rb") as file:
        pose = Pose.read(file.read())
    header, expected = pose.header, list(_pose_components(layout).values())
    if [(part.name, list(part.points)) for part in header.components] != [(name, points) for name, points, _ in expected]:
        found = ", ".join(f"{part.name} ({len(part.points)} points)" for part in header.components)
        raise ValueError(
            f"{path}: found the components {found}, expected those that to_pose writes for layout {layout!r}: "
            f"{', '.join(f'{name} ({len(points)})' for name, points, _ in expected)}. "
            "Read a .pose file of another program with KeypointProcessor, naming its layout."
        )
    seen = np.asarray(pose.body.confidence)[:, 0] > 0
    keypoints = np.asarray(pose.body.data.data)[:, 0].astype(float)
    keypoints[..., :2] -= _pose_neck(header.dimensions.width)
    return np.where(seen[..., None], keypoints / POSE_SCALE, 0).astype(np.float32), seen, float(pose.body.fps)


def _pose_neck(canvas):
    """(2,) pixels of the neck on a canvas of that side: where it is in VIEW."""
    return -np.array(VIEW[:2]) / VIEW[2:] * canvas


def _pose_components(layout_name):
    """{part: (component name, its point names, its strokes as indices among them)}."""
    layout, index = get_layout(layout_name), point_index(layout_name)
    copies = {index[original]: index[copy] for copy, original in layout.copies.items()}
    components = {}
    for part, edges in _part_edges(layout_name).items():
        span = layout.parts[part]
        # A component's strokes join its own points: a hand hangs on its copy of the wrist.
        own = [[point if span.start <= point < span.stop else copies[point] for point in edge] for edge in edges.tolist()]
        name = "POSE" if part == "body" else part.upper()
        components[part] = name, list(layout.names[span]), [(a - span.start, b - span.start) for a, b in own]
    return components


def _pose_format():
    try:
        from pose_format import Pose
        from pose_format.numpy import NumPyPoseBody
        from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions
    except ImportError as error:
        raise ImportError("Reading and writing .pose files needs pose-format: pip install uniglor[pose]") from error
    return Pose, NumPyPoseBody, PoseHeader, PoseHeaderComponent, PoseHeaderDimensions


# --- Any of them ------------------------------------------------------------------------------------------------------------------


def render(clips, path, fps=25, layout="uniglor73", titles=None):
    """Writes clips in the format that the file's name asks for: .svg (animated), .html, .gif, .png (a strip), .mp4 or .pose.

    Args:
        clips, layout, titles: as for `to_svg`. A .pose file holds one clip and no title.
        path: the file to write.
        fps: frames a second.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".svg":
            path.write_text(to_animated_svg(clips, fps, layout, titles=titles), encoding="utf-8")
        case ".html":
            path.write_text(to_html(clips, fps, layout, titles=titles), encoding="utf-8")
        case ".gif":
            to_gif(clips, path, fps, layout, titles=titles)
        case ".png":
            to_png(clips, path, layout, titles=titles)
        case ".mp4":
            to_mp4(clips, path, fps, layout, titles=titles)
        case ".pose":
            to_pose(clips, path, fps, layout)
        case suffix:
            raise ValueError(f"Found {str(path)!r} with the extension {suffix!r}, expected .svg, .html, .gif, .png, .mp4 or .pose.")


# --- What all of them share -------------------------------------------------------------------------------------------------------


def _prepare(clips, layout_name, titles):
    """Clips of any accepted form -> points (N, T, K, 2) float64, 0 where not seen; seen (N, T, K) bool; view; N titles."""
    clips = clips if isinstance(clips, list) else [clips]
    if not clips:
        raise ValueError("Found an empty list, expected at least one clip: keypoints (T, K, 2 or 3), or a pair (keypoints, mask).")
    checked = [_check_clip(clip, layout_name, f"Clip {number}") for number, clip in enumerate(clips)]
    num_frames = max(len(seen) for _, seen in checked)
    held = [np.minimum(np.arange(num_frames), len(seen) - 1) for _, seen in checked]
    points = np.stack([keypoints[frames, :, :2] for (keypoints, _), frames in zip(checked, held)])
    seen = np.stack([mask[frames] for (_, mask), frames in zip(checked, held)])
    return points, seen, _view(points, seen), _per_clip("titles", titles, len(clips))


def _check_clip(clip, layout_name, name):
    """Keypoints, or a pair with their mask -> keypoints (T, K, C) float64, 0 where not seen; seen (T, K) bool."""
    keypoints, mask = clip if isinstance(clip, tuple) and len(clip) == 2 else (clip, None)
    keypoints = _array(keypoints)
    num_points = len(get_layout(layout_name).names)
    if keypoints.ndim != 3 or keypoints.shape[1] != num_points or keypoints.shape[2] not in (2, 3):
        raise ValueError(
            f"{name}: found keypoints of shape {keypoints.shape}, expected (frames, {num_points}, 2 or 3) of layout {layout_name!r}; "
            "several clips go into a list."
        )
    if not len(keypoints):
        raise ValueError(f"{name} has no frames, expected at least one.")
    seen = np.ones(keypoints.shape[:2], bool) if mask is None else _array(mask) > 0
    if seen.shape != keypoints.shape[:2]:
        raise ValueError(f"{name}: found a mask of shape {seen.shape}, expected {keypoints.shape[:2]} as the keypoints have.")
    if not seen.any():
        raise ValueError(f"{name} has no keypoint to draw: its mask is 0 everywhere.")
    lost = seen & ~np.isfinite(keypoints).all(-1)
    if lost.any():
        frame, point = np.argwhere(lost)[0]
        raise ValueError(
            f"{name}: found NaN or infinity in {lost.sum()} keypoints that count as seen, first {get_layout(layout_name).names[point]} "
            f"in frame {frame}. Expected a mask (T, K) that is 0 there."
        )
    return np.where(seen[..., None], keypoints, 0.0), seen


def _array(values):
    """float64, of an array, a list or a tensor on any device."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, float)


def _check_fps(fps):
    if fps is None or not 0 < fps < float("inf"):
        raise ValueError(f"fps={fps} must be above 0, in frames a second.")


def _check_suffix(path, suffix):
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"Found the path {str(path)!r}, expected one that ends in {suffix}; render() goes by the extension.")


def escape(text):
    """Text for XML and HTML: control characters and halves of surrogate pairs, which neither may hold, are shown as U+FFFD."""
    return escape_markup(NO_XML.sub("\ufffd", text))


def _per_clip(name, values, num_clips):
    """One str for each clip; a str alone is that of a single clip."""
    values = [""] * num_clips if values is None else [values] if isinstance(values, str) else list(values)
    if len(values) != num_clips:
        raise ValueError(f"Found {len(values)} {name} for {num_clips} clips, expected one for each.")
    return [str(value) for value in values]


def _name(titles):
    return ", ".join(filter(None, titles)) or "Skeleton of a signer"


def _strip_frames(num_frames, num_shown):
    if num_shown < 1:
        raise ValueError(f"num_frames={num_shown} must be at least 1.")
    if num_shown == 1:
        return np.array([num_frames // 2])
    return np.linspace(0, num_frames - 1, min(num_shown, num_frames)).round().astype(int)


def _of_part(table, part):
    """A layout's further parts are drawn as the body is."""
    return table.get(part, table["body"])


def _rgb(color):
    return tuple(bytes.fromhex(color[1:]))


def _view(points, seen):
    """(x, y, width, height) of the square that all frames of all clips are drawn in: VIEW, or what holds it and the motion."""
    start, end = np.array(VIEW[:2]), np.array(VIEW[:2]) + VIEW[2:]
    low, high = points[seen].min(0), points[seen].max(0)
    low, high = np.where(low < start, low - VIEW_MARGIN, start), np.where(high > end, high + VIEW_MARGIN, end)
    side = (high - low).max()
    return (*((low + high - side) / 2).tolist(), float(side), float(side))


def _part_edges(layout_name):
    """{part: (E, 2) indices of the points that a stroke joins}; a stroke between two parts belongs to its first point's."""
    edges = edge_indices(layout_name, drawn=True)
    spans = get_layout(layout_name).parts.items()
    return {part: edges[(edges[:, 0] >= span.start) & (edges[:, 0] < span.stop)] for part, span in spans}


def _strokes(points, seen, layout_name, view, side):
    """For each part: its name, strokes (T, E, 4) as x, y, x, y on a picture of that side, and which of them are drawn (T, E)."""
    places = (points - view[:2]) * (side / view[2])
    for part, edges in _part_edges(layout_name).items():
        yield part, places[:, edges].reshape(len(places), len(edges), 4), seen[:, edges].all(-1)
