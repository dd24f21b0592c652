//! Scripts: steps for a route, consumed in order of arrival.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::engine::Core;
use crate::route::RoutePattern;
use crate::{Received, Reply, Step};

pub(crate) type Predicate = Arc<dyn Fn(&Received) -> bool + Send + Sync>;

/// What happens when the steps are used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The test fails.
    #[default]
    Fail,
    /// The behaviour answers.
    Behave,
    /// The last step goes on for ever.
    RepeatLast,
}

/// The steps of one script and how far they have got.
pub(crate) struct Lines {
    pub(crate) route: RoutePattern,
    pub(crate) predicate: Option<Predicate>,
    steps: VecDeque<(Arc<Step>, usize)>,
    last: Option<Arc<Step>>,
    total: usize,
    calls: usize,
    ending: Ending,
}

impl Lines {
    pub(crate) fn new(
        route: RoutePattern,
        predicate: Option<Predicate>,
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let numbered = |step: Step| {
            let times = step.times();
            (Arc::new(step), times)
        };
        let steps: VecDeque<_> = steps.into_iter().filter(|step| step.times() > 0).map(numbered).collect();
        let last = steps.back().map(|(step, _)| Arc::clone(step));
        let total = steps.iter().map(|(_, n)| n).sum();
        Self { route, predicate, steps, last, total, calls: 0, ending: Ending::default() }
    }

    /// The next step, if one is left.
    pub(crate) fn take(&mut self) -> Option<Arc<Step>> {
        let step = match self.steps.front_mut() {
            Some((step, left)) => {
                let step = Arc::clone(step);
                *left -= 1;
                if *left == 0 {
                    self.steps.pop_front();
                }
                step
            }
            None if self.ending == Ending::RepeatLast => self.last.clone()?,
            None => return None,
        };
        self.calls += 1;
        Some(step)
    }

    pub(crate) fn remaining(&self) -> usize {
        self.steps.iter().map(|(_, n)| n).sum()
    }

    pub(crate) fn end_with(&mut self, ending: Ending) {
        self.ending = ending;
    }

    pub(crate) fn ending(&self) -> Ending {
        self.ending
    }

    /// What is left over, in words.
    pub(crate) fn leftover(&self) -> Option<String> {
        let remaining = self.remaining();
        (remaining > 0).then(|| {
            format!("script for {}: {remaining} of {} steps not consumed", self.route.as_str(), self.total)
        })
    }

    /// The violation and the answer for a request that finds the script used up.
    pub(crate) fn exhausted(&self) -> (String, Reply) {
        let text = format!("script for {} exhausted after {} steps", self.route.as_str(), self.calls);
        let reply = Reply::detail(418, text.clone()).header("x-should-retry", "false");
        (text, reply)
    }
}

/// A handle on a script: says what happens after its steps, and tells how far it has got.
#[derive(Clone)]
pub struct Script {
    core: Arc<Core>,
    id: usize,
}

impl Script {
    pub(crate) fn new(core: Arc<Core>, id: usize) -> Self {
        Self { core, id }
    }

    /// After the steps the server's [`Behaviour`](crate::Behaviour) answers.
    pub fn then_behave(&self) -> Self {
        self.set(Ending::Behave)
    }

    /// After the steps the last one goes on for ever.
    pub fn then_repeat_last(&self) -> Self {
        self.set(Ending::RepeatLast)
    }

    /// After the steps any further request fails the test. This is the default.
    pub fn then_fail(&self) -> Self {
        self.set(Ending::Fail)
    }

    /// How many requests this script has answered.
    pub fn calls(&self) -> usize {
        self.core.with_lines(self.id, |lines| lines.calls).unwrap_or_default()
    }

    /// How many of its steps are left.
    pub fn remaining(&self) -> usize {
        self.core.with_lines(self.id, |lines| lines.remaining()).unwrap_or_default()
    }

    fn set(&self, ending: Ending) -> Self {
        self.core.with_lines(self.id, |lines| lines.end_with(ending));
        self.clone()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("calls", &self.calls()).field("remaining", &self.remaining()).finish()
    }
}
