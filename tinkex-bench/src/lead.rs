//! The one process a person starts: runs the parts, prints their tables, and writes the report.

use crate::AnyError;
use crate::command_line::{Options, Part};
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
/// Where a run fails, or a target that was judged is missed.
pub(crate) fn run(options: &Options) -> Result<(), AnyError> {
    let wanted = |part: Part| options.part.is_none_or(|only| only == part);
    let pinning = Pinning::find();
    let python = Python::find(options.python.as_deref());
    let described = python.as_ref().map(Python::description).map_err(Clone::clone);
    let mut report = Report {
        machine: Machine::here(&described),
        method: method::describe(pinning),
        sampling: Vec::new(),
        inflight: Vec::new(),
        wire: Vec::new(),
        instructions: Vec::new(),
        notes: Vec::new(),
        targets: Vec::new(),
    };
    if wanted(Part::Sampling) || wanted(Part::Inflight) {
        if let (Err(missing), true) = (&python, wanted(Part::Sampling)) {
            report.notes.push(format!("The columns of the Python SDK are empty: {missing}."));
        }
        let mut laboratory = Laboratory::open(pinning, python.ok())?;
        if wanted(Part::Sampling) {
            report.sampling = measure(&mut laboratory, &plan::sampling(options))?;
        }
        if wanted(Part::Inflight) {
            report.inflight = measure(&mut laboratory, &plan::inflight(options))?;
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
    report.judge();
    conclude(&report, options)
}

fn measure(laboratory: &mut Laboratory, tasks: &[Task]) -> Result<Vec<Rounds>, AnyError> {
    let mut measured = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        println!("{}/{}: {}", number + 1, tasks.len(), task.cell);
        measured.push(Rounds::run(laboratory, task)?);
    }
    Ok(measured)
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
    if missed > 0 { Err(format!("{missed} targets are missed").into()) } else { Ok(()) }
}
