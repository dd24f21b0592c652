//! The one process a person starts: runs the parts, prints their tables, and writes the report.

use crate::AnyError;
use crate::command_line::{Options, Part, Size};
use crate::contender::Python;
use crate::laboratory::Laboratory;
use crate::machine::Machine;
use crate::pinning::Pinning;
use crate::plan::{self, Task};
use crate::report::{Report, Verdict};
use crate::rounds::Rounds;
use crate::{instructions, method, wire};

/// Runs what the options say.
///
/// # Errors
///
/// Where a measurement fails, or a target that was judged is missed; the report is written all the same.
pub(crate) fn run(options: &Options) -> Result<(), AnyError> {
    let wanted = |part: Part| options.part.is_none_or(|only| only == part);
    let pinning = Pinning::find();
    let python = Python::find(options.python.as_deref());
    let described = python.as_ref().map(Python::description).map_err(Clone::clone);
    let mut report = Report {
        machine: Machine::here(&described),
        method: method::describe(pinning, options.http),
        sampling: Vec::new(),
        inflight: Vec::new(),
        metrics: Vec::new(),
        wire: Vec::new(),
        instructions: Vec::new(),
        notes: Vec::new(),
        failures: Vec::new(),
        targets: Vec::new(),
    };
    if wanted(Part::Sampling) || wanted(Part::Inflight) || wanted(Part::Metrics) {
        if let (Err(missing), true) = (&python, wanted(Part::Sampling)) {
            report.notes.push(format!("The columns of the Python SDK are empty: {missing}."));
        }
        let mut laboratory = Laboratory::open(pinning, python.ok())?;
        if wanted(Part::Sampling) {
            report.sampling = measure(&mut laboratory, &plan::sampling(options), &mut report.failures);
        }
        if wanted(Part::Inflight) {
            report.inflight = measure(&mut laboratory, &plan::inflight(options), &mut report.failures);
        }
        if wanted(Part::Metrics) {
            report.metrics = measure(&mut laboratory, &plan::metrics(options), &mut report.failures);
        }
    }
    if wanted(Part::Wire) {
        report.wire = crate::runtime()?.block_on(async { wire::run(options.size) })?;
    }
    if wanted(Part::Instructions) {
        println!("counting instructions");
        match instructions::run(options.size)? {
            Ok(counts) => report.instructions = counts,
            Err(missing) => report.notes.push(format!("Instructions were not counted: {missing}.")),
        }
    }
    let reason_not_to_judge = match options.size {
        Size::Smoke => Some("a smoke run"),
        _ if cfg!(debug_assertions) => Some("built without optimisation"),
        _ => None,
    };
    report.judge(reason_not_to_judge, options.part.is_none());
    conclude(&report, options)
}

/// Runs the tasks. One that fails does not take the others with it.
fn measure(laboratory: &mut Laboratory, tasks: &[Task], failures: &mut Vec<String>) -> Vec<Rounds> {
    let mut measured = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        println!("{}/{}: {}", number + 1, tasks.len(), task.cell);
        match Rounds::run(laboratory, task) {
            Ok(rounds) => measured.push(rounds),
            Err(failure) => {
                println!("{failure}");
                failures.push(failure.to_string());
            }
        }
    }
    measured
}

fn conclude(report: &Report, options: &Options) -> Result<(), AnyError> {
    println!("\n{}", report.terminal());
    for note in &report.notes {
        println!("{note}");
    }
    if let Some(folder) = &options.out {
        report.write(folder)?;
        println!("written to {}", folder.display());
    }
    let missed = report.targets.iter().filter(|target| target.verdict == Verdict::Fail).count();
    match (report.failures.len(), missed) {
        (0, 0) => Ok(()),
        (0, missed) => Err(format!("{missed} targets are missed").into()),
        (failed, _) => Err(format!("{failed} measurements failed").into()),
    }
}
