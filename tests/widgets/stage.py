"""A leaf in bare Chromium: its own module, and a model that carries messages to the Python leaf, no kernel between."""

import base64
import os
import time
from importlib.resources import files
from pathlib import Path

import ipywidgets

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ADDRESS = "http://localhost:1/"  # answered by the test itself; a secure context, as a notebook is
SHOTS = os.environ.get("CTRL_SCREENSHOTS")  # a folder to leave pictures of the leaves in

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


class Stage:
    """`show` mounts leaves; `settle` carries what they say to each other until nothing is left to carry."""

    def __init__(self, page):
        self.page = page
        self.errors = []
        self.leaves = []
        self.waiting = []  # (leaf's index, content, buffers) on the way to the browser
        self.said = {}  # traits being set by the browser, which ipywidgets does not send back either
        self.blind = False  # drops binary data, as some front ends have done
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.expose_function("toPython", self._to_python)
        page.goto(ADDRESS)

    def show(self, *leaves, seen=True):
        """Mount each leaf below the last one, and return the last one's locator; those not seen are for a shell."""
        for leaf in leaves:
            index = len(self.leaves)
            self.leaves.append(leaf)
            leaf.send = lambda content, buffers=None, index=index: self.waiting.append((index, content, buffers or []))
            leaf.observe(lambda change, index=index: self._trait(index, change), names=self._synced(leaf))
            state = {name: _packed(getattr(leaf, name)) for name in self._synced(leaf)}
            state["_css"] = leaf._css
            state["#id"] = leaf.model_id
            given = [index, leaf._esm, state, seen]
            self.page.evaluate("(given) => void begin(mount(...given))", given)
        self.settle()
        return self.at(len(self.leaves) - 1)

    def again(self, index=0):
        """A second view of the same model."""
        self.page.evaluate("(index) => void begin(view(index))", index)
        self.settle()

    def close(self, index=0):
        """The browser's side of `leaf.close()`."""
        self.page.evaluate("(index) => unmount(index)", index)

    def at(self, index=0):
        """The element of leaf number `index`."""
        return self.page.locator(f"#leaf-{index}")

    def settle(self, milliseconds=0):
        """Carry messages for that long, and on until none is left."""
        self.page.wait_for_timeout(max(milliseconds, 5))
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if not self.waiting and not self.page.evaluate("busy()"):
                return
            self.carry()
            self.page.wait_for_timeout(5)
        raise AssertionError("the leaf and its model never come to rest")

    def carry(self):
        """Hand the browser what Python has sent so far."""
        sent, self.waiting = self.waiting, []
        for index, content, buffers in sent:
            packed = [] if self.blind else [base64.b64encode(bytes(part)).decode() for part in buffers]
            self.page.evaluate(
                "([index, content, buffers]) => fromPython(index, content, buffers)", [index, content, packed]
            )

    def until(self, condition, *arguments, timeout=5000):
        """Carry messages until a JavaScript expression is true."""
        for _ in range(timeout // 20):
            self.carry()
            if self.page.evaluate(condition, *arguments):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"never true: {condition}")

    def theme(self, name):
        """light; dark, of the system; jupyter, its dark one with its variables; or contrast, forced colours."""
        self.page.emulate_media(
            color_scheme="light" if name == "light" else "dark",
            forced_colors="active" if name == "contrast" else "none",
        )
        self.page.evaluate("(name) => setTheme(name)", name)

    def dark(self, theme="system"):
        """The dark theme of the system, or of JupyterLab."""
        self.theme("dark" if theme == "system" else theme)

    def axe(self):
        """Accessibility rules broken seriously, as lines."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document.body, { resultTypes: ['violations'] })")
        return [
            f"{rule['id']}: {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    def picture(self, name):
        """Leave a screenshot where CTRL_SCREENSHOTS says, to be looked at."""
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)

    def fits(self, width=360):
        """Whether nothing has to be scrolled sideways at this width."""
        self.page.set_viewport_size({"width": width, "height": 800})
        self.settle(50)
        return self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def _synced(self, leaf):
        skip = {"_esm", "_css", "layout", "comm", "_anywidget_id"}
        return [name for name in leaf.keys if name not in skip and not name.startswith(("_model", "_view"))]

    def _trait(self, index, change):
        """Python changed a trait: the browser hears of it, unless it said so itself."""
        if self.said.get((index, change["name"])) == change["new"]:
            return
        self.waiting.append((index, {"kind": "#trait", "name": change["name"], "value": _packed(change["new"])}, []))

    def _to_python(self, index, what, content, buffers):
        leaf = self.leaves[index]
        if what == "state":
            values = {name: _unpacked(value) for name, value in content.items()}
            self.said = {(index, name): value for name, value in values.items()}
            leaf.set_state(values)
            self.said = {}
        else:
            parts = [] if self.blind else [memoryview(base64.b64decode(part)) for part in buffers]
            leaf._handle_custom_msg(content, parts)


def _packed(value):
    if isinstance(value, ipywidgets.Widget):
        return f"anywidget:{value.model_id}"
    if isinstance(value, bytes | memoryview):
        return {"#bytes": base64.b64encode(bytes(value)).decode()}
    return value


def _unpacked(value):
    if isinstance(value, dict) and set(value) == {"#bytes"}:
        return memoryview(base64.b64decode(value["#bytes"]))
    return value
