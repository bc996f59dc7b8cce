// Pictures that come to MapPad: a file that was opened, dropped or pasted, or the camera; then what it is for.

class Intake {
  // `uses(small)` gives the buttons: [text, act(pixels), props]; `store` has the `size` of the map and how `wide` it is.
  constructor(view, store, uses) {
    Object.assign(this, { view, store, uses, stream: null });
    this.node = make("div", { class: "intake", role: "group", "aria-label": "The picture you brought", hidden: true });
    view.life.addEventListener("abort", () => this.close());
    takeFiles(view.root, (file) => this.offer(file), view.life);
  }

  // Buttons that open a file and the camera.
  buttons() {
    const onchange = () => {
      this.offer(picker.files[0]);
      picker.value = "";
    };
    const picker = make("input", { type: "file", accept: "image/*", hidden: true, onchange });
    const file = iconButton("Open a picture, or drop or paste one", ICONS.open, () => picker.click());
    return [picker, file, iconButton("Take a picture with the camera", CAMERA, () => this.camera())];
  }

  show(...nodes) {
    this.node.replaceChildren(...nodes.filter(Boolean));
    this.node.hidden = false;
    this.node.querySelector("button").focus();
  }

  // Hidden, and the camera switched off.
  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.node.hidden = true;
  }

  async offer(file) {
    this.close();
    const picture = await readPicture(file).catch(() => null);
    if (!picture) {
      const what = `${file.name || "The file"} is not a picture that this browser can read.`;
      return this.view.problem({ what, next: "Use a PNG, JPEG or WebP." });
    }
    this.ask(picture.blob, picture.shrunk ? `It was reduced to ${picture.width} × ${picture.height}.` : "");
  }

  // What a picture is for, and how it comes to the size of the map where its proportions are others.
  async ask(blob, note) {
    const bitmap = await createImageBitmap(blob);
    const small = make("canvas", { width: 160, height: Math.round((160 * bitmap.height) / bitmap.width) });
    small.getContext("2d").drawImage(bitmap, 0, 0, small.width, small.height);
    const fit = make(
      "select",
      { "aria-label": "Fit" },
      ...["cut", "pad", "stretch"].map((text) => make("option", { text })),
    );
    const close = () => {
      bitmap.close();
      this.close();
    };
    const use = ([text, act, props]) => {
      const take = async () => {
        const pixels = await fittedPixels(bitmap, this.store.size, fit.value, this.store.wide);
        close();
        act(pixels);
      };
      return textButton(text, take, props);
    };
    fit.hidden = Math.abs(bitmap.width / bitmap.height / this.store.wide - 1) < 0.005;
    const row = [...this.uses().map(use), fit, textButton("Cancel", close)];
    this.show(small, make("p", { text: note || "What is this picture?" }), make("div", { class: "ctrl-row" }, ...row));
  }

  async camera() {
    if (this.stream) return this.close();
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1024 } });
    } catch (error) {
      const next = "Allow the camera for this page; it needs https or localhost. Or open, drop or paste a picture.";
      return this.view.problem({ what: "The camera is not available.", why: error?.message ?? String(error), next });
    }
    if (this.view.life.aborted) return this.close();
    const video = make("video", { autoplay: true, playsinline: true, "aria-label": "Camera" });
    video.muted = true;
    video.srcObject = this.stream;
    const take = async () => {
      const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      this.close();
      this.ask(await new Promise((done) => canvas.toBlob(done)), "");
    };
    const row = [
      textButton("Take the picture", take, { class: "ctrl-main" }),
      textButton("Cancel", () => this.close()),
    ];
    this.show(video, make("div", { class: "ctrl-row" }, ...row));
  }
}
