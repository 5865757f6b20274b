"""How the HTML page looks: light and dark, on a screen and on paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """\
:root { --page: #fcfcfd; --card: #fff; --ink: #1b1f24; --soft: #5a636e; --line: #dce0e5;
  --track: #eceff2; --bar: #9cc3f2; --own: #1f6fd0; --good: #1a7438; --bad: #c0212f;
  --warn: #8a5a00; --good-back: #dff3e4; --bad-back: #fde4e4; --warn-back: #fdf0cf;
  --mute-back: #eceff2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1216; --card: #161b21; --ink: #e4e8ed; --soft: #9aa5b1; --line: #2c343d;
    --track: #242b33; --bar: #2f5c93; --own: #6cabf5; --good: #68cd84; --bad: #ff8087;
    --warn: #e6b450; --good-back: #16301e; --bad-back: #3d181b; --warn-back: #362a10;
    --mute-back: #242b33; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; color: var(--ink);
  background: var(--page); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: anywhere; }
h1 { margin: 0; font-size: .95rem; font-weight: 600; color: var(--soft); }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
h4 { margin: 1.3rem 0 .3rem; font-size: .9rem; }
p { margin: .3rem 0; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .15em; }
code, .number { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  font-size: .88em; }
.headline { margin: .1rem 0 1rem; font-size: 1.7rem; font-weight: 650; line-height: 1.25; }
.headline.good { color: var(--good); } .headline.bad { color: var(--bad); }
.headline.warn { color: var(--warn); }
.soft { color: var(--soft); font-size: .88em; }
.note { padding: .4rem .75rem; border-left: 3px solid var(--warn); background: var(--warn-back); }
.why { padding: .4rem .75rem; border-left: 3px solid var(--line); }
.why.bad { border-color: var(--bad); background: var(--bad-back); }
.why.warn { border-color: var(--warn); background: var(--warn-back); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
.scroll { overflow-x: auto; } .narrow { max-width: 42rem; }
.name { white-space: nowrap; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: middle; }
th, th.number { color: var(--soft); font: inherit; font-size: .82rem; font-weight: 600;
  white-space: nowrap; }
td:first-child { min-width: 11rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { width: 22%; min-width: 8rem; }
tr:hover td { background: var(--track); } tr:hover .track { background: var(--line); }
.track { position: relative; display: block; height: .7rem; border-radius: 2px;
  background: var(--track); overflow: hidden; }
.track i, .track b { position: absolute; inset: 0 auto 0 0; background: var(--bar); }
.track b { background: var(--own); }
.track s { position: absolute; top: 0; bottom: 0; width: 4px; margin-left: -2px;
  background: var(--card); }
.track.good i { background: var(--good); } .track.bad i { background: var(--bad); }
.track.warn i { background: var(--warn); }
.pill { padding: .05rem .5rem; border-radius: 1rem; font-size: .82rem; font-weight: 600;
  white-space: nowrap; background: var(--mute-back); color: var(--soft); }
.pill.good { background: var(--good-back); color: var(--good); }
.pill.bad { background: var(--bad-back); color: var(--bad); }
.pill.warn { background: var(--warn-back); color: var(--warn); }
.key { display: inline-block; margin: 0 .35rem 0 .6rem; width: 1.4rem; height: .6rem;
  border-radius: 2px; background: var(--bar); }
.key:first-child { margin-left: 0; } .key.own { background: var(--own); }
.tree { display: block; white-space: nowrap; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }
summary { padding: .55rem .8rem; cursor: pointer; font-weight: 600; }
summary .soft { font-weight: 400; }
details > div { padding: 0 .9rem 1rem; scroll-margin-top: 4rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 9pt; }
  th, td { padding: .15rem .35rem; } .bar { min-width: 4rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; }
  h2, h3, h4, summary { break-after: avoid; } tr { break-inside: avoid; }
  .scroll { overflow: visible; } }
@media print and (prefers-color-scheme: dark) {
  :root { --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --track: #eee;
    --bar: #9cc3f2; --own: #1f6fd0; --good: #1a7438; --bad: #c0212f; --warn: #8a5a00;
    --good-back: #dff3e4; --bad-back: #fde4e4; --warn-back: #fdf0cf; --mute-back: #eceff2; } }
"""
"""Every colour has its meaning in words beside it as well."""
