"""How the page of `dinotools report` looks: wide and narrow, light and dark, on paper."""

from __future__ import annotations

STYLE = """
:root { --good: #0b6e42; --bad: #b3261a; }
@media (prefers-color-scheme: dark) { :root { --good: #55cf99; --bad: #ff8f7a; } }
body { max-width: 66rem; } main { min-width: 0; } section { margin-top: 2.6rem; }
h2 { font-size: 1.3rem; margin: 0 0 .5rem; } h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
h3 + .lead { margin: 0 0 .6rem; font-size: .9rem; } h4 { font-size: .95rem; margin: 1.2rem 0 .3rem; }
p, dd, li, h3, summary, figcaption { overflow-wrap: anywhere; } td, th { overflow-wrap: break-word; }
figcaption { font-size: .88rem; margin-top: .3rem; } details { margin: .5rem 0; } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; } td ul { margin: 0; padding-left: 1.1rem; }
td details { margin: .2rem 0; } .alarm { border-left: 4px solid var(--bad); padding-left: .8rem; }
nav ol { columns: 16rem; column-gap: 2.4rem; margin: .4rem 0; padding-left: 1.8rem; } nav li { break-inside: avoid; }
:target { outline: 2px solid var(--link); outline-offset: .3rem; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }

.tally { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: .8rem 0; }
.tally div { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem;
  display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tally dt { color: var(--soft); font-size: .85rem; line-height: 1.3; }
.tally dd { margin: 0; font-size: 1.6rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.cards td, .cards th { padding: .4rem .6rem; } .cards td:first-child { min-width: 6.5rem; }
.conditions { min-width: 13rem; } .verdict { font-weight: 600; color: var(--soft); }
.reproduced { color: var(--good); } .outside { color: var(--bad); }

.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: .4rem 1.4rem; }
.charts figure { margin: .5rem 0; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.charts figcaption { color: var(--ink); margin: 0 0 .2rem; }
ul.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0; padding: 0; list-style: none;
  font-size: .88rem; }
ul.legend li { display: flex; align-items: center; gap: .4rem; } ul.legend span { flex: none; }
ul.legend span:not([class]) { width: 1.3rem; height: .3rem; border-radius: 2px; }

.entries { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 0 2rem; }
.entries > * { min-width: 0; }
.heat td, .heat th { padding: .35rem .5rem; } .heat td { text-align: center; border-color: var(--page); }
.heat th { font-weight: 600; font-size: .9rem; }
.heat .chosen { outline: 3px solid var(--series-2); outline-offset: -3px; font-weight: 700; }
.classes th[scope=row] { font-weight: 400; } .classes td, .classes th { padding: .2rem .7rem; }
.bar { width: 12rem; } .bar span { display: block; height: .7rem; background: var(--series-1); border-radius: 2px; }
.frames { list-style: none; margin: .6rem 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.frames figure { margin: 0; }
.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem; font-size: .9rem; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; }

@media (max-width: 45rem) {
  body { padding: 1.2rem .8rem 3rem; }
  .cards, .cards tbody, .cards tr, .cards td { display: block; width: auto; } .cards { background: none; }
  .cards thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  .cards tr { background: var(--card); border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0;
    padding: .4rem .8rem; }
  .cards td { border: 0; padding: .12rem 0; text-align: left; display: grid; gap: .8rem;
    grid-template-columns: 7.5rem minmax(0, 1fr); }
  .cards td::before { content: attr(data-label); color: var(--soft); } .cards td:empty { display: none; }
  .cards td:first-child { display: block; font-weight: 600; } .cards td:first-child::before { content: none; }
  .conditions { min-width: 0; } .bar { width: 6rem; }
  .facts { grid-template-columns: 1fr; } .facts dd { margin: 0 0 .4rem; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --page: #fff; --card: #fff; --line: #bbb; --link: #000;
    --series-1: #0072b2; --series-2: #d55e00; --series-3: #00865f; --series-4: #b0588c;
    --good: #0b6e42; --bad: #b3261a; --positive: #0b7d4b; --negative: #c8321f; --junk: #676e77; --sign: #fff; }
  body { max-width: none; padding: 0; font-size: 11pt; } nav { display: none; } .scroll { overflow: visible; }
  .query { position: static; } figure, tr, article, .tally { break-inside: avoid; } h2, h3, h4 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
