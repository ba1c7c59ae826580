"""The style sheet of the demo's report."""

STYLE = """
:root {
  --page: #fbfbfa; --card: #ffffff; --text: #1d2126; --soft: #5b6570; --line: #dfe3e6;
  --accent: #0b62a4; --track: #e8ecef; --code: #f1f3f4; --warn: #fff3cd; --warn-text: #5c4400;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --text: #e4e7ea; --soft: #a0a9b2; --line: #323940;
    --accent: #6cb4ee; --track: #2b3238; --code: #20252a; --warn: #4a3a0a; --warn-text: #ffe9a8;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
.lead { font-size: 1.1rem; color: var(--soft); }
.small, figcaption, small { font-size: .875rem; color: var(--soft); }
.warning {
  background: var(--warn); color: var(--warn-text); border-radius: .5rem; padding: .75rem 1rem;
}
.tiles {
  list-style: none; padding: 0; margin: 1.75rem 0 0; display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr));
}
.tiles li {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
}
.tiles b {
  display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums;
}
.tiles span { display: block; margin-top: .35rem; font-size: .875rem; color: var(--soft); }
.table { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td {
  padding: .55rem 0 .55rem 1.25rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-weight: normal;
}
th:first-child { padding-left: 0; }
thead th { font-size: .8125rem; color: var(--soft); vertical-align: bottom; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
tbody th small, td small { display: block; }
.group th { padding-top: 1.25rem; font-weight: 600; }
.plain { width: auto; min-width: 60%; }
.plain .wide { width: 14rem; vertical-align: middle; }
.total th, .total td { font-weight: 600; border-bottom: 0; }
.bar {
  display: block; height: .35rem; border-radius: .2rem; background: var(--track); overflow: hidden;
  min-width: 5.5rem; margin-top: .3rem;
}
.plain .bar { margin: 0; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: .2rem; }
figure { margin: 1.75rem 0; }
figure img {
  display: block; max-width: 100%; height: auto; background: #fff; padding: .75rem;
  border: 1px solid var(--line); border-radius: .6rem; width: 40rem;
}
figcaption { margin-top: .5rem; max-width: 46rem; }
details { margin-top: .5rem; font-size: .9rem; }
summary { cursor: pointer; color: var(--accent); }
details table { font-size: .85rem; margin-top: .5rem; }
details th, details td { padding-top: .25rem; padding-bottom: .25rem; }
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .75rem 1.5rem;
  margin: 1.25rem 0;
}
dt { font-size: .8125rem; color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
pre {
  background: var(--code); border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1rem;
  overflow-x: auto; font-size: .85rem; line-height: 1.5;
}
code { font-family: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
p code { background: var(--code); padding: .1em .3em; border-radius: .25em; font-size: .9em; }
@media (max-width: 40rem) {
  main { padding-top: 1.5rem; }
  h1 { font-size: 1.6rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tiles li { padding: .75rem; }
  .tiles b { font-size: 1.25rem; }
  .cards, .cards tbody { display: block; }
  .cards thead { position: absolute; left: -999rem; }
  .cards tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .cards th, .cards td { display: block; border: 0; padding: .15rem 0; }
  .cards td { display: flex; justify-content: space-between; text-align: right; gap: 1rem; }
  .cards td::before {
    content: attr(data-label); color: var(--soft); font-size: .875rem; white-space: normal;
    text-align: left;
  }
  .cards .group { border-bottom: 0; padding-bottom: 0; }
  dl { grid-template-columns: 1fr 1fr; gap: .75rem 1rem; }
  .plain { width: 100%; }
  .plain .wide { width: 35%; }
  .plain .bar { min-width: 3rem; }
}
@media print {
  :root {
    --page: #fff; --card: #fff; --text: #000; --soft: #444; --line: #bbb; --accent: #0b62a4;
    --track: #ddd; --code: #f5f5f5; --warn: #fff; --warn-text: #000;
  }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  figure, tr, dl, .tiles { break-inside: avoid; }
  figure img { width: auto; max-height: 11cm; border: 0; padding: 0; }
  details { display: none; }
  .bar i { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  pre { white-space: pre-wrap; }
}
"""
