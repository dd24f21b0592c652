//! Every fault of the matrix, against every kind of call: what the caller sees, and within what time.
//!
//! A row plays one fault twice in virtual time: once it passes, and once it lasts. What is then seen (the kind of the
//! error, its words, the time, the attempts, the log) is compared with the row's line in `docs/reliability.md`, so the
//! document cannot say what does not hold. Only the bounds of the time are written by hand, in the rows. After a fault
//! that lasted the same client must work again.
//!
//! `TINKEX_BLESS=1 cargo test -p tinkex-client --test it reliability` writes the document.

mod batches;
mod clocks;
mod connecting;
mod document;
mod faults;
mod heartbeats;
mod rest_calls;
mod sample_polls;
mod sample_submissions;
mod seen;
mod sockets;
mod stage;
mod table;
mod tokens;
mod training_polls;
mod training_submissions;

use table::Table;

/// All tables, in the order of the document.
fn tables() -> Vec<Table> {
    vec![
        sockets::table(),
        connecting::table(),
        sample_submissions::table(),
        sample_polls::table(),
        training_submissions::table(),
        batches::table(),
        training_polls::table(),
        rest_calls::table(),
        heartbeats::table(),
        tokens::table(),
        clocks::table(),
    ]
}
