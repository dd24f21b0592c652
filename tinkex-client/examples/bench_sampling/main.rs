//! What a sample costs: this client beside a bare `reqwest` loop that makes the same two requests.
//!
//! `cargo xtask bench sampling`. Server and clients are processes of their own. The two clients run in turn, pair by
//! pair, because machines are noisy; what counts is the ratio within a pair. CPU time is the operating system's
//! account of the client process (Linux).

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod bare;
mod cpu;
mod options;
mod serve;
mod tinkex;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use options::{Options, Role};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() {
    let outcome = Options::parse(std::env::args().skip(1)).map_err(AnyError::from).and_then(|options| {
        match &options.role {
            Role::Parent => compare(&options),
            Role::Serve => serve::run(),
            Role::Tinkex(url) => worker(&options, tinkex::run(url, &options)),
            Role::Bare(url) => worker(&options, bare::run(url, &options)),
        }
    });
    if let Err(error) = outcome {
        println!("{error}");
        std::process::exit(1);
    }
}

/// Runs one client to its end on a runtime of two threads, and prints what it cost.
fn worker(
    options: &Options,
    client: impl Future<Output = Result<cpu::Cost, AnyError>>,
) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let cost = runtime.block_on(client)?;
    println!(
        "{} {}",
        cost.cpu_seconds * 1e6 / options.samples as f64,
        options.samples as f64 / cost.wall_seconds
    );
    Ok(())
}

/// What one client cost: CPU microseconds per sample, and samples per second.
#[derive(Clone, Copy)]
struct Figures {
    cpu: f64,
    rate: f64,
}

fn compare(options: &Options) -> Result<(), AnyError> {
    let mut server =
        Running(Command::new(std::env::current_exe()?).arg("--serve").stdout(Stdio::piped()).spawn()?);
    let mut url = String::new();
    let stdout = server.0.stdout.take().ok_or("the server has no output")?;
    BufReader::new(stdout).read_line(&mut url)?;
    let url = url.trim();
    println!(
        "{} samples a run, {} in flight, prompts of {} tokens; {} pairs after one warm-up",
        options.samples, options.in_flight, options.prompt_tokens, options.pairs
    );
    let run = |role: &str| -> Result<Figures, AnyError> {
        let output =
            Command::new(std::env::current_exe()?).args([role, url]).args(options.words()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("{role} failed: {text}").into());
        }
        let (cpu, rate) = text.trim().split_once(' ').ok_or_else(|| format!("{role} said {text:?}"))?;
        Ok(Figures { cpu: cpu.parse()?, rate: rate.parse()? })
    };
    run("--tinkex")?;
    run("--bare")?;
    let mut pairs = Vec::new();
    for _ in 0..options.pairs {
        pairs.push((run("--tinkex")?, run("--bare")?));
    }
    print_table(&pairs);
    Ok(())
}

fn print_table(pairs: &[(Figures, Figures)]) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "tinkex", "bare reqwest", "tinkex / bare"]);
    let mut row = |name: &str, of: fn(&Figures) -> f64| {
        let column = |values: Vec<f64>, digits: usize| {
            let (low, median, high) = spread(values);
            format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
        };
        table.add_row([
            name.to_owned(),
            column(pairs.iter().map(|(ours, _)| of(ours)).collect(), 0),
            column(pairs.iter().map(|(_, bare)| of(bare)).collect(), 0),
            column(pairs.iter().map(|(ours, bare)| of(ours) / of(bare)).collect(), 2),
        ]);
    };
    row("CPU per sample, µs", |figures| figures.cpu);
    row("samples per second", |figures| figures.rate);
    for index in 1..4 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}\nmedian (least to most) over {} pairs", pairs.len());
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.first(), values.get(middle), values.last()) {
        (Some(low), Some(median), Some(high)) => (*low, *median, *high),
        _ => (f64::NAN, f64::NAN, f64::NAN),
    }
}

/// A process that ends with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
