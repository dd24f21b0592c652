//! Which core a process runs on: server and contender must not take time from each other.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The cores of server and contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pinning {
    contender: usize,
    server: usize,
}

/// Who is to be pinned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Party {
    Contender,
    Server,
}

impl Pinning {
    /// The first two cores that this process may use; none where there is one only, or no `taskset`.
    pub(crate) fn find() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let [contender, server] = *cores(list).first_chunk()?;
        Command::new("taskset").arg("--version").output().ok()?;
        Some(Self { contender, server })
    }

    /// What is done, for the report.
    pub(crate) fn description(pinning: Option<Self>) -> String {
        match pinning {
            Some(Self { contender, server }) => {
                format!("the contender is pinned to core {contender}, the server to core {server} (taskset)")
            }
            None => "nothing is pinned to a core: there is one only, or no `taskset`".to_owned(),
        }
    }

    /// A command for a program, pinned where that is possible.
    pub(crate) fn command(pinning: Option<Self>, party: Party, program: impl Into<PathBuf>) -> Command {
        let program = program.into();
        let Some(Self { contender, server }) = pinning else {
            return Command::new(program);
        };
        let core = match party {
            Party::Contender => contender,
            Party::Server => server,
        };
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).arg(program);
        command
    }
}

/// The numbers of a list such as `0-2,5`.
fn cores(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(cores("\t0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cores("7"), [7]);
        assert_eq!(cores(""), Vec::<usize>::new());
    }

    #[test]
    fn a_pinned_program_runs_under_taskset_on_its_own_core() {
        let pinning = Some(Pinning { contender: 0, server: 1 });
        let command = Pinning::command(pinning, Party::Server, "program");
        assert_eq!(format!("{command:?}"), r#""taskset" "-c" "1" "program""#);
        let command = Pinning::command(None, Party::Server, "program");
        assert_eq!(format!("{command:?}"), r#""program""#);
    }
}
