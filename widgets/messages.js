// Messages with bytes between a leaf and Python.

const PROBE = [0, 127, 128, 255];
const PART = 512 * 1024; // bytes a message; front ends drop what is above their limit, 1 to 10 MB

const bytes = (part) =>
  part instanceof ArrayBuffer ? new Uint8Array(part) : new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function toBase64(data) {
  let text = "";
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return btoa(text);
}

// Messages with bytes, to and from Python. One probe each way shows whether bytes arrive; where they do not, they
// travel as base64 and `onnote` says so. `handlers` is { kind: (content, buffers) }, buffers being Uint8Arrays.
function wire(model, handlers, onnote, life) {
  let asText = false,
    connected = false,
    uploads = 0;
  const post = (content, data) => {
    if (data.length && asText) model.send({ ...content, base64: data.map(toBase64) });
    else model.send(content, undefined, data);
  };
  const send = (kind, content = {}, data = []) => {
    const whole = data.map(bytes);
    if (whole.length !== 1 || whole[0].length <= PART) return post({ kind, ...content }, whole);
    const parts = Math.ceil(whole[0].length / PART),
      upload = `${Date.now()}-${uploads++}`;
    for (let part = 0; part < parts; part++) {
      post({ kind: "part", upload, part, parts, message: { kind, ...content } }, [
        whole[0].slice(part * PART, (part + 1) * PART),
      ]);
    }
  };
  let again = 0;
  const greet = (pause) => {
    model.send({ kind: "ready" }, undefined, [new Uint8Array(PROBE)]);
    again = setTimeout(greet, pause, 2 * pause); // a front end that is just connecting may lose it
  };
  const hello = (content, data) => {
    clearTimeout(again);
    const arrived = data.length === 1 && PROBE.every((value, i) => data[0][i] === value);
    asText = !content.heard;
    if (!arrived) model.send({ kind: "as-text" });
    if (!arrived || asText)
      onnote("This front end drops binary data, so pictures travel as text: a third slower, otherwise the same.");
  };
  const listen = (content, buffers) => {
    if (!connected) {
      connected = true;
      onnote("");
    }
    const data = content?.base64 ? content.base64.map(fromBase64) : (buffers ?? []).map(bytes);
    if (content?.kind === "hello") return hello(content, data);
    if ((content?.count ?? 0) !== data.length) return; // its bytes were lost; it comes again as text
    try {
      handlers[content?.kind]?.(content, data);
    } catch (error) {
      model.set("problem", {
        what: "The panel could not show what the kernel sent.",
        why: String(error.message),
        next: "Run this cell again.",
        details: String(error.stack),
      });
      model.save_changes();
    }
  };
  model.on("msg:custom", listen);
  const late = setTimeout(() => {
    if (!connected) onnote("Waiting for the kernel. It is busy, or was restarted: then run this cell again.");
  }, 3000);
  life.addEventListener("abort", () => {
    clearTimeout(late);
    clearTimeout(again);
    model.off("msg:custom", listen);
  });
  greet(5000);
  return { send };
}
