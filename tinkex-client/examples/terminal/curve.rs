//! A curve made of block characters.

/// The most columns that are drawn; more numbers than that are averaged in groups.
const COLUMNS: usize = 64;
const ROWS: usize = 8;
/// A character cell filled from below, by eighths.
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Draws one number per step, from the first step to the last. The lowest line is zero, or the lowest number where that
/// is negative.
pub(crate) fn curve(title: &str, values: &[f64]) -> String {
    let (low, high) = values.iter().fold((0.0_f64, 1e-9_f64), |(low, high), v| (low.min(*v), high.max(*v)));
    let groups = values.chunks(values.len().div_ceil(COLUMNS).max(1));
    let heights: Vec<usize> = groups
        .map(|group| group.iter().sum::<f64>() / group.len() as f64)
        .map(|mean| ((mean - low) / (high - low) * (8 * ROWS) as f64).round() as usize)
        .collect();
    let width = (COLUMNS / heights.len().max(1)).clamp(1, 4);
    let mut lines = vec![format!("  {title}")];
    for row in (0..ROWS).rev() {
        let label = match row {
            0 => format!("{low:.2}"),
            _ if row == ROWS - 1 => format!("{high:.2}"),
            _ => String::new(),
        };
        let cell = |height: &usize| EIGHTHS[height.saturating_sub(8 * row).min(8)].repeat(width);
        lines.push(format!("  {label:>6} │{}", heights.iter().map(cell).collect::<String>()));
    }
    let (room, last) = (heights.len() * width, format!("{} steps", values.len()));
    lines.push(format!("         └{}", "─".repeat(room)));
    lines.push(format!("          {last:>room$}"));
    lines.join("\n")
}
