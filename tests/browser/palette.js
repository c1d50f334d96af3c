// A picture in at most 256 colours, chosen by median cut: what makes a screenshot a small PNG.
//
// Evaluated in a blank page by tests/browser/png.py with a PNG in base64; returns its size, the
// palette (three bytes a colour) and one byte a pixel, the two in base64.
async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const pixels = new Uint32Array(data.length / 4);
  const counts = new Map();
  for (let i = 0; i < pixels.length; i++) {
    const colour = (data[4 * i] << 16) | (data[4 * i + 1] << 8) | data[4 * i + 2];
    pixels[i] = colour;
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const channel = (colour, shift) => (colour >> shift) & 255;
  const measure = (colours) => {
    let box = { colours, spread: -1, shift: 0, weight: 0 };
    for (const colour of colours) box.weight += counts.get(colour);
    for (const shift of [16, 8, 0]) {
      let low = 255;
      let high = 0;
      for (const colour of colours) {
        low = Math.min(low, channel(colour, shift));
        high = Math.max(high, channel(colour, shift));
      }
      if (high - low > box.spread) box = { ...box, spread: high - low, shift };
    }
    return box;
  };
  const boxes = [measure([...counts.keys()])];
  while (boxes.length < 256) {
    // Wide boxes first, and of these the ones that cover much: large even areas keep their colour.
    const rank = (box) => (box.colours.length > 1 ? box.spread * Math.log2(1 + box.weight) : -1);
    const index = boxes.reduce((best, box, i) => (rank(box) > rank(boxes[best]) ? i : best), 0);
    const { colours, shift } = boxes[index];
    if (colours.length < 2) break;
    colours.sort((a, b) => channel(a, shift) - channel(b, shift));
    const half = boxes[index].weight / 2;
    let seen = 0;
    let cut = 0;
    while (cut < colours.length - 1 && (cut === 0 || seen < half)) seen += counts.get(colours[cut++]);
    boxes.splice(index, 1, measure(colours.slice(0, cut)), measure(colours.slice(cut)));
  }
  const palette = new Uint8Array(boxes.length * 3);
  const chosen = new Map();
  boxes.forEach(({ colours, weight }, index) => {
    [16, 8, 0].forEach((shift, part) => {
      let sum = 0;
      for (const colour of colours) sum += channel(colour, shift) * counts.get(colour);
      palette[3 * index + part] = Math.round(sum / weight);
    });
    for (const colour of colours) chosen.set(colour, index);
  });
  const indices = new Uint8Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) indices[i] = chosen.get(pixels[i]);
  const text = (array) => {
    let out = "";
    for (let i = 0; i < array.length; i += 32768) {
      out += String.fromCharCode(...array.subarray(i, i + 32768));
    }
    return btoa(out);
  };
  return {
    width: bitmap.width, height: bitmap.height, palette: text(palette), indices: text(indices),
  };
}
