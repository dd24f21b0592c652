//! The losses that a session knows: each is created once (PROTOCOL 13.3).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tinkex_types::InvalidInput;
use tinkex_types::custom_loss::CustomLoss;

use crate::sampling::SequenceIds;

/// The custom losses of a session.
#[derive(Debug)]
pub(crate) struct CustomLosses {
    keys: Mutex<HashSet<String>>,
    /// Numbers of uploads.
    pub(super) numbers: SequenceIds,
}

impl Default for CustomLosses {
    fn default() -> Self {
        Self { keys: Mutex::default(), numbers: SequenceIds::starting_at(0) }
    }
}

impl CustomLosses {
    /// Enters a loss, for as long as the entry lives or for good.
    ///
    /// # Errors
    /// Where it is known already.
    pub(super) fn enter(&self, loss: &CustomLoss) -> Result<Entry<'_>, InvalidInput> {
        let key = loss.key();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.insert(key.clone()) {
            return Ok(Entry { losses: self, key: Some(key) });
        }
        let problem = format!(
            "`{}` was created in this session before, under this or another name; use the handle that came of it",
            loss.name()
        );
        Err(InvalidInput::new("custom loss", problem))
    }
}

/// A loss that is being created. Dropped, it is forgotten, so that it can be created again.
pub(super) struct Entry<'a> {
    losses: &'a CustomLosses,
    key: Option<String>,
}

impl Entry<'_> {
    /// The loss exists.
    pub(super) fn keep(mut self) {
        self.key = None;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.losses.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}
