//! The table as a chart: for each line, how many times as good lsmfs is as each of the others, as bars on a
//! logarithmic scale around 1.

use crate::report::{Report, number};
use crate::target::Target;
use std::fmt::Write;

/// The scale goes from 1/SPAN to SPAN; what lies beyond is cut off.
const SPAN: f64 = 64.0;
const BAR: usize = 9;
const GAP: usize = 12;
const LEFT: usize = 330;
const WIDTH: usize = 1000;
const TOP: usize = 60;
/// The legend's rows.
const ROW: usize = 15;
const IN_ROW: usize = 3;
/// Peers take them in turn.
const PEERS: [&str; 4] = ["#5b9a68", "#9a5b9a", "#a89a3c", "#777777"];

/// The colour of the `at`th of those that lsmfs is compared with.
fn colour(target: Target, at: usize) -> &'static str {
    match target {
        Target::Floor => "#4878a8",
        Target::Plain => "#9ab8d4",
        Target::Peer(_) => PEERS[at % PEERS.len()],
        Target::Lsmfs | Target::Disk => "#c8843c",
    }
}

/// Where a ratio is on the scale.
fn x(ratio: f64) -> f64 {
    let part = (ratio.ln() / SPAN.ln()).clamp(-1.0, 1.0);
    LEFT as f64 + (WIDTH - LEFT - 60) as f64 * (part + 1.0) / 2.0
}

/// The chart as SVG.
pub fn svg(report: &Report) -> String {
    let mut body = String::new();
    let others: Vec<_> = report.others().collect();
    let top = TOP + ROW * (others.len().div_ceil(IN_ROW) - 1);
    let mut y = top;
    let mut put = |words: std::fmt::Arguments<'_>| body.write_fmt(words).expect("a string takes it");
    for line in &report.lines {
        let ratio = |(at, other): (usize, &Target)| Some((colour(*other, at), line.ratio(*other)?));
        let ratios: Vec<_> = others.iter().enumerate().filter_map(ratio).collect();
        if ratios.is_empty() {
            continue;
        }
        let middle = y + ratios.len() * BAR / 2 + 4;
        let figure = line.figure(Target::Lsmfs).map_or_else(String::new, number);
        let name = &line.name;
        put(format_args!(
            "<text x='{}' y='{middle}' text-anchor='end'>{name}: {figure} {}</text>\n",
            LEFT - 10,
            line.unit.name
        ));
        for (colour, ratio) in ratios {
            let (from, to) = (x(1.0).min(x(ratio)), x(1.0).max(x(ratio)));
            put(format_args!(
                "<rect x='{from:.1}' y='{y}' width='{:.1}' height='{}' fill='{colour}'/>\n",
                to - from,
                BAR - 1
            ));
            put(format_args!(
                "<text x='{:.1}' y='{}' font-size='9'>{ratio:.2}</text>\n",
                to + 3.0,
                y + BAR - 1
            ));
            y += BAR;
        }
        y += GAP;
    }
    let mut axis = String::new();
    for ratio in [1.0 / 16.0, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0] {
        let at = x(ratio);
        let _ = writeln!(axis, "<line x1='{at:.1}' x2='{at:.1}' y1='{}' y2='{y}' stroke='#ddd'/>", top - 5);
        let _ = writeln!(
            axis,
            "<text x='{at:.1}' y='{}' text-anchor='middle' fill='#666'>{ratio}</text>",
            top - 10
        );
    }
    let mut legend = String::new();
    for (at, other) in others.into_iter().enumerate() {
        let (x, y) = (LEFT + at % IN_ROW * 220, 12 + at / IN_ROW * ROW);
        let fill = colour(other, at);
        let _ = writeln!(legend, "<rect x='{x}' y='{y}' width='10' height='10' fill='{fill}'/>");
        let _ =
            writeln!(legend, "<text x='{}' y='{}'>times as good as {}</text>", x + 15, y + 9, other.name());
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n{legend}{axis}{body}</svg>\n",
        y + 20
    )
}
