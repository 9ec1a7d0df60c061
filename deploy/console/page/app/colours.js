// One colour for each shard, by its place in the cluster's file. The sheet has the first ones.

const NAMED = 8;

export function property(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function shardColour(place) {
  if (place < NAMED) return property(`--shard-${place}`);
  // The golden angle: neighbours are far apart, however many there are.
  return `hsl(${Math.round(place * 137.508) % 360} 60% 55%)`;
}

/// Calls back when the colours change.
export function onScheme(changed) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}

export function swatch(place) {
  const mark = document.createElement("span");
  mark.className = "swatch";
  mark.style.setProperty("--shard", shardColour(place));
  mark.setAttribute("aria-hidden", "true");
  return mark;
}
