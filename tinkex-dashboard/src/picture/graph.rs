//! One panel: title, bands, axes, lines, legend.

use super::axis;
use super::lines::Line;
use super::svg::{self, Anchor, Svg};
use super::{Area, Stretch};
use crate::dashboard::Graph;

/// Of the marked times, in their order.
pub(super) const BAND_COLORS: [&str; 3] = ["#fff3c4", "#d9ecff", "#ffe0db"];

const INK: &str = "#57606a";
const SMALL: u32 = 11;
const TITLE: f64 = 26.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
/// Below the graph: the times, and a line of the legend.
const TIMES: f64 = 19.0;
const LEGEND_LINE: f64 = 15.0;
const LEGEND_LINES: usize = 2;

pub(super) fn draw(
    svg: &mut Svg,
    area: Area,
    title: &str,
    graph: &Graph,
    lines: Vec<Line>,
    stretch: &Stretch,
) {
    svg.rectangle((area.x, area.y), (area.w, area.h), "#ffffff", "#d0d7de");
    svg.text((area.x + 10.0, area.y + 18.0), 13, "#1f2328", Anchor::Start, true, title);
    let legend = legend(&lines, area.w - 20.0);
    let plot = Area {
        x: area.x + LEFT,
        y: area.y + TITLE,
        w: area.w - LEFT - RIGHT,
        h: area.h - TITLE - TIMES - LEGEND_LINE * legend.len().max(1) as f64 - 4.0,
    };
    let time = |at: f64| plot.x + (at - stretch.from) / (stretch.to - stretch.from) * plot.w;
    for (band, color) in stretch.bands.iter().zip(BAND_COLORS.iter().cycle()) {
        svg.rectangle((time(band.from), plot.y), (time(band.to) - time(band.from), plot.h), color, "none");
    }
    let length = stretch.to - stretch.from;
    for at in axis::ticks(length, if plot.w > 350.0 { 8 } else { 5 }).into_iter().filter(|at| *at <= length) {
        let x = time(stretch.from + at);
        svg.line((x, plot.y), (x, plot.y + plot.h), "#eaeef2", 1.0);
        let label = format!("{at:.0} s");
        svg.text((x, plot.y + plot.h + 14.0), SMALL, INK, Anchor::Middle, false, &label);
    }
    if lines.is_empty() {
        let middle = (plot.x + plot.w / 2.0, plot.y + plot.h / 2.0);
        svg.line((plot.x, plot.y + plot.h), (plot.x + plot.w, plot.y + plot.h), "#8c959f", 1.0);
        svg.text(middle, 13, "#8c959f", Anchor::Middle, false, &graph.without_data);
        return;
    }
    let most = lines.iter().flat_map(|line| line.pieces.iter().flatten()).map(|point| point.2);
    let most = most.fold(0.0, f64::max);
    // A flat zero has no scale of its own; the rest gets some air above it.
    let ticks = axis::ticks(if most > 0.0 { most * 1.04 } else { 1.0 }, 3);
    let top = ticks.last().copied().unwrap_or(1.0);
    let height = |value: f64| plot.y + plot.h - (value / top).clamp(0.0, 1.0) * plot.h;
    for tick in ticks {
        svg.line((plot.x, height(tick)), (plot.x + plot.w, height(tick)), "#eaeef2", 1.0);
        let label = axis::label(tick, &graph.unit);
        svg.text((plot.x - 6.0, height(tick) + 4.0), SMALL, INK, Anchor::End, false, &label);
    }
    svg.line((plot.x, plot.y + plot.h), (plot.x + plot.w, plot.y + plot.h), "#8c959f", 1.0);
    for line in &lines {
        for piece in &line.pieces {
            let upper: Vec<_> = piece.iter().map(|(at, _, value)| (time(*at), height(*value))).collect();
            if graph.stacked {
                let lower = piece.iter().rev().map(|(at, below, _)| (time(*at), height(*below)));
                let outline: Vec<_> = upper.iter().copied().chain(lower).collect();
                svg.surface(&outline, line.color, 0.35);
            }
            svg.curve(&upper, line.color);
        }
    }
    for (row, entries) in legend.iter().enumerate() {
        let y = plot.y + plot.h + TIMES + LEGEND_LINE * (row as f64 + 1.0) - 5.0;
        let mut x = area.x + 10.0;
        for (name, color) in entries {
            svg.rectangle((x, y - 6.0), (12.0, 4.0), color, "none");
            svg.text((x + 16.0, y), SMALL, "#1f2328", Anchor::Start, false, name);
            x += entry_width(name);
        }
    }
}

fn entry_width(name: &str) -> f64 {
    svg::width_of(name, SMALL) + 30.0
}

/// The names in lines of this width; those that do not fit in two lines are counted.
fn legend(lines: &[Line], width: f64) -> Vec<Vec<(String, &'static str)>> {
    let mut rows: Vec<Vec<(String, &'static str)>> = Vec::new();
    let mut free = 0.0;
    for (at, line) in lines.iter().enumerate() {
        let needed = entry_width(&line.name);
        if needed > free {
            if rows.len() == LEGEND_LINES {
                if let Some(last) = rows.last_mut() {
                    last.push((format!("and {} more", lines.len() - at), "none"));
                }
                return rows;
            }
            rows.push(Vec::new());
            // The last line keeps room for the count of the rest.
            free = if rows.len() == LEGEND_LINES { width - 70.0 } else { width };
        }
        if let Some(last) = rows.last_mut() {
            last.push((line.name.clone(), line.color));
        }
        free -= needed;
    }
    rows
}
