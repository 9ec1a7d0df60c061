// How one slot looks: a colour for its owner, and a mark for everything else.

import { property, shardColour } from "./colours.js";

/// The colours of the moment, looked up once for a whole drawing.
export function palette(shards) {
  return {
    shards: Array.from({ length: shards }, (_, place) => shardColour(place)),
    empty: property("--empty"),
    quiet: property("--quiet"),
    ink: property("--ink"),
    bad: property("--bad"),
    flash: property("--flash"),
  };
}

export function drawCell(context, colours, cell, x, y, size) {
  const own = colours.shards[cell.shard] ?? colours.empty;
  const other = colours.shards[cell.to] ?? colours.empty;
  context.fillStyle = cell.state === "nobody" || cell.state === "unknown" ? colours.empty : own;
  context.fillRect(x, y, size, size);
  const line = (colour, width, ...points) => {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const [fromX, fromY, toX, toY] of points) {
      context.moveTo(x + fromX * size, y + fromY * size);
      context.lineTo(x + toX * size, y + toY * size);
    }
    context.stroke();
  };
  if (cell.state === "moving" || cell.state === "between" || cell.state === "twice") {
    context.fillStyle = other;
    context.beginPath();
    context.moveTo(x + size, y);
    context.lineTo(x + size, y + size);
    context.lineTo(x, y + size);
    context.fill();
  }
  if (cell.state === "between") line(colours.ink, Math.max(1, size / 7), [0, 1, 1, 0]);
  if (cell.state === "nobody") line(colours.bad, Math.max(1, size / 7), [0.15, 0.15, 0.85, 0.85], [0.85, 0.15, 0.15, 0.85]);
  if (cell.state === "unknown") line(colours.quiet, Math.max(1, size / 9), [0, 0.5, 0.5, 0], [0.5, 1, 1, 0.5]);
  if (cell.state === "twice") {
    const width = Math.max(1, size / 6);
    context.strokeStyle = colours.bad;
    context.lineWidth = width;
    context.strokeRect(x + width / 2, y + width / 2, size - width, size - width);
  }
}

/// In words, for whoever does not see it.
export function cellText(slot, cell, names) {
  const own = names[cell.shard];
  const other = names[cell.to];
  switch (cell.state) {
    case "owned":
      return `Slot ${slot}: ${own}`;
    case "moving":
      return `Slot ${slot}: ${own}, moving to ${other}`;
    case "between":
      return `Slot ${slot}: in the pause of a move from ${own} to ${other ?? "another shard"}`;
    case "twice":
      return `Slot ${slot}: owned twice, by ${own} and ${other}`;
    case "nobody":
      return `Slot ${slot}: owned by nobody`;
    default:
      return `Slot ${slot}: not known, a shard does not answer`;
  }
}
