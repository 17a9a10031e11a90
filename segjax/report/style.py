"""The page's look. Colours are variables: light by default, dark where the reader's system asks for it."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f5f1; --card: #ffffff; --ink: #1c2024; --soft: #626a73; --rule: #e3e1da;
  --accent: #0d766e; --accent-soft: #cfe6e2; --warm: #c8553d; --on-accent: #ffffff; --void: #efede7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121518; --card: #1b1f24; --ink: #e8e6e1; --soft: #98a1ab; --rule: #2d333a;
    --accent: #3fb8a9; --accent-soft: #1f4a46; --warm: #e8826a; --on-accent: #08211e; --void: #242a30;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 4px; letter-spacing: -0.005em; }
h3 { font-size: .95rem; margin: 0 0 6px; font-weight: 600; }
p { margin: 0; } .lead, .hint, .none { color: var(--soft); } .hint, .none { font-size: .875rem; margin-bottom: 14px; }
section { margin-top: 40px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 20px; }
.score { display: grid; grid-template-columns: minmax(220px, 1fr) 2fr; gap: 16px; margin-top: 24px; }
.main-score { background: var(--accent); color: var(--on-accent); border-color: transparent; }
.main-score .value { font-size: 3.6rem; line-height: 1.1; font-weight: 700; letter-spacing: -0.03em; }
.value, .num, .facts dd { font-variant-numeric: tabular-nums; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 16px 14px; }
.tiles { align-content: center; }
.tiles .value { font-size: 1.45rem; font-weight: 650; line-height: 1.2; }
.name { font-size: .8rem; color: var(--soft); } .main-score .name { color: inherit; opacity: .85; font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 14px 24px; margin: 0; }
.facts div { min-width: 0; } .facts .wide { grid-column: 1 / -1; }
h3 .name { font-weight: 400; } h2 + .card { margin-top: 12px; }
.facts dt { font-size: .8rem; color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .84rem; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
svg.chart { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.dot { fill: var(--accent); } .best { fill: var(--card); stroke: var(--warm); stroke-width: 2.5; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: right; font-weight: 600; color: var(--soft); font-size: .8rem; padding: 0 10px 8px; }
th { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td { border-top: 1px solid var(--rule); padding: 7px 10px; white-space: nowrap; }
td.num { text-align: right; min-width: 84px; position: relative; }
td.num span { position: relative; }
td.num .bar {
  position: absolute; right: 10px; bottom: 3px; height: 3px; border-radius: 2px;
  width: calc(100% - 20px);
  background: linear-gradient(to right, var(--accent) var(--v), var(--rule) var(--v));
}
.swatch {
  display: inline-block; width: 14px; height: 14px; border-radius: 4px; margin-right: 8px; vertical-align: -2px;
  border: 1px solid rgb(128 128 128 / .45);
}
svg.heat { max-width: none; height: auto; display: block; }
svg.heat .axis { fill: var(--ink); font-size: 12px; }
.back { fill: var(--void); } .hit { fill: var(--accent); } .miss { fill: var(--warm); }
svg .value { fill: var(--ink); } svg .value.strong { fill: var(--on-accent); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .875rem; margin-bottom: 16px; }
.sample { margin-bottom: 16px; } .sample h3 { display: flex; justify-content: space-between; gap: 12px; }
.sample h3 span:first-child { overflow-wrap: anywhere; }
.sample h3 span:last-child { font-variant-numeric: tabular-nums; }
.views { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 8px; }
figure { margin: 0; } figcaption { font-size: .78rem; color: var(--soft); margin-top: 3px; }
figure img { width: 100%; height: auto; display: block; border-radius: 6px; }
img.pixels { image-rendering: pixelated; }
details summary { cursor: pointer; font-weight: 600; }
.config { columns: 2; column-gap: 32px; margin-top: 14px; font-size: .84rem; }
.config div { break-inside: avoid; margin-bottom: 14px; } .config p { overflow-wrap: anywhere; }
.config b { color: var(--soft); font-weight: 500; }
footer { margin-top: 40px; color: var(--soft); font-size: .84rem; }
@media (max-width: 720px) {
  main { padding: 24px 14px 40px; } .card { padding: 14px; } h1 { font-size: 1.5rem; }
  .score, .charts { grid-template-columns: minmax(0, 1fr); } .main-score .value { font-size: 2.8rem; }
  .views { grid-template-columns: repeat(2, minmax(0, 1fr)); } .config { columns: 1; }
  svg.heat { width: 100%; min-width: 560px; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); } td, th { padding-left: 6px; padding-right: 6px; }
}
@media print { body { background: #fff; } section, .sample { break-inside: avoid; } }
"""
