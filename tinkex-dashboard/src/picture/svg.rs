//! Writes SVG.

use std::fmt::Write as _;

/// A picture being written.
pub(super) struct Svg {
    text: String,
}

/// Where a text begins, relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// About how wide a text is. Whoever shows the picture chooses the font, so nobody knows exactly.
pub(super) fn width_of(text: &str, size: u32) -> f64 {
    text.chars().count() as f64 * f64::from(size) * 0.56
}

impl Svg {
    pub(super) fn new((width, height): (f64, f64)) -> Self {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"Inter, Helvetica, Arial, sans-serif\">\n"
        );
        let mut svg = Self { text };
        svg.rectangle((0.0, 0.0), (width, height), "#f6f8fa", "none");
        svg
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    pub(super) fn rectangle(&mut self, at: (f64, f64), size: (f64, f64), fill: &str, stroke: &str) {
        self.add(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\" stroke=\"{stroke}\"/>",
            at.0, at.1, size.0, size.1
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, width: f64) {
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{color}\" stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    pub(super) fn curve(&mut self, points: &[(f64, f64)], color: &str) {
        let points = joined(points);
        self.add(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\"/>"
        ));
    }

    pub(super) fn surface(&mut self, points: &[(f64, f64)], color: &str, opacity: f64) {
        let points = joined(points);
        self.add(format_args!("<polygon points=\"{points}\" fill=\"{color}\" fill-opacity=\"{opacity}\"/>"));
    }

    pub(super) fn text(
        &mut self,
        at: (f64, f64),
        size: u32,
        color: &str,
        anchor: Anchor,
        bold: bool,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if bold { " font-weight=\"600\"" } else { "" };
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.add(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{size}\" fill=\"{color}\" text-anchor=\"{anchor}\"{weight}>{text}</text>",
            at.0, at.1
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{element}");
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}
