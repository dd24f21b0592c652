//! tinkex-future
