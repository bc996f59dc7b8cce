"""Pages in Chromium, and a hand that drags in them."""

from contextlib import contextmanager


@contextmanager
def browsing(chromium, width, height, **options):
    """A page of this size, which keeps its errors in `errors`."""
    context = chromium.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


def drag(page, node, across, down, *, steps):
    """Drag the middle of a node by so many pixels."""
    node.scroll_into_view_if_needed()
    box = node.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across, y + down, steps=steps)
    page.mouse.up()
