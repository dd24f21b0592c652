//! The plot: CPU per sample by samples in flight, both on logarithmic scales.

use std::error::Error;

use plotters::prelude::*;

use crate::AnyError;
use crate::cell::Polling;
use crate::contender::Contender;
use crate::reading::Reading;
use crate::rounds::Rounds;

const SIZE: (u32, u32) = (900, 540);

/// A line of the plot.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    label: String,
    color: RGBColor,
    /// A session poller's lines are drawn with open points.
    open: bool,
    points: Vec<(f64, f64)>,
}

/// The picture as SVG.
pub(super) fn render(measured: &[Rounds]) -> Result<String, AnyError> {
    let lines = lines(measured);
    let mut svg = String::new();
    draw(&mut svg, &lines, prompt(measured)).map_err(|e| format!("the plot: {e}"))?;
    Ok(svg)
}

/// The prompt that is plotted: the middle one.
fn prompt(measured: &[Rounds]) -> usize {
    let mut prompts: Vec<usize> = measured.iter().map(|rounds| rounds.cell.prompt_tokens).collect();
    prompts.sort_unstable();
    prompts.dedup();
    prompts.get(prompts.len() / 2).copied().unwrap_or_default()
}

fn lines(measured: &[Rounds]) -> Vec<Line> {
    let prompt = prompt(measured);
    let mut lines = Vec::new();
    for who in Contender::SIDE_BY_SIDE {
        for polling in [Polling::PerRequest, Polling::Session] {
            let cells = measured
                .iter()
                .filter(|rounds| rounds.cell.prompt_tokens == prompt && rounds.cell.polling == polling);
            let mut points: Vec<(f64, f64)> = cells
                .filter_map(|rounds| {
                    let cpu = rounds.figure(who, Reading::cpu_micros_per_sample)?;
                    Some((rounds.cell.in_flight as f64, cpu.median))
                })
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            if !points.is_empty() {
                let label = format!("{who}, {} polling", polling.name());
                lines.push(Line { label, color: color(who), open: polling == Polling::Session, points });
            }
        }
    }
    lines
}

fn color(who: Contender) -> RGBColor {
    match who {
        Contender::Tinkex | Contender::Measured => RGBColor(31, 119, 180),
        Contender::Bare => RGBColor(120, 120, 120),
        Contender::Python => RGBColor(214, 39, 40),
    }
}

fn draw(svg: &mut String, lines: &[Line], prompt: usize) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most_in_flight = points().map(|point| point.0).fold(10.0, f64::max);
    let most_cpu = points().map(|point| point.1).fold(100.0, f64::max);
    let least_cpu = points().map(|point| point.1).fold(most_cpu, f64::min);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("CPU per sample, prompts of {prompt} tokens"), ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (0.8..most_in_flight * 1.5).log_scale(),
            (least_cpu / 2.0..most_cpu * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("samples in flight")
        .y_desc("CPU per sample, µs")
        .light_line_style(WHITE)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for line in lines {
        let style = line.color.stroke_width(2);
        let dot = if line.open { line.color.stroke_width(2) } else { line.color.filled() };
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        chart
            .draw_series(line.points.iter().map(|point| Circle::new(*point, 4, dot)))?
            .label(&line.label)
            .legend(move |(x, y)| Circle::new((x + 10, y), 4, dot));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .position(SeriesLabelPosition::MiddleRight)
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn every_contender_has_a_line_with_a_label() {
        let svg = render(&example::report().sampling).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in ["tinkex, per-request polling", "bare reqwest, ", "Python SDK, ", "2048 tokens"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn points_lie_in_order_on_the_line_of_the_middle_prompt() {
        let one = example::report().sampling.remove(0);
        let at = |in_flight: usize, prompt_tokens: usize| {
            let mut rounds = one.clone();
            (rounds.cell.in_flight, rounds.cell.prompt_tokens) = (in_flight, prompt_tokens);
            rounds
        };
        let lines = lines(&[at(64, 2_048), at(1, 2_048), at(7, 256), at(8, 16_384)]);
        assert_eq!(lines.len(), 3);
        let x: Vec<f64> = lines[0].points.iter().map(|point| point.0).collect();
        assert_eq!(x, [1.0, 64.0]);
    }

    #[test]
    fn nothing_measured_is_an_empty_plot() {
        assert!(render(&[]).unwrap().contains("</svg>"));
    }
}
