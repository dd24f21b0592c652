//! The dashboard as one SVG: every panel in its place, over a stretch of time.

mod axis;
mod graph;
mod lines;
mod svg;

use crate::Failure;
use crate::dashboard::{COLUMNS, Dashboard, Place};
use crate::prometheus::Api;
use svg::{Anchor, Svg};

/// Rates are formed over this much, as Grafana would for a scrape every second.
const RATE_INTERVAL: &str = "5s";
/// One value a second.
const STEP: f64 = 1.0;

const COLUMN: f64 = 62.0;
const ROW: f64 = 28.0;
const MARGIN: f64 = 12.0;
const HEADER: f64 = 60.0;
/// Half the space between panels.
const GAP: f64 = 4.0;

/// What a picture shows.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Its beginning, in seconds since 1970.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// What is marked in it.
    pub bands: Vec<Band>,
}

/// A marked part of the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// What happened.
    pub name: String,
    /// Its beginning, in seconds since 1970.
    pub from: f64,
    /// Its end.
    pub to: f64,
}

/// Evaluates every query of the dashboard and draws it.
///
/// # Errors
///
/// Where Prometheus does not answer, or refuses an expression.
pub fn draw(dashboard: &Dashboard, api: &Api, stretch: &Stretch) -> Result<String, Failure> {
    let rows = dashboard.panels.iter().map(|panel| panel.place.y + panel.place.h).max().unwrap_or_default();
    let size = (2.0 * MARGIN + f64::from(COLUMNS) * COLUMN, HEADER + f64::from(rows) * ROW + MARGIN);
    let mut svg = Svg::new(size);
    header(&mut svg, dashboard, stretch, size.0);
    for panel in &dashboard.panels {
        let area = area(panel.place);
        match &panel.graph {
            None => {
                svg.text((area.x, area.y + area.h - 6.0), 15, "#1f2328", Anchor::Start, true, &panel.title);
                svg.line((area.x, area.y + area.h), (area.x + area.w, area.y + area.h), "#d0d7de", 1.0);
            }
            Some(graph) => {
                let mut found = Vec::new();
                for query in &graph.queries {
                    let series = api.over(&query.filled_in(RATE_INTERVAL), stretch.from, stretch.to, STEP)?;
                    found.extend(series.into_iter().map(|one| (query.name(&one.labels), one.points)));
                }
                graph::draw(&mut svg, area, &panel.title, graph, lines::of(found, graph.stacked), stretch);
            }
        }
    }
    Ok(svg.finish())
}

/// A rectangle of the picture.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

fn area(place: Place) -> Area {
    Area {
        x: MARGIN + f64::from(place.x) * COLUMN + GAP,
        y: HEADER + f64::from(place.y) * ROW + GAP,
        w: f64::from(place.w) * COLUMN - 2.0 * GAP,
        h: f64::from(place.h) * ROW - 2.0 * GAP,
    }
}

fn header(svg: &mut Svg, dashboard: &Dashboard, stretch: &Stretch, width: f64) {
    svg.text((MARGIN + GAP, 34.0), 22, "#1f2328", Anchor::Start, true, &dashboard.title);
    let note = "one run of the demo, scraped every second: a fan-out, a training run, and a steady load with three troubles";
    svg.text((MARGIN + GAP + 90.0, 34.0), 13, "#57606a", Anchor::Start, false, note);
    let mut x = width - MARGIN - GAP;
    let bands: Vec<_> = stretch.bands.iter().zip(graph::BAND_COLORS.into_iter().cycle()).collect();
    for (band, color) in bands.into_iter().rev() {
        x -= svg::width_of(&band.name, 13);
        svg.text((x, 34.0), 13, "#1f2328", Anchor::Start, false, &band.name);
        x -= 20.0;
        svg.rectangle((x, 22.0), (14.0, 14.0), color, "#d0d7de");
        x -= 20.0;
    }
}
