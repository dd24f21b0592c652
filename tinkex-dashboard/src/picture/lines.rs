//! The lines of a graph: series with names and colors, some of them standing on others.

/// Grafana's classic palette.
const COLORS: [&str; 12] = [
    "#5b9e4d", "#d99a00", "#2f9fc4", "#e0752d", "#d63a2f", "#1f60c4", "#a63d97", "#6a55a3", "#37872d",
    "#8f6d00", "#0e6f8f", "#8a3a16",
];
/// Points further apart than this, in seconds, are not joined.
const HOLE: f64 = 2.5;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) color: &'static str,
    /// Time, the value it stands on, and the value that is drawn; in pieces without holes.
    pub(super) pieces: Vec<Vec<(f64, f64, f64)>>,
}

/// Lines in the order of their names, so that equal graphs have equal colors; those without any value are left out.
pub(super) fn of(mut series: Vec<(String, Vec<(f64, f64)>)>, stacked: bool) -> Vec<Line> {
    series.retain(|(_, points)| !points.is_empty());
    if stacked {
        series.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let mut tops: Vec<(f64, f64)> = Vec::new();
    let lines = series.into_iter().zip(COLORS.iter().cycle());
    lines
        .map(|((name, points), color)| {
            let mut pieces: Vec<Vec<(f64, f64, f64)>> = Vec::new();
            for (time, value) in points {
                let below = if stacked { stand_on(&mut tops, time, value) } else { 0.0 };
                let point = (time, below, below + value);
                match pieces.last_mut() {
                    Some(piece) if piece.last().is_some_and(|last| time - last.0 < HOLE) => piece.push(point),
                    _ => pieces.push(vec![point]),
                }
            }
            Line { name, color, pieces }
        })
        .collect()
}

/// Puts a value on what is there at its time, and says how high that was.
fn stand_on(tops: &mut Vec<(f64, f64)>, time: f64, value: f64) -> f64 {
    match tops.iter_mut().find(|(at, _)| (at - time).abs() < 1e-3) {
        Some((_, top)) => {
            let below = *top;
            *top += value;
            below
        }
        None => {
            tops.push((time, value));
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_lines_stand_on_those_before_them_and_holes_stay() {
        let b = ("b".to_owned(), vec![(0.0, 1.0), (1.0, 1.0), (9.0, 1.0)]);
        let a = ("a".to_owned(), vec![(1.0, 5.0)]);
        let empty = ("c".to_owned(), Vec::new());
        let lines = of(vec![b, a, empty], true);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].pieces, [[(1.0, 0.0, 5.0)]]);
        assert_eq!(lines[1].pieces, [vec![(0.0, 0.0, 1.0), (1.0, 5.0, 6.0)], vec![(9.0, 0.0, 1.0)]]);
    }
}
