//! The tables on the terminal.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use crate::contender::Contender;
use crate::reading::Reading;
use crate::rounds::Rounds;
use crate::statistics::Spread;

/// CPU per sample and its ratios, a line for each cell.
pub(crate) fn sampling(measured: &[Rounds]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "",
        "tinkex, µs CPU",
        "bare",
        "Python",
        "tinkex / bare",
        "Python / tinkex",
        "samples/s",
        "bare",
    ]);
    for rounds in measured {
        let cpu = Reading::cpu_micros_per_sample;
        let rate = Reading::samples_per_second;
        table.add_row([
            rounds.cell.to_string(),
            shown(rounds.figure(Contender::Tinkex, cpu), 1),
            shown(rounds.figure(Contender::Bare, cpu), 1),
            shown(rounds.figure(Contender::Python, cpu), 0),
            shown(rounds.ratio(Contender::Tinkex, Contender::Bare, cpu), 2),
            shown(rounds.ratio(Contender::Python, Contender::Tinkex, cpu), 1),
            shown(rounds.figure(Contender::Tinkex, rate), 0),
            shown(rounds.figure(Contender::Bare, rate), 0),
        ]);
    }
    table.to_string()
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { median, least, most }) => {
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        }
    }
}
