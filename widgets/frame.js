// FrameView: one picture, its caption, its alternative text. Plain DOM, no build step.
// State is three traits: png (bytes), caption, alt. Text goes in as textContent, never as HTML.

const STYLE = `
.ctrl-frame { margin: 0; max-width: 100%; width: fit-content; font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif);
  color: var(--jp-ui-font-color1, CanvasText); background: var(--jp-layout-color1, Canvas); }
.ctrl-frame img { display: block; max-width: 100%; height: auto; border-radius: 2px; }
.ctrl-frame figcaption { padding: 4px 2px; color: var(--jp-ui-font-color1, CanvasText); overflow-wrap: anywhere; }
.ctrl-frame .ctrl-frame-note { margin: 0; padding: 24px; border: 1px dashed var(--jp-border-color1, GrayText); }
.ctrl-frame .ctrl-frame-error { margin: 0; padding: 8px; border: 1px solid var(--jp-error-color1, #b00020); }
.ctrl-frame [hidden] { display: none; }
`;

function make(tag, className, parent) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  parent.append(node);
  return node;
}

function render({ model, el }) {
  const style = make("style", "", el);
  style.textContent = STYLE;
  const figure = make("figure", "ctrl-frame", el);
  const image = make("img", "", figure);
  const note = make("p", "ctrl-frame-note", figure);
  const error = make("p", "ctrl-frame-error", figure);
  const caption = make("figcaption", "", figure);
  note.textContent = "No picture yet.";
  error.setAttribute("role", "alert");
  error.hidden = true;
  let url = "";

  function drawPicture() {
    const png = model.get("png");
    const empty = !png || png.byteLength === 0;
    const old = url;
    url = empty ? "" : URL.createObjectURL(new Blob([png], { type: "image/png" }));
    error.hidden = true;
    error.textContent = "";
    image.hidden = empty;
    note.hidden = !empty;
    if (empty) image.removeAttribute("src");
    else image.src = url;
    if (old) URL.revokeObjectURL(old);
  }

  function drawWords() {
    const words = model.get("caption");
    caption.textContent = words;
    caption.hidden = words === "";
    image.alt = model.get("alt") || words || "a picture without a description";
  }

  function fail() {
    if (!url) return;
    image.hidden = true;
    error.hidden = false;
    error.textContent = "This picture did not arrive whole. Show it again; if that fails, save it and open the file.";
  }

  image.addEventListener("error", fail);
  model.on("change:png", drawPicture);
  model.on("change:caption", drawWords);
  model.on("change:alt", drawWords);
  drawWords();
  drawPicture();

  return () => {
    model.off("change:png", drawPicture);
    model.off("change:caption", drawWords);
    model.off("change:alt", drawWords);
    image.removeEventListener("error", fail);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
