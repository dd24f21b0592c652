//! The table of requests in flight: every row from its start to its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tinkex_types::RequestType;
use tokio::time::Instant;

use super::{Inflight, Row};

/// Rows by number, in shards, so that starting and ending a request holds a lock for a few instructions only.
#[derive(Debug, Default)]
pub(crate) struct InflightTable {
    next: AtomicU64,
    shards: [Mutex<HashMap<u64, Arc<Row>>>; 16],
}

impl InflightTable {
    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Row>>> {
        &self.shards[number as usize % self.shards.len()]
    }

    /// Adds a row; it leaves the table when the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, kind: RequestType, client_id: Arc<str>) -> InflightEntry {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let row = Arc::new(Row::new(number, kind, client_id));
        self.shard(number).lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&row));
        InflightEntry { table: Arc::clone(self), row }
    }

    /// How many requests of a client wait for their place. The client is known by its very id, not by what it says.
    pub(crate) fn queued(&self, client_id: &Arc<str>) -> usize {
        let mut queued = 0;
        self.each_of(client_id, |row| queued += usize::from(!row.is_running()));
        queued
    }

    /// Gives up every request of a client that has its place, and says how many there were.
    pub(crate) fn give_up_running(&self, client_id: &Arc<str>) -> usize {
        let mut running = Vec::new();
        self.each_of(client_id, |row| {
            if row.is_running() {
                running.push(Arc::clone(row));
            }
        });
        for row in &running {
            row.give_up();
        }
        running.len()
    }

    fn each_of(&self, client_id: &Arc<str>, mut visit: impl FnMut(&Arc<Row>)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().filter(|row| Arc::ptr_eq(&row.client_id, client_id)).for_each(&mut visit);
        }
    }

    /// All rows, as they are now.
    pub(crate) fn snapshot(&self) -> Inflight {
        let now = Instant::now();
        let rows = self.shards.iter().flat_map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().map(|row| row.snapshot(now)).collect::<Vec<_>>()
        });
        Inflight::new(rows.collect())
    }
}

/// Keeps a row in the table.
#[derive(Debug)]
pub(crate) struct InflightEntry {
    table: Arc<InflightTable>,
    row: Arc<Row>,
}

impl InflightEntry {
    pub(crate) fn row(&self) -> &Arc<Row> {
        &self.row
    }

    /// The request is about to end like this, for the metrics; one that is dropped without a word was abandoned.
    pub(crate) fn ends(&self, outcome: &'static str) {
        self.row.ends(outcome);
    }

    /// The request is about to end with this result.
    pub(crate) fn ends_with<T, E>(&self, result: &Result<T, E>) {
        self.ends(if result.is_ok() { "ok" } else { "failed" });
    }
}

impl Drop for InflightEntry {
    fn drop(&mut self) {
        let number = self.row.number;
        self.table.shard(number).lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.row.end();
    }
}
