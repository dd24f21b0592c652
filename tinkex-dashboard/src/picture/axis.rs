//! Where the lines of an axis are, and what stands beside them.

/// Round numbers from 0 to `most`, about `count` of them. The last one may lie above `most`.
pub(super) fn ticks(most: f64, count: usize) -> Vec<f64> {
    let rough = most / count.max(1) as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| round * magnitude >= rough * 0.999);
    let step = step.unwrap_or(10.0) * magnitude;
    let steps = (most / step - 1e-9).ceil().max(1.0) as usize;
    (0..=steps).map(|at| at as f64 * step).collect()
}

/// A value in one of Grafana's units, as a person reads it.
pub(super) fn label(value: f64, unit: &str) -> String {
    match unit {
        "s" if value == 0.0 => "0 s".to_owned(),
        "s" if value < 1.0 => format!("{} ms", short(value * 1000.0)),
        "s" => format!("{} s", short(value)),
        "percentunit" => format!("{} %", short(value * 100.0)),
        "bytes" => scaled(value, "B"),
        "Bps" => scaled(value, "B/s"),
        "reqps" => format!("{} /s", short(value)),
        _ => short(value),
    }
}

fn scaled(value: f64, unit: &str) -> String {
    let (value, prefix) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    format!("{} {prefix}{unit}", short(value))
}

/// As few digits as the ticks need.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_largest_value() {
        assert_eq!(ticks(10.0, 4), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(23.0, 4), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(ticks(1.0, 4), [0.0, 0.5, 1.0]);
        for most in [0.003, 0.7, 1.01, 4.9, 99.0, 12_345.0] {
            let ticks = ticks(most, 4);
            assert!((2..=6).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(ticks[ticks.len() - 1] >= most * 0.999, "{most}: {ticks:?}");
        }
    }

    #[test]
    fn values_are_shown_in_their_unit() {
        assert_eq!(label(0.25, "s"), "250 ms");
        assert_eq!(label(2.5, "s"), "2.5 s");
        assert_eq!(label(1.0, "percentunit"), "100 %");
        assert_eq!(label(20_000.0, "Bps"), "20 kB/s");
        assert_eq!(label(30.0, "short"), "30");
    }
}
