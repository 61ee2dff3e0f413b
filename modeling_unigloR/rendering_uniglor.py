"""Signing as pictures: still strips, animations, a player for web pages, and .pose files for other viewers.

    render(sign("hello"), "hello.mp4")  # or .html, .svg, .gif, .png, .pose
    page = to_html([(truth, mask), generated], titles=["truth", "generated"], text="hello")

Every function takes a clip or a list of clips, drawn together on one scale: a `KeypointClip` or a row, which is normalised first; what
`KeypointProcessor.process` or the text-to-sign pipeline returns; keypoints (T, K, 2 or 3) in shoulder lengths about the neck, y
downwards; or a pair (keypoints, keypoint_mask). A clip that is shorter than its neighbours holds its last frame. Of three coordinates
x and y are drawn. SVG and HTML need nothing but numpy; the others import Pillow, PyAV or pose-format when they are called.

Shapes: N clips, T frames, K keypoints, C channels, P points of a shape of the figure.
"""

import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.utils import logging

from .figure_uniglor import CLOSE_UPS, COLORS, LEGEND, CloseUp, Shape
from .keypoints_uniglor import edge_indices, get_layout, point_index
from .player_uniglor import attended_words, player_html, to_html
from .scene_uniglor import Scene, check_clip, drawable, escape, legible, make_scene, name_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = [
    "attended_words",
    "from_pose",
    "player_html",
    "render",
    "to_animated_svg",
    "to_gif",
    "to_html",
    "to_mp4",
    "to_png",
    "to_pose",
    "to_svg",
]

logger = logging.get_logger(__name__)

View = tuple[float, float, float]  # x, y and side of a square, in shoulder lengths
Panel = tuple[int, int, str | None, str]  # x, y in pixels, a part or None for the whole signer, title

PAGE = "#ffffff"
GRID = 1000  # coordinates in an SVG are integers on so many lines: half a pixel on a picture of 500
STRIP_HEADER, HEADER = 18, 22  # pixels above a strip's row, and above a clip, for titles
GAP = 8  # pixels between the signer and close-ups; even, as the sides of a video
SUPERSAMPLING = (2, 4)  # Pillow draws without anti-aliasing: drawn so many times larger, small pictures more, then averaged
GIF_MAX_FPS = 50  # browsers play anything faster at 10 frames a second
POSE_SCALE = 128.0  # pixels of a shoulder length in .pose files; a power of 2, so that scaling loses nothing
POSE_VIEW = (-1.5, -1.3, 3.0)  # x, y, side in shoulder lengths about the neck: the smallest canvas of a .pose file
FONTS = (  # by their files' names, as Pillow looks for them in the system's folders; the first that has all letters of a text
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSansKR-Regular.otf", "NanumGothic.ttf", "Arial.ttf",
    "Arial Unicode.ttf", "AppleSDGothicNeo.ttc", "malgun.ttf", "msgothic.ttc", "NotoSansArabic-Regular.ttf", "unifont.ttf",
)  # fmt: skip
FONT_FOLDERS = ("~/.local/share/fonts", "~/.fonts", "/usr/share/fonts", "/usr/local/share/fonts", "~/Library/Fonts", "/Library/Fonts",
                "/System/Library/Fonts", "C:/Windows/Fonts")  # fmt: skip
FONT_SUFFIXES, MAX_FONTS = (".ttf", ".otf", ".ttc"), 1000


# --- SVG --------------------------------------------------------------------------------------------------------------------------


def to_svg(clips: Any, layout: str | None = None, num_frames: int = 8, size: int = 150, titles: Sequence[str] | str | None = None) -> str:
    """A still strip: one row for each clip, frames evenly spaced from the first to the last.

    Args:
        clips: a clip or a list of clips, see the module.
        layout: name of the keypoints' layout; by default what the clips say, or uniglor73.
        num_frames: how many frames to show, at most all; 1 is the middle one.
        size: pixels of a frame's side.
        titles: a title above each clip.

    Returns:
        str, a whole SVG document.
    """
    clips, _, layout = drawable(clips, layout=layout)
    scene = make_scene(clips, layout, titles, frames=lambda count: _strip_frames(count, num_frames))
    pictures = []
    for row, (shapes, title) in enumerate(zip(scene.figures, scene.titles)):
        top = row * (size + STRIP_HEADER)
        pictures.append(f'<text x="4" y="{top + 13}">{escape(title)}</text>')
        paths = [(shape, _paths(shape, scene.view)) for shape in shapes]
        for column in range(scene.num_frames):
            drawn = "".join(
                f'<path{_rim(shape, scene.view)} d="{path[column]}"/>' * bool(shape.rim)
                + f'<path{_style(shape, scene.view)} d="{path[column]}"/>'
                for shape, path in paths
                if shape.drawn[column]
            )
            pictures.append(_panel(column * size, top + STRIP_HEADER, size, drawn))
    return _svg(size * scene.num_frames, len(scene.figures) * (size + STRIP_HEADER), pictures, scene.titles)


def to_animated_svg(
    clips: Any,
    fps: float | str = "auto",
    layout: str | None = None,
    size: int = 256,
    titles: Sequence[str] | str | None = None,
    close_ups: bool | Collection[str] = True,
    columns: int = 1,
) -> str:
    """An SVG that plays in a loop without a script: in a page, in an <img>, in a README.

    A row for each clip, or for each `columns` of them: the signer, and beside it what follows each hand and the face.

    Args:
        clips, layout, titles: as for `to_svg`.
        fps: frames a second; by default what the clips say, or 25.
        size: pixels of a panel's side.
        close_ups: whether hands and face are shown large, or which of right_hand, left_hand and face; without, clips stand side by side.
        columns: how many clips stand side by side with their close-ups.

    Returns:
        str, a whole SVG document. Programs that do not animate show the middle frame.
    """
    clips, fps, layout = drawable(clips, fps, layout)
    scene = make_scene(clips, layout, titles, with_close_ups=close_ups)
    timing = f'dur="{scene.num_frames / fps:.6g}s" calcMode="discrete" repeatCount="indefinite"'
    definitions, pictures = [], []
    digest = hashlib.sha256()  # ids are of this picture, since a page may hold several
    for shapes in scene.figures:
        for shape in shapes:
            digest.update(shape.points.tobytes())
    unique = digest.hexdigest()[:8]
    middle = scene.num_frames // 2
    panels, width, height = _panels(scene, size, columns)
    for number, (shapes, followed) in enumerate(zip(scene.figures, scene.close_ups)):
        drawn = []
        for place, shape in enumerate(shapes):
            paths = _paths(shape, scene.view)
            animation = f'<animate attributeName="d" values="{";".join(paths)}" {timing}/>'
            path = f'<path id="{unique}-{number}-{place}" d="{paths[middle]}">{animation}</path>'
            if not shape.rim:
                drawn.append(f"<g{_style(shape, scene.view)}>{path}</g>")
                continue
            definitions.append(path)
            use = f'<use href="#{unique}-{number}-{place}"/>'
            drawn.append(f"<g{_rim(shape, scene.view)}>{use}</g><g{_style(shape, scene.view)}>{use}</g>")
        definitions.append(f'<g id="{unique}-{number}">{"".join(drawn)}</g>')
        for x, y, part, title in panels[number]:
            if title:
                pictures.append(f'<text x="{x + 4}" y="{y - 6}">{escape(title)}</text>')
            use = f'<use href="#{unique}-{number}"/>'
            if part is None:
                pictures.append(_panel(x, y, size, use))
            else:
                boxes = _boxes(followed[part], scene.view)
                animation = f'<animate attributeName="viewBox" values="{";".join(boxes)}" {timing}/>'
                pictures.append(_panel(x, y, size, animation + use, boxes[middle]))
    return _svg(width, height, [f"<defs>{''.join(definitions)}</defs>", *pictures], scene.titles)


def _panels(scene: Scene, size: int, columns: int = 1) -> tuple[list[list[Panel]], int, int]:
    """For each clip its panels (x, y, part or None for the whole signer, title), and the picture's width and height."""
    parts = [part for part in CLOSE_UPS if any(part in followed for followed in scene.close_ups)]
    header = HEADER if parts or any(scene.titles) else 0
    wide = size + len(parts) * (size + GAP)
    columns, between = (columns, 3 * GAP) if parts else (len(scene.titles), 0)
    panels: list[list[Panel]] = []
    for number, (title, followed) in enumerate(zip(scene.titles, scene.close_ups)):
        x, y = number % columns * (wide + between), header + number // columns * (size + header)
        row: list[Panel] = [(x, y, None, title)]
        row += [(x + (size + GAP) * (1 + place), y, part, followed[part].title) for place, part in enumerate(parts) if part in followed]
        panels.append(row)
    rows = -(-len(panels) // columns)
    return panels, columns * (wide + between) - between, rows * (size + header)


def _svg(width: int, height: int, pictures: Sequence[str], titles: Sequence[str]) -> str:
    style = "<style>text{font:12px sans-serif;fill:#222222}path{stroke-linecap:round;stroke-linejoin:round}</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(name_of(titles))}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'{style}<rect width="100%" height="100%" fill="{PAGE}"/>{"".join(pictures)}</svg>\n'
    )


def _panel(x: int, y: int, size: int, drawn: str, box: str = f"0 0 {GRID} {GRID}") -> str:
    return f'<svg x="{x}" y="{y}" width="{size}" height="{size}" viewBox="{box}">{drawn}</svg>'


def _boxes(close_up: CloseUp, view: View) -> list[str]:
    """T viewBoxes of what a close-up shows, on the grid of the view."""
    scale = GRID / view[2]
    side = close_up.side * scale
    corners = (close_up.centers - view[:2]) * scale - side / 2
    return [f"{x:.0f} {y:.0f} {side:.0f} {side:.0f}" for x, y in corners.tolist()]


def _style(shape: Shape, view: View) -> str:
    color, width = COLORS[shape.color], _digits(shape.width * GRID / view[2])
    return f' fill="{color if shape.closed else "none"}" stroke="{color}" stroke-width="{width}"'


def _rim(shape: Shape, view: View) -> str:
    width = _digits((shape.width + 2 * shape.rim) * GRID / view[2])
    return f' fill="{PAGE if shape.closed else "none"}" stroke="{PAGE}" stroke-width="{width}"'


def _digits(value: float) -> str:
    return f"{value:.3g}"


def _paths(shape: Shape, view: View) -> list[str]:
    """T path strings of a shape; "M0 0" in frames in which it is not drawn: browsers drop an animation of which a value is empty."""
    places = np.rint((shape.points - view[:2]) * (GRID / view[2])).astype(int)
    places[:, 1:] -= places[:, :-1].copy()  # steps from point to point have fewer digits
    count = places.shape[1]
    frame = "M%d %d" + ("l" + "%d %d " * (count - 1)).rstrip() + "z" * shape.closed
    # One format for all frames: formatting number by number would be most of the work.
    paths = ((frame + ";") * len(places) % tuple(places.ravel().tolist())).split(";")[:-1]
    if not shape.drawn.all():
        for number in np.flatnonzero(~shape.drawn):
            paths[number] = "M0 0"
    return paths


# --- Pillow and PyAV --------------------------------------------------------------------------------------------------------------


def to_png(
    clips: Any,
    path: str | os.PathLike,
    layout: str | None = None,
    num_frames: int = 8,
    size: int = 150,
    titles: Sequence[str] | str | None = None,
) -> None:
    """The still strip of `to_svg` as a PNG; `num_frames=1` is a single picture. Needs Pillow (the extra `render`).

    Args:
        clips, layout, num_frames, size, titles: as for `to_svg`.
        path: the .png file to write.
    """
    _check_suffix(path, ".png")
    clips, _, layout = drawable(clips, layout=layout)
    scene = make_scene(clips, layout, titles, frames=lambda count: _strip_frames(count, num_frames))
    header = STRIP_HEADER if any(scene.titles) else 0
    image = _blank(size * scene.num_frames, len(scene.figures) * (size + header))
    pen = _Pen(size)
    for row, (shapes, title) in enumerate(zip(scene.figures, scene.titles)):
        top = row * (size + header)
        write_text(image, title, (4, top + 2))
        for column in range(scene.num_frames):
            image.paste(pen.draw(shapes, column, scene.view), (column * size, top + header))
    image.save(path)


def to_gif(
    clips: Any,
    path: str | os.PathLike,
    fps: float | str = "auto",
    layout: str | None = None,
    size: int = 192,
    titles: Sequence[str] | str | None = None,
    every: int = 1,
    close_ups: bool | Collection[str] = True,
) -> None:
    """A GIF that plays in a loop, with a row for each clip. Needs Pillow (the extra `render`).

    Args:
        clips, layout, titles, close_ups: as for `to_animated_svg`.
        path: the .gif file to write.
        fps: frames a second of the clips.
        size: pixels of a panel's side.
        every: 2 draws every second frame at the same speed: half the bytes, often enough for a README.
    """
    _check_suffix(path, ".gif")
    clips, fps, layout = drawable(clips, fps, layout)
    if every < 1 or fps / every > GIF_MAX_FPS:
        raise ValueError(
            f"fps={fps} with every={every}: expected every >= 1 and fps / every <= {GIF_MAX_FPS}, the most that browsers play of a GIF."
        )
    scene = make_scene(clips, layout, titles, with_close_ups=close_ups)
    palette = _blank(1, 1).convert("P")
    palette.putpalette(_shades())
    frames = [
        frame.quantize(palette=palette, dither=_pillow()[0].Dither.NONE)
        for frame in _draw_frames(scene, size, range(0, scene.num_frames, every))
    ]
    # Times are whole hundredths of a second: the sums are rounded, not the steps, so that the clip keeps its length.
    ends = np.rint(np.arange(len(frames) + 1) * 100 * every / fps) * 10
    durations = np.diff(ends).astype(int).tolist()
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False)


def to_mp4(
    clips: Any,
    path: str | os.PathLike,
    fps: float | str = "auto",
    layout: str | None = None,
    size: int = 384,
    titles: Sequence[str] | str | None = None,
    close_ups: bool | Collection[str] = True,
) -> None:
    """An H.264 video that browsers play, with a row for each clip. Needs Pillow and PyAV (the extra `render`).

    Args:
        clips, layout, titles, close_ups: as for `to_animated_svg`.
        path: the .mp4 file to write.
        fps: frames a second.
        size: pixels of a panel's side, made even.
    """
    _check_suffix(path, ".mp4")
    clips, fps, layout = drawable(clips, fps, layout)
    scene = make_scene(clips, layout, titles, with_close_ups=close_ups)
    size += size % 2
    _pillow()  # asked for before a file is begun
    av = _av()
    _, width, height = _panels(scene, size)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(float(fps)).limit_denominator(10_000))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"  # the one that browsers decode
        stream.options = {"preset": "veryfast", "crf": "20"}
        for frame in _ahead(_draw_frames(scene, size, range(scene.num_frames))):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def _ahead(items: "Iterator[Image]") -> "Iterator[Image]":
    """The items of an iterator, each made while its predecessor is used: an encoder leaves Python to others meanwhile."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = worker.submit(next, items, None)
            yield item


def _draw_frames(scene: Scene, size: int, frames: Sequence[int]) -> "Iterator[Image]":
    """Pillow images of these frames: panels with their titles."""
    panels, width, height = _panels(scene, size)
    page = _blank(width, height)
    for row in panels:
        for x, y, _, title in row:
            write_text(page, title, (x + 4, y - HEADER + 4))
    pen = _Pen(size)
    for frame in frames:
        image = page.copy()
        for shapes, followed, row in zip(scene.figures, scene.close_ups, panels):
            for x, y, part, _ in row:
                view = scene.view
                if part is not None:
                    close_up = followed[part]
                    view = (*(close_up.centers[frame] - close_up.side / 2), close_up.side)
                image.paste(pen.draw(shapes, frame, view), (x, y))
        yield image


class _Pen:
    """Draws one frame of a figure on a square of `size` pixels, larger first and then averaged."""

    def __init__(self, size: int) -> None:
        self.times = int(np.clip(1024 // size, *SUPERSAMPLING))
        self.size, self.side = size, size * self.times

    def draw(self, shapes: Sequence[Shape], frame: int, view: View) -> "Image":
        _, ImageDraw, _ = _pillow()
        picture = _blank(self.side, self.side)
        draw, scale = ImageDraw.Draw(picture), self.side / view[2]
        for shape in shapes:
            if not shape.drawn[frame]:
                continue
            places = list(map(tuple, ((shape.points[frame] - view[:2]) * scale).tolist()))
            reach = (shape.width / 2 + shape.rim) * scale
            if any(max(values) < -reach or min(values) > self.side + reach for values in zip(*places)):  # beside a close-up
                continue
            if shape.closed:
                places.append(places[0])
            if shape.rim:
                self._stroke(draw, places, (shape.width + 2 * shape.rim) * scale, PAGE)
            if shape.closed:
                draw.polygon(places, COLORS[shape.color])
            self._stroke(draw, places, shape.width * scale, COLORS[shape.color])
        return picture.reduce(self.times)

    @staticmethod
    def _stroke(draw: "ImageDraw", places: list[tuple[float, ...]], width: float, color: str) -> None:
        """A polyline with round ends and joins; one that ends where it begins is closed."""
        radius = width / 2
        if radius >= 1:
            draw.line(places, color, max(1, round(width)))
            for x, y in dict.fromkeys(places):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)


def _blank(width: int, height: int) -> "Image":
    return _pillow()[0].new("RGB", (width, height), PAGE)


def write_text(image: "Image", text: str, place: tuple[int, int], size: int = 12, color: str = "#222222") -> None:
    """Writes one line on a Pillow image, in a font of this machine that has all of its letters; without one, nothing."""
    text = legible(text)
    if not text.strip():
        return
    font, lost = _font_for(text, size)
    if lost:
        logger.warning_once(
            f"No font of this machine has {lost!r}: titles with such letters are left out of PNG, GIF and MP4. Install a font that has "
            "them, such as Noto Sans CJK, or write SVG or HTML, for which the reader's machine has fonts."
        )
        return
    _pillow()[1].Draw(image).text(place, text, color, font)


@functools.lru_cache(maxsize=256)
def _font_for(text: str, size: int) -> tuple[Any, str]:
    """-> the first font that has all letters of a text, and ""; or the one that has most of them, and the letters that it lacks."""
    best, fewest = None, text
    for font in _fonts(size):
        box = bytes(font.getmask("\uffff"))  # what it draws for a letter that it does not have
        lost = "".join(sorted({letter for letter in text if not letter.isspace() and bytes(font.getmask(letter)) == box}))
        if best is None or len(lost) < len(fewest):
            best, fewest = font, lost
        if not lost:
            break
    return best, fewest


def _fonts(size: int) -> Iterator[Any]:
    """Fonts to try: Pillow's own, the usual ones by their names, then whatever lies in the system's folders."""
    _, _, ImageFont = _pillow()
    yield ImageFont.load_default(size)
    for name in (*FONTS, *_installed_fonts()):
        with contextlib.suppress(OSError):
            yield ImageFont.truetype(name, size)


@functools.cache
def _installed_fonts() -> list[str]:
    folders = [Path(folder).expanduser() for folder in FONT_FOLDERS]
    found = (path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*")) if path.suffix.lower() in FONT_SUFFIXES)
    return [str(path) for path in itertools.islice(found, MAX_FONTS)]


def _shades() -> list[int]:
    """White and the figure's colours in shades on white: what anti-aliased shapes consist of, as a flat palette of 256 colours."""
    colors = np.array([_rgb(color) for color in COLORS.values()])
    share = np.linspace(1, 0, 255 // len(colors), endpoint=False)[:, None]
    shades = np.rint(255 + (colors[:, None] - 255) * share).astype(int)
    return [255, 255, 255, *shades.ravel().tolist()]


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def _pillow() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ImportError("Drawing PNG, GIF and MP4 needs Pillow: pip install pillow av") from error
    return Image, ImageDraw, ImageFont


def _av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ImportError("Writing MP4 needs PyAV: pip install av") from error
    return av


# --- .pose ------------------------------------------------------------------------------------------------------------------------


def to_pose(clip: Any, path: str | os.PathLike, fps: float | str = "auto", layout: str | None = None) -> None:
    """One clip as a .pose file for pose-format and its viewers. Needs pose-format: pip install pose-format.

    Parts become the components POSE, FACE, LEFT_HAND and RIGHT_HAND in their colours. Coordinates are pixels, `POSE_SCALE` to a
    shoulder length, on a canvas that holds the motion.

    Args:
        clip: a clip, see the module.
        path: the .pose file to write.
        fps: frames a second; by default what the clip says, or 25.
        layout: name of the keypoints' layout; by default what the clip says, or uniglor73.
    """
    _check_suffix(path, ".pose")
    clips, fps, layout = drawable(clip, fps, layout)
    Pose, NumPyPoseBody, PoseHeader, PoseHeaderComponent, PoseHeaderDimensions = _pose_format()
    if len(clips) != 1:
        raise ValueError(f"Found {len(clips)} clips, expected one: a .pose file holds one signer. Write a file for each.")
    keypoints, seen = check_clip(clips[0], layout, "Clip 0")
    # The canvas grows about the neck's place in POSE_VIEW, so that its size alone tells `from_pose` where the neck is.
    low, high = keypoints[seen][:, :2].min(0), keypoints[seen][:, :2].max(0)
    start, end = np.array(POSE_VIEW[:2]), np.array(POSE_VIEW[:2]) + POSE_VIEW[2]
    canvas = int(np.ceil(max(1, *(low / start), *(high / end)) * POSE_VIEW[2] * POSE_SCALE))
    pixels = keypoints * POSE_SCALE
    pixels[..., :2] += _pose_neck(canvas)
    channels = "XYZC" if keypoints.shape[2] == 3 else "XYC"
    components = [
        PoseHeaderComponent(name, points, limbs, [_rgb(COLORS[part if part in LEGEND else "body"])] * len(limbs), channels)
        for part, (name, points, limbs) in _pose_components(layout).items()
    ]
    header = PoseHeader(0.2, PoseHeaderDimensions(canvas, canvas, canvas if channels == "XYZC" else 0), components)
    data = np.where(seen[..., None], pixels, 0).astype(np.float32)[:, None]  # (T, one person, K, C)
    pose = Pose(header, NumPyPoseBody(float(fps), data, seen.astype(np.float32)[:, None]))
    with open(path, "wb") as file:
        pose.write(file)


def from_pose(path: str | os.PathLike, layout: str = "uniglor73") -> tuple[np.ndarray, np.ndarray, float]:
    """What `to_pose` wrote. Needs pose-format: pip install pose-format.

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


def _pose_neck(canvas: int) -> np.ndarray:
    """(2,) pixels of the neck on a canvas of that side: where it is in POSE_VIEW."""
    return -np.array(POSE_VIEW[:2]) / POSE_VIEW[2] * canvas


def _pose_components(layout_name: str) -> dict[str, tuple[str, list[str], list[tuple[int, int]]]]:
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


def _pose_format() -> tuple[Any, ...]:
    try:
        from pose_format import Pose
        from pose_format.numpy import NumPyPoseBody
        from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions
    except ImportError as error:
        raise ImportError("Reading and writing .pose files needs pose-format: pip install pose-format") from error
    return Pose, NumPyPoseBody, PoseHeader, PoseHeaderComponent, PoseHeaderDimensions


# --- Any of them ------------------------------------------------------------------------------------------------------------------


def render(
    clips: Any,
    path: str | os.PathLike,
    fps: float | str = "auto",
    layout: str | None = None,
    titles: Sequence[str] | str | None = None,
) -> None:
    """Writes clips in the format that the file's name asks for: .svg (animated), .html, .gif, .png (a strip), .mp4 or .pose.

    Args:
        clips, layout, titles: as for `to_svg`. A .pose file holds one clip and no title.
        path: the file to write.
        fps: frames a second; by default what the clips say, or 25.
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


def _check_suffix(path: str | os.PathLike, suffix: str) -> None:
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"Found the path {str(path)!r}, expected one that ends in {suffix}; render() goes by the extension.")


def _strip_frames(num_frames: int, num_shown: int) -> np.ndarray:
    if num_shown < 1:
        raise ValueError(f"num_frames={num_shown} must be at least 1.")
    if num_shown == 1:
        return np.array([num_frames // 2])
    return np.linspace(0, num_frames - 1, min(num_shown, num_frames)).round().astype(int)


def _part_edges(layout_name: str) -> dict[str, np.ndarray]:
    """{part: (E, 2) indices of the points that a stroke joins}; a stroke between two parts belongs to its first point's."""
    edges = edge_indices(layout_name, drawn=True)
    spans = get_layout(layout_name).parts.items()
    return {part: edges[(edges[:, 0] >= span.start) & (edges[:, 0] < span.stop)] for part, span in spans}
