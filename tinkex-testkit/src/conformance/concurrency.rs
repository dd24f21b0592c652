//! Concurrency: no call waits for another.

use futures_util::future::join_all;

use super::rig::{Outcome, Reach, told};
use crate::{Gate, Step};

/// How many calls go on at one time.
const MANY: usize = 200;

pub(super) async fn many_at_once(reach: &Reach<'_>) -> Outcome {
    let gate = Gate::new();
    let rig = reach.rig([Step::hang(), Step::status(200).gate(&gate).repeat(MANY)]).await?;
    let requests = (0..MANY).map(|_| rig.request()).collect::<Result<Vec<_>, _>>()?;
    let gated = async {
        rig.server.wait_for("x", 1).await;
        let calls = join_all(requests.into_iter().map(|request| rig.exchange(request)));
        let opening = async {
            gate.arrived(MANY).await;
            gate.open();
        };
        futures_util::future::join(calls, opening).await.0
    };
    // The one that hangs is there before the others, and to the end.
    let results = tokio::select! {
        hung = rig.exchange(rig.request()?) => {
            return Err(format!("a call without an answer came back: {:?}", hung.map(|r| r.status())));
        }
        results = gated => results,
    };
    for result in results {
        result.map_err(told)?;
    }
    rig.end(Ok(()))
}
