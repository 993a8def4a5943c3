"""How a report's page looks: one style sheet, light and dark, from a telephone to a wide screen."""

SHEET = """
:root { --paper:#fbfbf9; --card:#ffffff; --ink:#1b2733; --soft:#5b6570; --line:#e2e5e9; --tint:#f2f4f6;
  --blue:#0072b2; --orange:#b94e00; --grey:#5b6570; --link:#00609a; --best:#eaf4fb; color-scheme:light dark; }
@media (prefers-color-scheme:dark) { :root { --paper:#12171d; --card:#1a2129; --ink:#e6eaee; --soft:#a2adb8;
  --line:#2d3741; --tint:#222b35; --blue:#5bb4e8; --orange:#f0924d; --grey:#a2adb8; --link:#7cc4f0; --best:#1d3242; } }
* { box-sizing:border-box; }
html { -webkit-text-size-adjust:100%; scroll-padding-top:3.5rem; }
body { margin:0; background:var(--paper); color:var(--ink); font:16px/1.55 system-ui,-apple-system,"Segoe UI",
  Roboto,"Noto Sans","DejaVu Sans",sans-serif; overflow-wrap:anywhere; }
header, main { max-width:76rem; margin:0 auto; padding:0 1.25rem; }
header { padding-top:3rem; padding-bottom:1.5rem; }
h1 { font-size:clamp(1.7rem,4.2vw,2.6rem); line-height:1.15; letter-spacing:-.02em; margin:.1rem 0 .6rem; }
h2 { font-size:1.35rem; letter-spacing:-.01em; margin:0 0 1.1rem; }
h3 { font-size:1rem; margin:0 0 .4rem; }
p { margin:0 0 .8rem; }
a { color:var(--link); text-underline-offset:.15em; }
:focus-visible { outline:2px solid var(--link); outline-offset:2px; }
code, pre { font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace; font-size:.875em; }
pre { background:var(--tint); border-radius:.5rem; padding:.8rem 1rem; overflow-x:auto; overflow-wrap:normal; }
.kicker { color:var(--soft); margin:0; } .lead { color:var(--soft); }
.chips { display:flex; flex-wrap:wrap; gap:.4rem 1.4rem; list-style:none; padding:0; margin:0 0 .6rem; }
.chips li::before { content:""; display:inline-block; width:.65rem; height:.65rem; border-radius:50%;
  margin-right:.45rem; background:var(--of,var(--line)); }
.done { --of:var(--blue); } .failed { --of:var(--orange); } .running { --of:#8fbfdd; }
.stopped { --of:#c9962f; } .missing { --of:var(--line); }
.bar { display:flex; height:.4rem; border-radius:.2rem; overflow:hidden; gap:2px; } .bar span { background:var(--of); }
nav { position:sticky; top:0; z-index:2; background:var(--paper); border-bottom:1px solid var(--line); display:flex;
  gap:1.3rem; overflow-x:auto; white-space:nowrap; scrollbar-width:none;
  padding:.6rem max(1.25rem,calc((100% - 76rem)/2 + 1.25rem)); font-size:.9rem; }
nav a { color:var(--soft); text-decoration:none; } nav a:hover { color:var(--ink); }
section { padding:2.2rem 0; border-bottom:1px solid var(--line); } section:last-child { border:0; }
.note, figcaption, .files { color:var(--soft); font-size:.875rem; }
.scroll + p { margin-top:.8rem; } .files { margin:0; } .files a { margin-right:.7rem; }
.warn { border-left:.25rem solid var(--orange); margin:0; padding:.2rem 0 .2rem 2.1rem; }
.claims { list-style:none; margin:0 0 1rem; padding:0; display:grid; gap:.55rem; }
.claims li { display:grid; grid-template-columns:6.6rem 1fr; gap:.9rem; align-items:baseline; }
.claims p { margin:0; } .claims .remark { grid-template-columns:1fr; color:var(--soft); }
.badge { font-size:.8rem; font-weight:600; border-radius:1rem; padding:.1rem .7rem; text-align:center;
  white-space:nowrap; border:1.5px solid var(--of); color:var(--of); --of:var(--grey); }
.holds .badge { --of:var(--blue); } .reversed .badge { --of:var(--orange); }
.entry { margin:0 0 2.6rem; } .entry:last-child { margin:0; }
.scroll, .table { overflow-x:auto; } .table { container-type:inline-size; }
table { border-collapse:collapse; font-size:.84rem; font-variant-numeric:tabular-nums lining-nums;
  overflow-wrap:normal; margin:0 0 .8rem; }
caption, .table .note { position:sticky; left:0; max-width:min(100cqw,60rem); }
caption { text-align:left; caption-side:top; color:var(--soft); padding:0 0 .8rem; }
caption strong { color:var(--ink); }
th, td { padding:.3rem .42rem; text-align:right; white-space:nowrap; font-weight:400; }
.wide table { font-size:.78rem; } .wide th, .wide td { padding:.3rem .2rem; }
th:first-child, td:first-child { text-align:left; padding-left:.2rem; }
.plain th:first-child, .name { position:sticky; left:0; background:var(--paper); }
th.text, td.text { text-align:left; } th.check, td.check, th.group { text-align:center; }
thead th { font-weight:600; vertical-align:bottom; } thead tr:last-child th { white-space:normal; }
thead th.group { color:var(--soft); }
th.titled { border-bottom:1px solid var(--line); }
thead tr:last-child th { border-bottom:1.5px solid var(--ink); }
tbody tr:hover > * { background:var(--tint); }
tr.rule > * { border-bottom:1px solid var(--line); }
tbody tr:last-child > * { border-bottom:1.5px solid var(--ink); }
td.best { font-weight:700; background:var(--best); }
td.second { box-shadow:inset 0 -2px color-mix(in srgb,var(--blue) 45%,transparent); }
td small { display:inline-block; font-size:.92em; font-weight:400; color:var(--soft); text-decoration:none; }
td.nothing, td.paper { color:var(--soft); }
.plain .gauge { width:40%; min-width:8rem; } .gauge span { display:block; height:.5rem; border-radius:.25rem;
  background:var(--blue); min-width:2px; }
figure { margin:0 0 2.6rem; display:grid; gap:.9rem 1.8rem; }
figure:last-child { margin-bottom:0; }
figure img { display:block; width:100%; height:auto; }
figure .scroll { background:#fff; border:1px solid var(--line); border-radius:.7rem; padding:.6rem; min-width:0; }
figcaption p { margin:0 0 .6rem; } figcaption h3 { color:var(--ink); }
@media (min-width:60rem) { figure.chart, figure.coloured { grid-template-columns:minmax(0,1fr) 17rem; } }
@media (max-width:44rem) { figure img { min-width:38rem; } figure.picture img { min-width:64rem; }
  .claims { gap:1rem; } .claims li { grid-template-columns:1fr; gap:.25rem; }
  th.name, td.name { white-space:normal; min-width:6.5rem; max-width:9rem; }
  .badge { justify-self:start; } header { padding-top:1.8rem; } }
@media (prefers-color-scheme:dark) { figure.chart .scroll { background:var(--card); }
  figure.chart img { filter:invert(1) hue-rotate(180deg); mix-blend-mode:screen; } }
.shelf { list-style:none; margin:0; padding:0; } .shelf li { padding:1rem 0; border-top:1px solid var(--line); }
.shelf li > a { font-size:1.15rem; text-decoration:none; } .shelf p { color:var(--soft); margin:.1rem 0 0; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:.3rem 1.2rem; margin:0 0 1.4rem; }
dt { color:var(--soft); } dd { margin:0; }
@media print { nav { display:none; } section { break-inside:avoid-page; border:0; } body { background:#fff; } }
"""
